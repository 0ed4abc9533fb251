"""Finds the learning rate of every arm of an experiment, on validation puzzles.

    python benchmarks/tune.py sudoku

The arms are those of `sesa-agent reproduce` (`evaluation/paper.py`), each at every learning rate,
with a seed that no reported run has. What is best (by the first number of the table) stands in
`configs/`. Interrupted, it goes on where it stopped; what is finished is not run again.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console
from rich.table import Table

from sesa_agent.evaluation.experiment import Arm
from sesa_agent.evaluation.paper import EXPERIMENTS, experiment_arms
from sesa_agent.evaluation.run_arms import run_arms
from sesa_agent.screen import show_number

TUNING_SEED = 100


def tuning_arms(name: str, rates: list[str], calls: int) -> dict[Arm, str]:
    """Every trained arm of an experiment at every learning rate."""
    arms = {}
    for arm in experiment_arms(name, [TUNING_SEED]):
        if not arm.is_trained or arm.start_from:
            continue
        how = tuple(replace(m, split="validation") for m in arm.measurements)
        for rate in rates:
            words = (*arm.common, f"optim.max_policy_calls={calls}", f"optim.lr={rate}")
            arms[replace(arm, common=words, measurements=how)] = rate
    return arms


def main() -> None:
    """Run the arms; write the JSON file and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--calls", type=int, default=5000, help="policy calls of every run")
    parser.add_argument("--learning-rates", nargs="+", default=["3e-5", "1e-4", "3e-4", "1e-3"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/tune"))
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    arms = tuning_arms(args.experiment, args.learning_rates, args.calls)
    results = run_arms(list(arms), args.runs / args.experiment, args.jobs)
    metrics = EXPERIMENTS[args.experiment].metrics
    shown = Table(title=f"{args.experiment}: {args.calls} policy calls, validation puzzles")
    for column in ("env", "arm", "learning rate", *(metric.name for metric in metrics)):
        shown.add_column(column)
    rows: list[dict[str, Any]] = []
    for arm, rate in arms.items():
        values = {metric.name: metric.value(results[arm]) for metric in metrics}
        rows.append({"env": arm.env, "arm": arm.label, "learning_rate": rate, **values})
        shown.add_row(arm.env, arm.label, rate, *map(show_number, values.values()))
    output = args.output or Path(f"results/{args.experiment}-tuning.json")
    found = {"policy_calls": args.calls, "seed": TUNING_SEED, "split": "validation", "rows": rows}
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    Console().print(shown)


if __name__ == "__main__":
    main()
