"""Where the time of a run goes: seconds of the phases of its steps.

The phases are those of `PHASES`; "other" is what is in none of them: weights, metrics, checkpoints.
A phase within another counts as the outer one: the responses of an evaluation are "evaluate".
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
"""What each phase is called in words."""


class Stopwatch:
    """Adds up the seconds of phases.

    Args:
        device: of the model; where it works on its own, as a GPU does, it is waited for at the end
            of a phase.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._waits = torch.device(device).type == "cuda"
        self._is_running = False
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done inside as one of `PHASES`."""
        if self._is_running:
            yield
            return
        self._is_running, started = True, time.perf_counter()
        try:
            yield
            if self._waits:
                torch.cuda.synchronize()
        finally:
            self._is_running = False
            self._seconds[name] += time.perf_counter() - started

    def lap(self) -> dict[str, float]:
        """Seconds of each phase since the last lap, "other" included, and begin anew."""
        now = time.perf_counter()
        seconds, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        seconds["other"] = max(0.0, now - self._last - sum(seconds.values()))
        self._last = now
        return seconds


def time_metrics(seconds: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a lap."""
    return {f"time/{name}_s": value for name, value in seconds.items()}


def profile(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of the time that each phase took in the steps of a run.

    Args:
        lines: the metrics of each step; lines of older versions, without phases, are left out.

    Returns:
        Shares by the names of `PHASES`, which add up to 1; empty if there is nothing to share.
    """
    known = [line for line in lines if "time/other_s" in line]
    seconds = {name: sum(line[f"time/{name}_s"] for line in known) for name in PHASES}
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()} if total else {}
