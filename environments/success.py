"""What counts as success in an environment. Pure functions.

Our own games say it in `info["success"]`. Other packages say it under other names, or not at all.
The first of these that exists counts:

1. the setting `env.success`, a rule such as "return >= 475";
2. a flag of `SUCCESS_KEYS` in the step's `info`, or the `is_success` of an adapter;
3. the `reward_threshold` that the id is registered with, on the return of an episode;
4. a guess: the game ended with a positive reward (`GUESS`).

`success_probe.py` plays a little at the start of a run, to see whether the guess can be right.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from ..configs.errors import SettingError
from .copying import layers

SUCCESS_KEYS = (
    "success",
    "is_success",
    "task_success",
    "tasksuccess",
    "solved",
    "is_solved",
    "won",
    "is_won",
)
"""Entries of `info` that say whether a step succeeded; the first one that is a flag counts."""
ALLOWED = "terminated, truncated, reward>N or return>=N"
_COMPARISON = re.compile(r"(reward|return)\s*(>=|>)\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)")


@dataclass(frozen=True)
class SuccessRule:
    """A rule for success, from what Gymnasium says of every step.

    `terminated`: the game ended. `truncated`: a limit of the environment was reached. `reward`: the
    game ended with a reward above the bound. `return`: the sum of the rewards reaches the bound;
    where it does so before the first step (a bound of 0 or less), only the end of the episode
    counts.
    """

    quantity: str
    """terminated, truncated, reward or return."""
    sign: str = ""
    """">" or ">=", of a reward or a return."""
    bound: float = math.nan

    def holds(
        self, reward: float, episode_return: float, terminated: bool, truncated: bool
    ) -> bool:
        """Return whether a step succeeds.

        Args:
            reward: of the step.
            episode_return: sum of the rewards up to and including the step.
            terminated: whether the game ended with the step.
            truncated: whether a limit of the environment was reached.
        """
        if self.quantity == "terminated":
            return terminated
        if self.quantity == "truncated":
            return truncated
        if self.quantity == "reward":
            return terminated and self._reaches(reward)
        is_due = terminated or truncated or not self._reaches(0.0)
        return is_due and self._reaches(episode_return)

    def _reaches(self, number: float) -> bool:
        return number > self.bound if self.sign == ">" else number >= self.bound

    def __str__(self) -> str:
        bound = "" if math.isnan(self.bound) else f"{self.bound:.12g}"
        return f"{self.quantity}{self.sign}{bound}"


GUESS = SuccessRule("reward", ">", 0.0)
"""The game ended with a positive reward."""


def read_rule(text: str) -> SuccessRule | None:
    """Read a rule as the setting `env.success` gives it; None for an empty text.

    >>> str(read_rule(" return >= 475.0 ")), read_rule("terminated").quantity, read_rule("")
    ('return>=475', 'terminated', None)

    Raises:
        SettingError: if it is no rule.
    """
    text = text.strip()
    if not text:
        return None
    if text in ("terminated", "truncated"):
        return SuccessRule(text)
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise SettingError(
            f"env.success must be {ALLOWED}, with a number for N, got {text!r}. Put it in quotes, "
            "for a shell reads > as a redirection: 'env.success=return>=475'."
        )
    return SuccessRule(match[1], match[2], float(match[3]))


@dataclass(frozen=True)
class Success:
    """How the success of a step is found."""

    rule: SuccessRule
    source: str
    """`setting`, `reward_threshold` or `guess`."""

    def of_step(
        self,
        reward: float,
        episode_return: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> bool:
        """Return whether a step succeeds; arguments as in `SuccessRule.holds`."""
        flag = None if self.source == "setting" else reported_success(info)
        if flag is not None:
            return flag
        return self.rule.holds(reward, episode_return, terminated, truncated)


def find_success(setting: str, threshold: float | None) -> Success:
    """Return how success is found.

    Args:
        setting: the value of `env.success`.
        threshold: `reward_threshold` of the environment.

    Raises:
        SettingError: if the setting is no rule.
    """
    rule = read_rule(setting)
    if rule is not None:
        return Success(rule, "setting")
    if threshold is not None:
        return Success(SuccessRule("return", ">=", threshold), "reward_threshold")
    return Success(GUESS, "guess")


def reward_threshold(env: gymnasium.Env[Any, Any]) -> float | None:
    """Return the `reward_threshold` that an environment is registered with; None without one."""
    specs = (getattr(layer, "spec", None) for layer in layers(env))
    numbers = (getattr(spec, "reward_threshold", None) for spec in specs)
    found = [n for n in numbers if isinstance(n, int | float) and math.isfinite(n)]
    return float(found[0]) if found else None


def reported_success(info: Mapping[str, Any]) -> bool | None:
    """Return whether a step succeeded according to its `info`; None if that does not say.

    >>> reported_success({"won": 1.0}), reported_success({"score": 3}), reported_success({})
    (True, None, None)
    """
    flag = info.get("success")
    if flag is True or flag is False:  # fast
        return flag
    return next(
        (flag for key in SUCCESS_KEYS if (flag := as_flag(info.get(key))) is not None), None
    )


def as_flag(value: Any) -> bool | None:
    """Read True and False, also as 1 and 0 of any number type; None if it is neither.

    >>> as_flag(np.float32(1)), as_flag(0), as_flag(0.5), as_flag("yes")
    (True, False, None, None)
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    is_number = isinstance(value, int | float | np.integer | np.floating)
    return bool(value) if is_number and value in (0, 1) else None


def step_success(info: Mapping[str, Any], reward: float, terminated: bool) -> bool:
    """Return whether a step succeeded: what its `info` says, else the guess."""
    flag = reported_success(info)
    return terminated and reward > 0 if flag is None else flag
