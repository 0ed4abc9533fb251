"""The table of the speed benchmarks is made from the results files that exist."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEED = runpy.run_path(str(ROOT / "benchmarks" / "speed" / "table.py"))


@pytest.mark.parametrize("name", SPEED["FILES"])
def test_every_file_of_results_gives_rows(name):
    file = ROOT / "results" / f"{name}.json"
    if not file.is_file():
        pytest.skip("not measured yet")
    rows = list(SPEED["FILES"][name](json.loads(file.read_text(encoding="utf-8"))))
    assert rows and all(row.what and row.against and row.ratio >= 0 for row in rows)


def test_a_row_says_whether_its_target_is_met():
    row = SPEED["Row"]
    rows = [row("a", "b", 2.0, 1.5), row("a", "b", 2.0, 1.5, at_most=True)]
    lines = SPEED["as_markdown"](rows).splitlines()[-2:]
    assert lines == ["| a | b | 2.00 | at least 1.5 | yes |", "| a | b | 2.00 | at most 1.5 | no |"]


def test_all_benchmarks_together_take_at_most_half_an_hour():
    assert sum(SPEED["MINUTES"].values()) <= 30


def test_a_benchmark_that_cannot_run_or_takes_too_long_says_so():
    assert SPEED["run"]("no_such_benchmark", 1).startswith("ended with code 2")
    assert SPEED["run"]("scaling", 0.001) == "was stopped after 0.001 minutes"
