"""The log of a run: metrics as JSON lines and TensorBoard events, warnings, and sample trees.

    <run>/metrics.jsonl         {"step": 3, "time_s": 12.5, "success": 0.25, ...} per line
    <run>/tensorboard/          the same numbers as events; `tensorboard --logdir <run>` shows them
    <run>/trees/step-000003.json
    <run>/events.jsonl          {"step": 40, "kind": "entropy", "text": "The policy's ..."}, if any

After a resume the lines equal those of an uninterrupted run, except for `time_s`. Damaged lines are
left out by whoever reads a log; before a file with such lines is written anew, it is copied.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from ..configs.json_text import read_json
from ..configs.writing import replace_text, writing
from ..sampling.trajectory import TrajectoryTree
from .event_file import EventFile

METRICS_FILE = "metrics.jsonl"
EVENTS_FILE = "events.jsonl"

log = logging.getLogger(__name__)


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
        resume_step: first step to run again; entries of this and later steps are dropped, since
            they come again. None or 0 starts a new log, and an old one is kept as a copy.
        loggers: receive the same metrics and are closed with the log.

    Raises:
        DiskError: here or in any method, if a file could not be written.
    """

    def __init__(
        self, folder: Path, resume_step: int | None = None, loggers: Sequence[Logger] = ()
    ):
        self.folder = folder
        self._loggers = loggers
        self._path = path = folder / METRICS_FILE
        kept = _keep_before(path, resume_step or 0)
        if (folder / EVENTS_FILE).exists():
            _keep_before(folder / EVENTS_FILE, resume_step or 0)
        self._start = time.monotonic() - (kept[-1].get("time_s") or 0.0 if kept else 0.0)
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
        path = self.folder / EVENTS_FILE
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
    """Return the metric lines of a run in order; empty if there is no log.

    Damaged lines are left out with one warning.
    """
    return _read_with_warning(folder / METRICS_FILE)


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a run in order, each with `step`, `kind` and `text`.

    Damaged lines are left out with one warning.
    """
    return _read_with_warning(folder / EVENTS_FILE)


def _json_number(value: Any) -> int | float | None:
    """A plain number from Python, numpy or torch; None for NaN and infinity, which JSON lacks."""
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _keep_before(path: Path, step: int) -> list[dict[str, Any]]:
    """Keep only the lines of steps before `step` in a file, and return them.

    What would be lost, because it is damaged or does not belong to this run, is copied first.
    """
    lines, num_damaged = _read_lines(path)
    kept = [line for line in lines if line["step"] < step]
    reason = f"has damaged lines ({num_damaged})" if num_damaged else ""
    if lines and not step:
        reason = "is of steps that no checkpoint is left of"
    if reason:
        log.warning(f"{path} {reason}; a copy is kept as {_back_up(path).name}.")
    replace_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    return kept


def _back_up(path: Path) -> Path:
    """Copy a file to a new name beside it, and return the copy."""
    copy, number = path.with_name(f"{path.name}.bak"), 1
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.bak-{number}")
    with writing(copy):
        shutil.copyfile(path, copy)
    return copy


def _read_with_warning(path: Path) -> list[dict[str, Any]]:
    lines, num_damaged = _read_lines(path)
    if num_damaged:
        log.warning(f"{path} has damaged lines, which are left out: {num_damaged}.")
    return lines


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read a log; returns its lines and the number of damaged ones.

    A last line that was being written, by a run in progress or at a kill, is not damaged.
    """
    lines, num_damaged = [], 0
    is_right = _is_metrics if path.name == METRICS_FILE else _is_event
    texts = path.read_bytes().split(b"\n") if path.exists() else []
    for place, text in enumerate(texts):
        try:
            line = read_json(text)
        except ValueError:
            line = None
        if is_right(line):
            lines.append(line)
        elif place < len(texts) - 1:  # the last text has no line break
            num_damaged += 1
    return lines, num_damaged


def _is_metrics(line: Any) -> bool:
    """Whether this is the step's number, and numbers by name; null stands for NaN."""
    return _has_step(line) and all(isinstance(value, int | float | None) for value in line.values())


def _is_event(line: Any) -> bool:
    return _has_step(line) and all(isinstance(line.get(name), str) for name in ("kind", "text"))


def _has_step(line: Any) -> bool:
    return isinstance(line, dict) and type(line.get("step")) is int and line["step"] >= 0
