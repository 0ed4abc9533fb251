"""The content of a report about a run or a comparison, before it is rendered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sesa_agent.configs.yaml_text import write_yaml
from sesa_agent.evaluation.experiments.arms import without_folder
from sesa_agent.report.episodes import Episode
from sesa_agent.run_files import Event, Line, RunFiles, newest_trees
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.screen import show_number
from sesa_agent.training.progress import BUDGETS

SPENT_NAMES = {budget.name: budget.words for budget in BUDGETS}
"""What training spends, in words."""
MAX_TREE_TURNS = 120
"""Larger trees are not drawn: their turns would overlap."""
Cell = tuple[str, str]
"""The text of a table cell, and the small text below it."""


@dataclass(frozen=True)
class Value:
    """A number with its 95 % interval."""

    mean: float
    interval: tuple[float, float] | None = None
    each: tuple[float, ...] = ()
    """The number of each seed."""


@dataclass(frozen=True)
class ArmRow:
    """The results of one arm in one environment."""

    env: str
    label: str
    values: Mapping[str, Value]
    """Numbers by name, shown in the table and in plots."""
    spent: Mapping[str, float]
    """What training spent, by the keys of `SPENT_NAMES`; what is unknown is missing."""
    texts: Mapping[str, Cell] = field(default_factory=dict)
    """Further columns by name, shown in the table only."""


@dataclass(frozen=True)
class Page:
    """Everything in a report; what does not exist is empty."""

    kind: str
    title: str
    verdict: str
    """One sentence."""
    remarks: tuple[str, ...]
    """Further findings, one or two sentences each."""
    notes: tuple[str, ...]
    """Explanations of the numbers."""
    facts: tuple[tuple[str, str], ...]
    """Names and values."""
    rows: tuple[ArmRow, ...]
    lines: tuple[Line, ...]
    events: tuple[Event, ...]
    episodes: tuple[Episode, ...]
    tree: TrajectoryTree | None
    """A group of training, for a plot."""
    command: str
    """The command that reproduces the run or comparison."""
    versions: Mapping[str, str]
    settings: tuple[tuple[str, str], ...]
    """Names and YAML."""


def columns(rows: Sequence[ArmRow]) -> list[str]:
    """The columns of a table: what was measured, then what training spent."""
    names = dict.fromkeys(name for row in rows for name in (*row.values, *row.texts))
    spent = [text for key, text in SPENT_NAMES.items() if any(row.spent.get(key) for row in rows)]
    return [*names, *spent]


def cells(row: ArmRow, names: Sequence[str]) -> list[Cell]:
    """The cells of a row in these columns; a dash for what the arm does not have."""
    spent = {text: (show_count(row.spent.get(key)), "") for key, text in SPENT_NAMES.items()}
    shown = {name: show_value(value) for name, value in row.values.items()}
    shown = {**spent, **shown, **row.texts}
    return [shown.get(name, ("–", "")) for name in names]


def show_value(value: Value) -> Cell:
    """A number and its interval.

    >>> show_value(Value(0.5, (0.25, 0.75))), show_value(Value(0.5))
    (('0.500', '0.250 to 0.750'), ('0.500', ''))
    """
    ends = " to ".join(map(show_number, value.interval or ()))
    return show_number(value.mean), ends


def show_count(number: float | None) -> str:
    """A number with groups of three digits, or a dash.

    >>> show_count(80000.2), show_count(None)
    ('80 000', '–')
    """
    return f"{number:,.0f}".replace(",", " ") if number else "–"


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, without paths of this machine."""
    model = {**settings["model"], "path": without_folder(str(settings["model"]["path"]))}
    method, output = without_folder(str(settings["method"])), Path(str(settings["output"])).name
    return write_yaml({**settings, "model": model, "method": method, "output": output})


def shown_tree(run: RunFiles) -> TrajectoryTree | None:
    """Choose a saved tree to draw: the newest with both successes and failures, or any."""
    newest = None
    for _, tree in newest_trees(run.folder):
        if 1 < len(tree) <= MAX_TREE_TURNS:
            newest = newest or tree
            if len({path.success for path in tree.trajectories()}) == 2:
                return tree
    return newest
