"""Breaks `sesa-agent` in every way that anyone has thought of, and writes down how it held.

    python -m benchmarks.faults.campaign [PART]...      (make faults)

Parts: kills, files, damage, disk, inputs, games, texts. Writes `results/faults.json` and the table
`results/faults.md`; exits with code 1 if anything broke. Takes about an hour on two cores.
`docs/reliability.md` says what is promised.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sesa_agent.configs.writing import replace_text

from .damage import damaged_files
from .disk import disk_rows
from .games import game_rows
from .inputs import input_rows
from .kills import kills_at_files, random_kills
from .process import JOBS
from .small_run import whole_run
from .table import Row, write_table
from .texts import text_rows

RESULTS = Path(__file__).parents[2] / "results"
PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "kills": lambda scratch, seed: random_kills(scratch, num_kills=20, seed=seed),
    "files": lambda scratch, seed: kills_at_files(scratch),
    "damage": lambda scratch, seed: damaged_files(scratch),
    "disk": lambda scratch, seed: disk_rows(scratch),
    "inputs": lambda scratch, seed: input_rows(scratch, whole_run("sesa", scratch / "finished")),
    "games": lambda scratch, seed: game_rows(scratch),
    "texts": lambda scratch, seed: text_rows(1_000_000, seed),
}


def main() -> None:
    """Run the chosen parts and write the table; the other parts keep their last rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    has_faults = False
    for part in args.parts or PARTS:
        rows = []
        for row in _run_part(part, args.seed):
            rows.append(asdict(row))
            has_faults |= bool(row.faults)
            _write(part, rows)
    sys.exit(has_faults)


def _write(part: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a part so far, beside those of the other parts, and the table of all."""
    file = RESULTS / "faults.json"
    report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    report[part] = rows
    report = {name: report[name] for name in PARTS if name in report}
    replace_text(file, json.dumps(report, indent=1) + "\n")
    write_table(RESULTS / "faults.md", report)


def _run_part(part: str, seed: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        start = time.monotonic()
        for row in PARTS[part](Path(scratch), seed):
            minutes = (time.monotonic() - start) / 60
            print(f"{part} ({minutes:.1f} min, {JOBS} at a time): {row.to_line()}", flush=True)
            for fault in row.faults:
                print(f"    {fault.replace(scratch, '...')}", flush=True)
            yield Row(
                row.what, row.num_tried, tuple(f.replace(scratch, "") for f in row.faults), row.note
            )


if __name__ == "__main__":
    main()
