"""Tunes the learning rate of every arm of an experiment, on validation puzzles.

    python benchmarks/learning/tune.py sudoku
    python benchmarks/learning/tune.py agents --env countdown --arms ragen --variants \
        loss.filter_ratio=1.0

The arms are those of `sesa-agent reproduce` (`evaluation/experiments/paper.py`), each with every
learning rate and every variant of its settings, and with a seed that no reported run has. The best
values (by the first number of the table) are in `configs/`. Rows are added to the existing file. An
interrupted run resumes; finished arms are not run again.
"""

import argparse
import itertools
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console
from rich.table import Table

from sesa_agent.evaluation.experiments.arms import Arm
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS, experiment_arms
from sesa_agent.evaluation.experiments.runner import run_arms
from sesa_agent.screen import show_number

TUNING_SEED = 100


def tuning_arms(args: argparse.Namespace) -> dict[Arm, dict[str, Any]]:
    """Every trained arm with every learning rate and variant, and the first entries of its row."""
    arms = {}
    for arm in experiment_arms(args.experiment, [TUNING_SEED]):
        is_wanted = arm.env == (args.env or arm.env) and arm.label in (args.arms or [arm.label])
        if not arm.is_trained or arm.start_from or not is_wanted:
            continue
        how = tuple(replace(m, split="validation") for m in arm.measurements)
        for rate, variant in itertools.product(args.learning_rates, args.variants or [""]):
            words = (*arm.common, f"optim.max_policy_calls={args.calls}", f"optim.lr={rate}")
            words = (*words, *filter(None, variant.split(",")))
            head = {"env": arm.env, "arm": arm.label, "learning_rate": rate, "settings": variant}
            head["policy_calls"] = args.calls
            arms[replace(arm, common=words, measurements=how)] = head
    return arms


def main() -> None:
    """Run the arms; write the JSON file and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--env", default="", help="tune only in this environment")
    parser.add_argument("--arms", nargs="+", default=[], help="tune only these arms")
    parser.add_argument(
        "--variants", nargs="+", default=[], help="KEY=VALUE[,...] for each variant"
    )
    parser.add_argument("--calls", type=int, default=5000, help="policy calls per run")
    parser.add_argument("--learning-rates", nargs="+", default=["3e-5", "1e-4", "3e-4", "1e-3"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/tune"))
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    arms = tuning_arms(args)
    results = run_arms(list(arms), args.runs / args.experiment, args.jobs)
    metrics = EXPERIMENTS[args.experiment].metrics
    columns = ("env", "arm", "learning_rate", "settings", "policy_calls")
    shown = Table(title=f"{args.experiment}: validation puzzles")
    for column in (*columns, *(metric.name for metric in metrics)):
        shown.add_column(column)
    output = args.output or Path(f"results/{args.experiment}-tuning.json")
    found = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    kept = found.get("rows", [])
    for arm, head in arms.items():
        values = {metric.name: metric.value(results[arm]) for metric in metrics}
        kept = [row for row in kept if {**row, **head} != row] + [{**head, **values}]
        shown.add_row(*map(str, head.values()), *map(show_number, values.values()))
    command = shlex.join(["python", "benchmarks/learning/tune.py", *sys.argv[1:]])
    commands = list(dict.fromkeys([*found.get("commands", []), command]))
    found = {
        "commands": commands,
        "seed": TUNING_SEED,
        "split": "validation",
        "rows": kept,
    }
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    Console().print(shown)


if __name__ == "__main__":
    main()
