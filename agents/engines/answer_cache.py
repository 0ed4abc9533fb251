"""On-disk response cache; interrupted evaluations resume without paying again.

Each line holds an answer and its key, a digest of the endpoint, the whole request and the seed of
the evaluation. Several attempts at a puzzle send the same request and must stay independent
samples, so the key also counts how often the request was made.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...configs.json_text import read_json
from ...configs.writing import writing
from .chat_endpoint import Answer


class AnswerCache:
    """The answers of one evaluation.

    Args:
        path: the file, created with the first answer; None to keep answers only in memory.
        origin: what else an answer depends on, as JSON values: the endpoint, the seed.
    """

    def __init__(self, path: Path | None, *origin: Any):
        self.path, self.origin = path, origin
        self.answers: dict[str, Answer] = {}
        """Answers by their key."""
        self._num_asked: Counter[str] = Counter()
        for line in path.read_bytes().splitlines() if path and path.exists() else []:
            try:
                values = read_json(line)
                key = values.pop("key")
                self.answers[key] = Answer(**values)
            except (ValueError, TypeError, LookupError, AttributeError):
                continue  # the line was cut off by a crash; its request is sent again

    def key(self, body: dict[str, Any]) -> str:
        """Return the key of a request; it differs each time the same request is made."""
        asked = json.dumps([*self.origin, body], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:32]
        self._num_asked[digest] += 1
        return f"{digest}-{self._num_asked[digest]}"

    def add(self, key: str, answer: Answer) -> None:
        """Store an answer.

        Raises:
            DiskError: if the file could not be written.
        """
        self.answers[key] = answer
        if self.path is None:
            return
        line = json.dumps({"key": key, **asdict(answer)})
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}")  # line end first, because the file may end in half a line
