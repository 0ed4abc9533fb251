"""README is short, and its numbers are those of the results files."""

import json
import re
import runpy
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sesa_agent.evaluation.evaluate import Evaluation
from sesa_agent.screen import result_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 110
    assert len(README.split()) <= 900


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    targets += re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
@pytest.mark.parametrize(
    ("game", "name"),
    [
        ("Sokoban", "sokoban"),
        ("Countdown", "tuned/countdown"),
        ("FrozenLake", "tuned/frozen_lake"),
    ],
)
def test_table_1_is_that_of_the_comparison(page, game, name):
    text = (ROOT / page).read_text(encoding="utf-8")
    row = re.search(rf"^\| {game}\b[^|]*\|(.*)\|$", text, flags=re.MULTILINE)
    assert row
    shown = [cell.strip(" *") for cell in row[1].split("|")]
    table = (ROOT / "results" / f"{name}.md").read_text(encoding="utf-8")
    table = table.split("Out of distribution")[0]
    rows = dict(re.findall(r"^\| ([\w-]+) \| (0\.\d+ \([^)]+\));", table, flags=re.MULTILINE))
    measured = [rows[arm] for arm in ("base", "ragen", "ragen-entropy", "sesa-paper", "sesa")]
    assert len(shown) == 5
    assert all(full.startswith(cell) for cell, full in zip(shown, measured, strict=True))


@pytest.mark.parametrize("page", ["README.md", "docs/real-llm.md"])
def test_numbers_of_the_pre_trained_model_are_those_of_its_runs(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    path = ROOT / "results" / "real-llm-countries.json"
    rows = {row["label"]: row for row in json.loads(path.read_text(encoding="utf-8"))["table"]}
    for label in ("ragen", "maxrl", "sesa"):
        for metric in ("hit rate, T = 1", "coverage@128"):
            found = rows[label]["values"][metric]
            high = min(found["high"], 1)
            assert f"{found['mean']:.3f} ({found['low']:.3f} to {high:.3f})" in text


def test_the_closing_table_is_that_of_the_default_run():
    found = json.loads((ROOT / "results" / "sokoban_default_run.json").read_text(encoding="utf-8"))
    results = {name: Evaluation(**{**values, "pass_at_k": {}}) for name, values in found.items()}
    shown = StringIO()
    Console(width=80, file=shown).print(result_table("sesa/Sokoban-v0", results))
    assert shown.getvalue() in README


def test_the_picture_of_the_idea_is_what_its_script_draws():
    script = runpy.run_path(str(ROOT / "scripts" / "draw_idea.py"))
    for name, colours in script["THEMES"].items():
        drawn = (ROOT / "docs" / "images" / f"idea-{name}.svg").read_text(encoding="utf-8")
        assert drawn == script["picture"](colours)
