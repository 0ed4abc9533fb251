"""The log of a run: metrics as JSON lines and TensorBoard events, warnings, and sample trees.

    <run>/metrics.jsonl         {"step": 3, "time_s": 12.5, "success": 0.25, ...} per line
    <run>/tensorboard/          the same numbers as events; `tensorboard --logdir <run>` shows them
    <run>/trees/step-000003.json
    <run>/events.jsonl          {"step": 40, "kind": "entropy", "text": "The policy's ..."}, if any

After a resume the lines equal those of an uninterrupted run, except for `time_s`.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from ..configs.writing import replace_text, writing
from ..sampling.trajectory import TrajectoryTree
from .event_file import EventFile


class Logger(Protocol):
    """Another destination for the metrics of a run."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the finite metrics of a step."""
        ...

    def close(self) -> None:
        """Finish; called after the last `write`."""
        ...


class RunLog:
    """The log of one run. A context manager: leaving it closes the files.

    Args:
        folder: the run folder; created if needed.
        resume_step: first step to run again; entries of this and later steps are dropped. None
            starts a new log and replaces an old one.
        loggers: receive the same metrics and are closed with the log.

    Raises:
        DiskError: here or in any method, if a file could not be written.
    """

    def __init__(
        self, folder: Path, resume_step: int | None = None, loggers: Sequence[Logger] = ()
    ):
        self.folder = folder
        self._loggers = loggers
        self._path = path = folder / "metrics.jsonl"
        kept = _keep_before(path, resume_step)
        if (folder / "events.jsonl").exists():
            _keep_before(folder / "events.jsonl", resume_step)
        self._start = time.monotonic() - (kept[-1]["time_s"] if kept else 0.0)
        with writing(path):
            self._file = path.open("a", encoding="utf-8")
        self._events = EventFile(folder / "tensorboard", resume_step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files, each of them even if another one cannot be written any more."""
        with ExitStack() as stack:
            for logger in self._loggers:
                stack.callback(logger.close)
            stack.callback(self._events.close)
            stack.enter_context(writing(self._path))
            stack.callback(self._file.close)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line of metrics and flush it to the operating system.

        Args:
            step: number of the step.
            metrics: numbers by name; non-finite ones are written as null.
        """
        values = {name: _json_number(value) for name, value in metrics.items()}
        line = {"step": step, "time_s": round(time.monotonic() - self._start, 3), **values}
        with writing(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        finite = {name: value for name, value in values.items() if value is not None}
        for name, value in finite.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()
        for logger in self._loggers:
            logger.write(step, finite)

    def write_event(self, step: int, kind: str, text: str) -> None:
        """Append a message, such as a warning.

        Args:
            step: the step it is about.
            kind: its kind, such as "entropy".
            text: a sentence or two.
        """
        line = {"step": step, "kind": kind, "text": text}
        path = self.folder / "events.jsonl"
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._events.add_text(f"event/{kind}", text, step)
        self._events.flush()

    def write_trees(self, step: int, trees: Iterable[TrajectoryTree]) -> None:
        """Write sample trees as one JSON list, `TrajectoryTree.to_json` each."""
        path = self.folder / "trees" / f"step-{step:06d}.json"
        values = [tree.to_json() for tree in trees]
        replace_text(path, json.dumps(values, ensure_ascii=False) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the metric lines of a run in order; empty if there is no log."""
    return _lines_before(folder / "metrics.jsonl", math.inf)


def _json_number(value: Any) -> int | float | None:
    """A plain number from Python, numpy or torch; None for NaN and infinity, which JSON lacks."""
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _keep_before(path: Path, step: int | None) -> list[dict[str, Any]]:
    """Keep only the lines of steps before `step` (none if None) in a file, and return them."""
    kept = [] if step is None else _lines_before(path, step)
    replace_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    return kept


def _lines_before(path: Path, step: float) -> list[dict[str, Any]]:
    """Read the lines of earlier steps; a half-written last line (after a kill) is ignored."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if line["step"] < step:
            lines.append(line)
    return lines
