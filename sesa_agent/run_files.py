"""The content of a run folder: settings, log, events, results and saved trees.

These files may come from anyone: a damaged file is a one-line error, and a missing part is left
out. Whoever shows their texts escapes them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sesa_agent.commands.train import RESULT_FILE
from sesa_agent.configs.errors import SettingError, first_line
from sesa_agent.configs.json_text import read_json_file
from sesa_agent.configs.layers import use_new_names
from sesa_agent.configs.load import env_names, method_label, short_env_name
from sesa_agent.configs.yaml_text import read_yaml
from sesa_agent.evaluation.experiments.arms import RESULT_FILE as ARM_FILE
from sesa_agent.evaluation.experiments.results import SPENT
from sesa_agent.runs import CONFIG_FILE
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.training.run_log import read_events, read_metrics

Row = dict[str, Any]
"""The log of one step: the budgets spent before it, `SPENT`, and metrics by name."""


@dataclass(frozen=True)
class Line:
    """The log of a run, or of an arm in a comparison."""

    env: str
    label: str
    seed: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Event:
    """An event that the run logged."""

    step: int
    kind: str
    text: str


@dataclass(frozen=True)
class RunFiles:
    """The files of a run folder."""

    folder: Path
    settings: dict[str, Any]
    line: Line
    events: tuple[Event, ...]
    arm: Mapping[str, Any]
    """The result of `run_arm`; empty in a run of `sesa-agent train`."""
    result: Mapping[str, Any]
    """Evaluations of "base" and "trained"; empty if they were not measured."""

    @property
    def title(self) -> str:
        """Environment, method and seed in words."""
        return f"{env_title(self.line.env)}: {self.line.label}, seed {self.line.seed}"


def read_run_files(folder: Path) -> RunFiles:
    """Read a run folder, also of a run in progress.

    Raises:
        SettingError: if it is not a run folder, or a file in it is damaged.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise SettingError(
            f"{folder} is not a run folder: it has no {CONFIG_FILE}. Give a folder that sesa-agent "
            "train wrote."
        )
    arm, result = (read_object(folder / name) for name in (ARM_FILE, RESULT_FILE))
    try:
        text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
        settings = use_new_names(dict(read_yaml(text, CONFIG_FILE)))
        label = arm.get("label") or method_label(settings["method"])
        env = arm.get("env") or settings["env"]["id"]
        line = Line(env, label, int(settings["seed"]), _rows(folder, arm))
        events = tuple(
            Event(event["step"], event["kind"], event["text"]) for event in read_events(folder)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{folder} is damaged: {first_line(error)}.") from error
    return RunFiles(folder, settings, line, events, arm, result)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file.

    Raises:
        SettingError: if the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        values = read_json_file(path)
    except ValueError as error:
        raise SettingError(f"{path} is damaged: {error}.") from error
    if not isinstance(values, dict):
        raise SettingError(f"{path} must hold a JSON object, got {type(values).__name__}.")
    return values


def newest_trees(folder: Path) -> Iterator[tuple[int, TrajectoryTree]]:
    """The saved trees of a run with their step, the newest first.

    Trees of another version, whose turns have other fields, are left out.

    Raises:
        SettingError: if a file is damaged.
    """
    for file in sorted((folder / "trees").glob("step-*.json"), reverse=True):
        try:
            step = int(file.stem.removeprefix("step-"))
            values = read_json_file(file)
            trees = [TrajectoryTree.from_json(tree) for tree in values]
        except (ValueError, LookupError) as error:
            raise SettingError(f"{file} is damaged: {error}. Delete it.") from error
        except OSError as error:
            raise SettingError(f"{file} cannot be read: {error.strerror}. Delete it.") from error
        except TypeError:
            continue
        yield from ((step, tree) for tree in trees)


def env_title(env: str) -> str:
    """The name of an environment at the beginning of a line.

    >>> env_title("frozen_lake")
    'Frozen lake'
    """
    name = short_env_name(env)
    return name.replace("_", " ").capitalize() if name in env_names() else name


def _rows(folder: Path, arm: Mapping[str, Any]) -> tuple[Row, ...]:
    """The log, each step with what was spent before it; of an arm only its own steps."""
    rows: list[Row] = []
    spent: Row = dict.fromkeys(SPENT, 0)
    for line in read_metrics(folder):
        rows.append({**line, **spent})
        own = (line.get(name) or 0 for name in ("time/rollout_s", "time/learn_s"))
        seconds = spent["seconds"] + sum(own)
        spent = {name: line.get(f"progress/{name}", 0) for name in SPENT}
        spent["seconds"] = spent["seconds"] or seconds  # older logs have no sum
    start = len(rows) - arm["steps"] if arm.get("start_from") else 0
    return tuple(rows[start:])
