"""Answers that were paid for, in a file: an evaluation that stopped goes on without asking again.

A line holds one answer and the digest of what was asked: the endpoint, the whole request, the seed
of the evaluation. Several attempts at a puzzle ask the same and must stay independent draws, so the
n-th request of a kind has a key of its own.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .chat_endpoint import Answer


class AnswerCache:
    """The answers of one evaluation.

    Args:
        path: the file, which appears with the first answer; None to keep them in memory alone.
        origin: what else an answer depends on, as JSON values: the endpoint, the seed.
    """

    def __init__(self, path: Path | None, *origin: Any):
        self.path, self.origin = path, origin
        self.answers: dict[str, Answer] = {}
        """By their key."""
        self._num_asked: Counter[str] = Counter()
        for line in path.read_bytes().splitlines() if path and path.exists() else []:
            try:
                values = json.loads(line)
                key = values.pop("key")
                self.answers[key] = Answer(**values)
            except (ValueError, TypeError, LookupError, AttributeError):
                continue  # cut off by a crash: asked again

    def key(self, body: dict[str, Any]) -> str:
        """The key of a request; another one every time."""
        asked = json.dumps([*self.origin, body], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:32]
        self._num_asked[digest] += 1
        return f"{digest}-{self._num_asked[digest]}"

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer."""
        self.answers[key] = answer
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, **asdict(answer)})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}")  # the line end first: what stands there may be half a line
