"""What a report shows, read from a run folder or from the JSON file of a comparison; not drawn yet.

Everything here is data that others wrote: a file that is damaged is one line, a part that is
missing is left out, and no text is trusted (the page escapes it).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sesa_agent.commands.train import RESULT_FILE
from sesa_agent.configs.errors import SettingError
from sesa_agent.evaluation.experiments.arms import RESULT_FILE as ARM_FILE
from sesa_agent.evaluation.experiments.results import SPENT
from sesa_agent.runs import CONFIG_FILE
from sesa_agent.sampling.trajectory import TrajectoryTree, Turn

Row = dict[str, Any]
"""What a log says of one step: the budgets spent before it, `SPENT`, and metrics by name."""


@dataclass(frozen=True)
class Line:
    """One run along its training."""

    env: str
    label: str
    seed: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Event:
    """Something that the run noted."""

    step: int
    kind: str
    text: str


@dataclass(frozen=True)
class Episode:
    """A trajectory drawn in training, to be looked at."""

    label: str
    seed: int
    """Of the puzzle."""
    step: int
    turns: tuple[Turn, ...]

    @property
    def is_solved(self) -> bool:
        """Whether the game was won."""
        return self.turns[-1].success

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        last = self.turns[-1]
        if self.is_solved:
            return "solved"
        if last.terminated:
            return "failed"
        return "out of turns" if last.truncated else "not played further"


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds."""

    folder: Path
    settings: dict[str, Any]
    line: Line
    events: tuple[Event, ...]
    arm: Mapping[str, Any]
    """What `run_arm` measured; empty in a run of `sesa-agent train`."""
    result: Mapping[str, Any]
    """Evaluations of "base" and "trained"; empty where it was not measured."""


def read_run_files(folder: Path) -> RunFiles:
    """Read a run folder, also of a run that still goes on.

    Raises:
        SettingError: if it is no run folder, or a file in it is damaged.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise SettingError(
            f"{folder} is no run folder: it has no {CONFIG_FILE}. Name one that sesa-agent train "
            "wrote, or the .json file of a comparison."
        )
    arm, result = (read_object(folder / name) for name in (ARM_FILE, RESULT_FILE))
    try:
        settings = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        label = arm.get("label") or settings["method"]
        env = arm.get("env") or settings["env"]["id"]
        line = Line(env, label, int(settings["seed"]), _rows(folder, arm))
        events = tuple(
            Event(int(event["step"]), str(event["kind"]), str(event["text"]))
            for event in read_lines(folder / "events.jsonl")
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingError(f"{folder} is damaged: {reason}.") from error
    return RunFiles(folder, settings, line, events, arm, result)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file.

    Raises:
        SettingError: if the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(f"{path} is damaged: {error}.") from error
    if not isinstance(values, dict):
        raise SettingError(f"{path} must hold a JSON object, got {type(values).__name__}.")
    return values


def read_lines(path: Path) -> list[Row]:
    """Read JSON lines, up to one that is still being written; none if there is no such file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def find_runs(arms: Sequence[Mapping[str, Any]], runs: Path) -> list[RunFiles]:
    """Find the run folders of a comparison's arms: those whose result is the one in its file.

    Args:
        arms: results of `run_arm`.
        runs: folder in which they lie, at most three deep.

    Returns:
        What the folders hold, in the order of the arms; arms that are not found, or whose folder is
        damaged, are left out.
    """
    wanted = {_identity(arm): place for place, arm in enumerate(arms)}
    found = {}
    for depth in ("*", "*/*", "*/*/*"):
        for file in sorted(runs.glob(f"{depth}/{ARM_FILE}")):
            try:
                place = wanted.get(_identity(read_object(file)))
                if place is not None:
                    found[place] = read_run_files(file.parent)
            except SettingError:
                continue
    return [found[place] for place in sorted(found)]


def arm_line(arm: Mapping[str, Any]) -> Line:
    """The line of an arm whose run folder is not at hand: its evaluations alone."""
    return Line(arm["env"], arm["label"], arm["seed"], tuple(arm["curve"]))


def newest_trees(folder: Path) -> Iterator[tuple[int, TrajectoryTree]]:
    """Sample trees of a run with their step, the newest first.

    Those that another version wrote, whose turns have other fields, are left out.

    Raises:
        SettingError: if a file is damaged.
    """
    for file in sorted((folder / "trees").glob("step-*.json"), reverse=True):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            trees = [TrajectoryTree.from_json(tree) for tree in values]
        except (ValueError, LookupError) as error:
            raise SettingError(f"{file} is damaged: {error}. Delete it.") from error
        except TypeError:
            continue
        yield from ((int(file.stem.removeprefix("step-")), tree) for tree in trees)


def sample_episodes(run: RunFiles) -> list[Episode]:
    """Pick a solved and a failed trajectory, the newest there are.

    Where a group has both they are of one puzzle, which shows best what made the difference.
    """
    newest: dict[bool, Episode] = {}
    for step, tree in newest_trees(run.folder):
        ends: dict[bool, Episode] = {}
        episodes = (
            Episode(run.line.label, tree.task.seed, step, path.turns)
            for path in tree.trajectories()
        )
        # Of those that failed rather one that was played to its end, and a long one.
        for episode in sorted(episodes, key=_worth, reverse=True):
            ends.setdefault(episode.is_solved, episode)
        newest = ends if len(ends) == 2 else ends | newest
        if len(newest) == 2:
            break
    return [newest[key] for key in (True, False) if key in newest]


def board(text: str) -> list[str]:
    r"""Return the rows of a text that is a board, equally long and of single signs; else none.

    >>> board("#P_\n#__"), board("Reach 24 with 3, 8")
    (['#P_', '#__'], [])
    """
    rows = text.splitlines()
    is_even = len({len(row) for row in rows}) == 1
    return rows if len(rows) > 1 and is_even and len(rows[0]) <= 24 and " " not in text else []


def _worth(episode: Episode) -> tuple[bool, int]:
    last = episode.turns[-1]
    return last.terminated or last.truncated, len(episode.turns)


def _identity(arm: Mapping[str, Any]) -> str:
    keys = ("env", "label", "seed", *SPENT, "measured")
    return json.dumps([arm.get(key) for key in keys], sort_keys=True)


def _rows(folder: Path, arm: Mapping[str, Any]) -> tuple[Row, ...]:
    """The log, every step with what had been spent before it; a run's own steps alone."""
    rows: list[Row] = []
    spent: Row = dict.fromkeys(SPENT, 0)
    for line in read_lines(folder / "metrics.jsonl"):
        rows.append({**line, **spent})
        seconds = spent["seconds"] + line["time/rollout_s"] + line["time/learn_s"]
        spent = {name: line.get(f"progress/{name}", 0) for name in SPENT}
        spent["seconds"] = spent["seconds"] or seconds  # older logs do not add them up
    start = len(rows) - arm["steps"] if arm.get("start_from") else 0
    return tuple(rows[start:])
