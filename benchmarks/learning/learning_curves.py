"""Compares settings: learning curves of finished runs, one row for equal settings.

    python benchmarks/learning/learning_curves.py RUN ... [--labels NAME ...] [--note TEXT]

The folders are finished runs of `sesa-agent train` in one environment. Runs that only differ in
their seed share a row; the rows list the settings that differ. Runs of several versions of the code
get a label each. Success is measured on validation puzzles, and at the end on held-out ones; the
minutes of a run include its evaluations and depend on the load of the machine. Writes
`results/learning_curves.json`, or the file of `--output`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from sesa_agent.training.run_log import read_metrics

RESULTS = Path(__file__).parents[2] / "results" / "learning_curves.json"
NOT_SETTINGS = ("seed", "output", "eval.final_episodes")
"""Settings that may differ between the runs of a row."""


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names.

    >>> flat({"optim": {"lr": 0.1}, "method": "sesa"})
    {'optim.lr': 0.1, 'method': 'sesa'}
    """
    found = {}
    for name, value in settings.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        found |= inner if inner else {f"{prefix}{name}": value}
    return found


def describe(folder: Path) -> dict[str, Any]:
    """Settings, seed, minutes and success by step of a run."""
    settings = flat(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    seed = settings["seed"]
    lines = read_metrics(folder)
    curve = [(n["step"], n["eval/success_rate"]) for n in lines if "eval/success_rate" in n]
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {
        "settings": {key: v for key, v in settings.items() if key not in NOT_SETTINGS},
        "seed": seed,
        "minutes": round(lines[-1]["time_s"] / 60, 2),
        "success": curve[-1][1],
        "held_out": result["trained"]["success_rate"],
        "curve": " ".join(f"{step}:{rate:.3f}" for step, rate in curve),
    }


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group runs by settings; each group has the settings that differ between groups."""
    names = dict.fromkeys(name for run in runs for name in run["settings"])
    differing = [n for n in names if len({str(run["settings"].get(n)) for run in runs}) > 1]
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        settings = {name: run["settings"][name] for name in differing if name in run["settings"]}
        row = found.setdefault(json.dumps(settings), {"settings": settings, "runs": []})
        row["runs"].append({key: value for key, value in run.items() if key != "settings"})
    return list(found.values())


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--labels", nargs="+", default=[], help="the version of each run")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--note", default="", help="the machine and its load")
    args = parser.parse_args()
    runs = [describe(folder) for folder in args.runs]
    for run, label in zip(runs, args.labels, strict=bool(args.labels)):
        run["settings"] = {"version": label, "env.id": run["settings"]["env.id"]}
    found = rows(runs)
    table = Table("settings", "seeds", "held-out success", "minutes")
    for row in found:
        settings = "\n".join(f"{name}={value}" for name, value in row["settings"].items())
        seeds = "\n".join(str(run["seed"]) for run in row["runs"])
        last = "\n".join(f"{run['held_out']:.3f}" for run in row["runs"])
        table.add_row(settings, seeds, last, "\n".join(f"{r['minutes']:.1f}" for r in row["runs"]))
    Console().print(table)
    args.output.write_text(json.dumps({"note": args.note, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
