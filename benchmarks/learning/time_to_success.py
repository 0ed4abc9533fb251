"""Compares how fast runs of two versions reach the same success, seed by seed.

    python benchmarks/learning/time_to_success.py --before RUN ... --after RUN ... [--note TEXT]

The folders are finished runs of `sesa-agent train`, in the same order of seeds; both runs of a seed
should have run on the same machine at the same time. A run reaches a success rate when the mean of
`AT_ONCE` consecutive evaluations does, in minutes including evaluations. Writes
`results/time_to_success.json`.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sesa_agent.commands.train import RESULT_FILE
from sesa_agent.training.run_log import read_metrics
from sesa_agent.training.stopwatch import profile

RESULTS = Path(__file__).parents[2] / "results" / "time_to_success.json"
AT_ONCE = 3
LEVELS = (0.3, 0.4, 0.5)


def curve(folder: Path) -> list[tuple[float, float]]:
    """Minutes and success of the evaluations, as means of `AT_ONCE` consecutive ones."""
    lines = [line for line in read_metrics(folder) if "eval/success_rate" in line]
    rates = [line["eval/success_rate"] for line in lines]
    means = [statistics.mean(rates[n - AT_ONCE : n]) for n in range(AT_ONCE, len(rates) + 1)]
    minutes = [line["time_s"] / 60 for line in lines]
    return list(zip(minutes[AT_ONCE - 1 :], means, strict=True))


def minutes_to(success: float, points: list[tuple[float, float]]) -> float | None:
    """When a curve first reaches a success rate; None if it never does.

    >>> minutes_to(0.4, [(1.0, 0.2), (2.0, 0.4), (3.0, 0.3), (4.0, 0.5)])
    2.0
    """
    return next((minutes for minutes, rate in points if rate >= success), None)


def describe(folder: Path) -> dict[str, Any]:
    """Held-out success of a run, its minutes in total and to each level."""
    points, trained = curve(folder), json.loads((folder / RESULT_FILE).read_text())["trained"]
    return {
        "success": trained["success_rate"],
        "interval": [trained["low"], trained["high"]],
        "minutes": read_metrics(folder)[-1]["time_s"] / 60,
        "minutes_to": {str(level): minutes_to(level, points) for level in LEVELS},
        "profile": {name: round(share, 3) for name, share in profile(read_metrics(folder)).items()},
        "curve": points,
    }


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float | None]:
    """The speed-up of the second run to each level, and to the best success of the first."""
    best = max(rate for _, rate in before["curve"])
    levels = {str(level): level for level in LEVELS} | {"best of before": best}
    ratios: dict[str, float | None] = {}
    for name, level in levels.items():
        old, new = (minutes_to(level, run["curve"]) for run in (before, after))
        ratios[name] = old / new if old and new else None
    return ratios


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--before", type=Path, nargs="+", required=True)
    parser.add_argument("--after", type=Path, nargs="+", required=True)
    parser.add_argument("--note", default="", help="the versions and the machine")
    args = parser.parse_args()
    table = Table("seed", "success before", "after", "minutes", "after", "sooner at", "times")
    pairs = []
    for seed, (old, new) in enumerate(zip(args.before, args.after, strict=True)):
        before, after = describe(old), describe(new)
        ratios = compare(before, after)
        pairs.append({"before": before, "after": after, "sooner": ratios})
        cells = (f"{run['success']:.3f}" for run in (before, after))
        minutes = (f"{run['minutes']:.1f}" for run in (before, after))
        times = (f"{ratio:.2f}" if ratio else "never" for ratio in ratios.values())
        table.add_row(str(seed), *cells, *minutes, "\n".join(ratios), "\n".join(times))
    Console().print(table)
    RESULTS.write_text(json.dumps({"note": args.note, "pairs": pairs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
