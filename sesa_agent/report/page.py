"""What a report says, whether it is about a run or a comparison; not drawn yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sesa_agent.configs.load import env_names, load_config
from sesa_agent.evaluation.experiments.arms import without_folder
from sesa_agent.report.files import Episode, Event, Line, RunFiles, newest_trees
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.screen import show_number

SPENT_NAMES = {
    "policy_calls": "policy calls",
    "response_tokens": "response tokens",
    "env_steps": "environment steps",
    "seconds": "seconds of training",
}
"""The budgets that methods are compared on, in words."""
MAX_TREE_TURNS = 120
"""Larger trees are not drawn: their turns could not be told apart."""
Cell = tuple[str, str]
"""What a table shows, and what stands small below it."""


@dataclass(frozen=True)
class Value:
    """A number with its 95 % interval."""

    mean: float
    interval: tuple[float, float] | None = None
    each: tuple[float, ...] = ()
    """The number of each seed."""


@dataclass(frozen=True)
class ArmRow:
    """What one arm came to in one environment."""

    env: str
    label: str
    values: Mapping[str, Value]
    """By the name of the number; drawn too."""
    spent: Mapping[str, float]
    """Budgets that its training took, by the keys of `SPENT_NAMES`; what is unknown is missing."""
    texts: Mapping[str, Cell] = field(default_factory=dict)
    """Further columns by name, in the table alone."""


@dataclass(frozen=True)
class Page:
    """All that a report says; what does not exist is empty."""

    kind: str
    title: str
    verdict: str
    """One sentence."""
    remarks: tuple[str, ...]
    """Further findings, a sentence or two each."""
    notes: tuple[str, ...]
    """What the numbers are."""
    facts: tuple[tuple[str, str], ...]
    """Names and values."""
    rows: tuple[ArmRow, ...]
    lines: tuple[Line, ...]
    events: tuple[Event, ...]
    episodes: tuple[Episode, ...]
    tree: TrajectoryTree | None
    """A group of training, to be drawn."""
    command: str
    """That makes it all anew."""
    versions: Mapping[str, str]
    settings: tuple[tuple[str, str], ...]
    """Names and YAML."""


def columns(rows: Sequence[ArmRow]) -> list[str]:
    """Name the columns of a table: what was measured, then what the training took."""
    names = dict.fromkeys(name for row in rows for name in (*row.values, *row.texts))
    spent = [text for key, text in SPENT_NAMES.items() if any(row.spent.get(key) for row in rows)]
    return [*names, *spent]


def cells(row: ArmRow, names: Sequence[str]) -> list[Cell]:
    """Return what a row shows in those columns; a dash for what the arm does not have."""
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
    """A large number in groups of three digits, or a dash.

    >>> show_count(80000.2), show_count(None)
    ('80 000', '–')
    """
    return f"{number:,.0f}".replace(",", " ") if number else "–"


def env_name(env: str) -> str:
    """The short name of an environment that has one.

    >>> env_name("sesa/FrozenLake-v0"), env_name("mine:Game-v0")
    ('frozen_lake', 'mine:Game-v0')
    """
    names = [name for name in env_names() if env in (name, load_config(name).env.id)]
    return names[0] if names else env


def env_title(env: str) -> str:
    """The name of an environment at the beginning of a line.

    >>> env_title("frozen_lake")
    'Frozen lake'
    """
    name = env_name(env)
    return name.replace("_", " ").capitalize() if name in env_names() else name


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, without where things lie on this machine."""
    model = {**settings["model"], "path": without_folder(str(settings["model"]["path"]))}
    output = Path(str(settings["output"])).name
    return yaml.safe_dump({**settings, "model": model, "output": output})


def shown_tree(run: RunFiles) -> TrajectoryTree | None:
    """Choose a sample tree to draw: the newest that wins somewhere and not everywhere, or any."""
    newest = None
    for _, tree in newest_trees(run.folder):
        if 1 < len(tree) <= MAX_TREE_TURNS:
            newest = newest or tree
            if len({path.success for path in tree.trajectories()}) == 2:
                return tree
    return newest
