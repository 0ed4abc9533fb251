"""Measures where the time of a run goes, in seconds per phase of a step.

"other" is the time outside all other phases: weight transfer, metrics, checkpoints. A phase within
another counts as the outer one: generation during evaluation is "evaluate".
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

PHASES = {
    "generate": "generate",
    "environment": "environment",
    "score": "score",
    "backward": "forward and backward",
    "optimizer": "optimiser",
    "evaluate": "evaluate",
    "other": "everything else",
}
"""Phases and their display names."""


class Stopwatch:
    """Adds up the seconds of each phase.

    Args:
        device: of the model; a GPU is synchronised at the end of each phase.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._synchronizes = torch.device(device).type == "cuda"
        self._is_running = False
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body of a `with` statement as one of `PHASES`."""
        if self._is_running:
            yield
            return
        self._is_running, started = True, time.perf_counter()
        try:
            yield
            if self._synchronizes:
                torch.cuda.synchronize()
        finally:
            self._is_running = False
            self._seconds[name] += time.perf_counter() - started

    def lap(self) -> dict[str, float]:
        """Return the seconds of each phase since the last lap, "other" included, and restart."""
        now = time.perf_counter()
        seconds, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        seconds["other"] = max(0.0, now - self._last - sum(seconds.values()))
        self._last = now
        return seconds


def time_metrics(seconds: Mapping[str, float]) -> dict[str, float]:
    """Convert a lap to metrics."""
    return {f"time/{name}_s": value for name, value in seconds.items()}


def profile(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compute the share of time that each phase took in the steps of a run.

    Args:
        lines: the metrics of each step; lines of older versions, without phases, are ignored.

    Returns:
        Shares by the names of `PHASES`, which add up to 1; empty if no time was measured.
    """
    known = [line for line in lines if "time/other_s" in line]
    seconds = {name: sum(line[f"time/{name}_s"] for line in known) for name in PHASES}
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()} if total else {}
