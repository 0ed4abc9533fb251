"""Writes the comparisons in results/ again, from the runs that their JSON files hold.

    python scripts/rewrite_comparisons.py

For a change of wording or statistics. Nothing is trained; every number comes from the JSON file.
"""

import json
from pathlib import Path

from sesa_agent.commands.experiment_tables import write_comparison

RESULTS = Path(__file__).parents[1] / "results"

if __name__ == "__main__":
    for path in sorted(RESULTS.rglob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and "comparison" in values:
            title = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()[0]
            reference = values["comparison"]["reference"]
            write_comparison(values, title[2:], values["arms"], reference, path.parent)
