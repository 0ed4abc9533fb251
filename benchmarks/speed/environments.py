"""Speed of the environments against other packages: step with text, fork, new puzzle, score.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/speed/environments.py [--quick]

A figure is the median over rounds in calls per CPU second (`contest.py`), a ratio is the ratio of
two medians. Our environments are made by `gymnasium.make`, with text in and text out. Each contest
documents what both sides do and how they differ (`play_contests.py`, `puzzle_contests.py`).
Contests whose peer is not installed are left out; `results/environments.json` is only written if
none is.
"""

import argparse
from pathlib import Path

import play_contests
import puzzle_contests
from contest import Result, run, show, write_report
from rich.console import Console

CONTESTS = play_contests.CONTESTS + puzzle_contests.CONTESTS
PACKAGES = ("gymnasium", "numpy", "textarena", "gem-llm", "reasoning-gym", "gym-sokoban", "gym")
INSTALL = "To install the peers: pip install -c constraints.txt -e '.[bench]'"
RESULTS = Path(__file__).parents[2] / "results" / "environments.json"


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, no file")
    quick = parser.parse_args().quick
    rounds = {"num_rounds": 1, "seconds": 0.05} if quick else {"num_rounds": 7, "seconds": 0.5}
    console, results = Console(), list[Result]()
    for make in CONTESTS:
        try:
            contest = make()
        except ModuleNotFoundError as error:
            line = f"Left out: {make.__name__} ({error}). {INSTALL}"
            console.print(line, markup=False, soft_wrap=True)
        else:
            results.append(run(contest, **rounds))
    console.print(show(results))
    if not quick and len(results) == len(CONTESTS):
        write_report(RESULTS, results, PACKAGES, **rounds)


if __name__ == "__main__":
    main()
