"""Sets of puzzles outside of the training distribution, by name: `eval.split=large`.

A set changes options of an environment, and is played on the test puzzles that they give. Only what
the set names differs from training: a larger board keeps the length of the solutions, unless the
set is `long`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..configs.errors import SettingError, check
from ..configs.schema import Config
from .text_env import DEFAULT_STEPS

TEST = "test"
"""The split that is measured without a set."""


@dataclass(frozen=True)
class OodSet:
    """How the puzzles of a set differ from those of training."""

    summary: str
    """In a few words."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of the environment that it sets."""
    num_actions: int = 0
    """Actions that an episode has at least; 0 for those of training."""


OOD_SETS: dict[str, dict[str, OodSet]] = {
    "sesa/Sokoban-v0": {
        "large": OodSet("8x8 cells", {"num_rows": 8, "num_columns": 8}),
        "boxes": OodSet("two boxes", {"num_boxes": 2}),
        "long": OodSet("9 to 16 moves", {"min_solution": 9, "max_solution": 16}, 16),
        "symbols": OodSet("the symbols H . T * B A @", {"symbols": "H.T*BA@"}),
    },
    "sesa/FrozenLake-v0": {
        "large": OodSet("8x8 cells", {"size": 8}, 28),
        "holes": OodSet("a cell is frozen with probability .65", {"frozen_probability": 0.65}),
        "symbols": OodSet("the symbols . H T A W @", {"symbols": ".HTAW@"}),
    },
    "sesa/Countdown-v0": {
        "numbers": OodSet("five numbers", {"min_count": 5, "max_count": 5}),
        "large": OodSet("numbers from 21 to 50", {"min_number": 21, "max_number": 50}),
        "operators": OodSet("made with * too", {"operators": "+-*"}),
    },
    "sesa/Sudoku-v0": {
        "blanks": OodSet("12 blanks", {"num_blanks": 12}, 24),
        "large": OodSet("9x9 cells with 8 blanks", {"size": 9, "num_blanks": 8}),
    },
    "sesa/Math-v0": {
        "terms": OodSet("sums of 5 numbers", {"num_terms": 5}),
        "large": OodSet("numbers up to 50", {"max_number": 50}),
    },
    "sesa/PathExploration-v0": {
        "open": OodSet("the prompt does not say that places are few", {"world": "open"}),
    },
    "sesa/SqlQuestions-v0": {
        "joins": OodSet("questions about three tables", {"level": 3}),
        "large": OodSet("20 rows in the first table", {"num_people": 20}),
    },
}
"""The sets of each game."""


def check_split(cfg: Config) -> None:
    """Refuse a set that the environment of a run does not have.

    Raises:
        SettingError: with those that it has.
    """
    sets = OOD_SETS.get(cfg.env.id, {})
    if cfg.eval.split == TEST or cfg.eval.split in sets:
        return
    names = ", ".join([TEST, *sets])
    raise SettingError(
        f"eval.split must be {'one of ' if sets else ''}{names} in {cfg.env.id}, "
        f"got {cfg.eval.split!r}."
    )


def usable_sets(cfg: Config) -> list[str]:
    """Return the names of the sets that an environment has and training does not play."""
    names = []
    for name in OOD_SETS.get(cfg.env.id, {}):
        try:
            with_ood_set(replace(cfg, eval=replace(cfg.eval, split=name)))
        except SettingError:
            continue
        names.append(name)
    return names


def refuse_ood_set(cfg: Config) -> None:
    """Refuse a set where training puzzles are played.

    Raises:
        SettingError: if the settings name one.
    """
    check(
        cfg.eval.split == TEST,
        "eval.split",
        cfg.eval.split,
        f"{TEST} in training",
        f"Train first, then: sesa-agent evaluate RUN eval.split={cfg.eval.split}",
    )


def with_ood_set(cfg: Config) -> Config:
    """Return the settings with which the puzzles of `eval.split` are played.

    Raises:
        SettingError: if there is no such set, or its puzzles are those of training.
    """
    check_split(cfg)
    if cfg.eval.split == TEST:
        return cfg
    wanted = OOD_SETS[cfg.env.id][cfg.eval.split]
    env = cfg.env
    if env.options.get("path"):
        raise SettingError(
            f"eval.split must be {TEST} with the puzzles of env.options.path, "
            f"got {cfg.eval.split!r}."
        )
    options = {**env.options, **wanted.options}
    if options == env.options:
        told = ", ".join(f"{name}={value}" for name, value in wanted.options.items())
        raise SettingError(
            f"eval.split={cfg.eval.split} is no other set here: training has {told}. "
            f"Leave it out, or take one of {', '.join(OOD_SETS[cfg.env.id])}."
        )
    max_turns = env.max_turns
    if wanted.num_actions and max_turns > 1:
        options.pop("max_steps", None)  # by default it grows with the puzzles
        max_turns = max(max_turns, -(-wanted.num_actions // env.actions_per_turn))
    return replace(cfg, env=replace(env, options=options, max_turns=max_turns))


def check_step_limit(cfg: Config, longest: int, max_steps: int | None) -> None:
    """Refuse limits that make puzzles of longer solutions impossible.

    Args:
        cfg: the settings of the run.
        longest: actions that the longest puzzles take (`longest_solution` in `text_env.py`); 0 if
            the default limit is enough.
        max_steps: the environment's own limit on the actions of an episode.

    Raises:
        SettingError: with what to set.
    """
    env = cfg.env
    num_turns = -(-longest // env.actions_per_turn)
    if max_steps is not None and max_steps < longest:
        raise SettingError(
            f"env.options.max_steps must be at least {longest}, the moves that puzzles of these "
            f"options take (more than {DEFAULT_STEPS}), got {max_steps}. Set "
            f"env.options.max_steps={longest} env.max_turns={num_turns}, or make puzzles easier."
        )
    if env.max_turns < num_turns:
        raise SettingError(
            f"env.max_turns must be at least {num_turns}: puzzles of these options take up to "
            f"{longest} moves, got {env.max_turns}. Set env.max_turns={num_turns}, or make puzzles "
            "easier."
        )
