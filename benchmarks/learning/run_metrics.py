"""Keeps some metrics of a run, step by step, with the settings it was trained with.

The command is `python benchmarks/learning/run_metrics.py RUN --metrics NAME ... --output FILE`.
"""

import argparse
import json
from pathlib import Path

import yaml

from sesa_agent.training.run_log import read_metrics


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--metrics", nargs="+", required=True)
    parser.add_argument("--note", default="", help="what the run shows")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    settings = yaml.safe_load((args.run / "config.yaml").read_text(encoding="utf-8"))
    settings["model"]["path"] = Path(settings["model"]["path"]).name
    names = ("step", *args.metrics)
    steps = [
        {name: line[name] for name in names if name in line} for line in read_metrics(args.run)
    ]
    found = {"note": args.note, "settings": settings, "steps": steps}
    args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
