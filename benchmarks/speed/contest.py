"""Shared by the benchmarks against other packages: alternating measurements, a table, a file.

Both sides run in one process, alternating for several rounds, so that a slow phase of the machine
affects both. Times are CPU seconds of the process.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

Call = Callable[[], Any]


@dataclass(frozen=True)
class Contest:
    """Two calls that do the same thing."""

    name: str
    ours: Call
    peer_name: str
    peer: Call
    target: float = 1
    """Minimum ratio of our speed to the peer's."""


@dataclass(frozen=True)
class Result:
    """Speeds in calls per CPU second, medians and all rounds."""

    name: str
    peer: str
    ours_per_s: float
    peer_per_s: float
    ratio: float
    target: float
    ours_rounds: list[float]
    peer_rounds: list[float]


def calls_per_cpu_second(call: Call, seconds: float) -> float:
    """Call for so many CPU seconds and return the speed; a slow call is not interrupted."""
    count, batch, elapsed, start = 0, 1, 0.0, time.process_time()
    while elapsed < seconds:
        for _ in range(batch):
            call()
        count += batch
        elapsed = time.process_time() - start
        if elapsed < seconds / 50:  # read the clock less often for fast calls
            batch *= 2
    return count / elapsed


def run(contest: Contest, num_rounds: int, seconds: float) -> Result:
    """Measure both sides alternately."""
    ours, peer = take_turns(
        lambda: calls_per_cpu_second(contest.ours, seconds),
        lambda: calls_per_cpu_second(contest.peer, seconds),
        num_rounds,
    )
    ours_median, peer_median = statistics.median(ours), statistics.median(peer)
    ratio = ours_median / peer_median
    names = contest.name, contest.peer_name
    return Result(*names, ours_median, peer_median, ratio, contest.target, ours, peer)


def take_turns(
    ours: Callable[[], float], peer: Callable[[], float], num_rounds: int
) -> tuple[list[float], list[float]]:
    """Measure both sides alternately and return the results of all rounds."""
    rounds = [(ours(), peer()) for _ in range(num_rounds)]
    return [own for own, _ in rounds], [other for _, other in rounds]


def show(results: Sequence[Result]) -> Table:
    """A table of the speeds."""
    table = Table("what", "ours /CPU-s", "peer", "peer /CPU-s", "ratio", "wanted")
    for result in results:
        speeds = f"{result.ours_per_s:,.0f}", f"{result.peer_per_s:,.0f}"
        ratio = coloured_ratio(result.ratio, result.target, ".1f")
        table.add_row(result.name, speeds[0], result.peer, speeds[1], ratio, f"{result.target:g}x")
    return table


def coloured_ratio(ratio: float, target: float, digits: str) -> str:
    """A ratio, green if it reaches its target, otherwise red."""
    colour = "green" if ratio >= target else "red"
    return f"[{colour}]{ratio:{digits}}x[/]"


def write_report(
    path: Path, results: Sequence[Any], packages: Sequence[str], **setting: Any
) -> None:
    """Write results (dataclasses) with the versions and settings of the measurement."""
    versions = {name: version(name) for name in packages}
    setting = {"python": platform.python_version(), **versions, **setting}
    report = {"setting": setting, "results": [asdict(result) for result in results]}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
