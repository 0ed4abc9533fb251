"""Checks what an environment returned, and gives it as plain values of Python. Pure.

The values are used far away from the environment, where nothing may fail: so a text is a `str`
that UTF-8 can hold, a reward a finite `float`, a flag a `bool`, and `info` a `dict`.
"""

import math
from collections.abc import Hashable
from typing import Any

import gymnasium
import numpy as np

from ..descriptions import describe_value

MAX_TEXT = 200_000
"""Length of the longest text that an environment may return, in characters."""
STEP = "(observation, reward, terminated, truncated, info)"
FLAGS = ("success", "legal")
"""The entries of `info` that we read."""


class InvalidValue(Exception):
    """An environment returned a value that breaks the contract."""


def checked_reset(result: Any) -> tuple[str, dict[str, Any]]:
    """Check what `reset` returned.

    Raises:
        InvalidValue: with what was wanted and what came.
    """
    require(isinstance(result, tuple) and len(result) == 2, "(observation, info)", result)
    return checked_text(result[0], "observation"), _checked_info(result[1])


def checked_step(result: Any) -> tuple[str, float, bool, bool, dict[str, Any]]:
    """Check what `step` returned.

    Raises:
        InvalidValue: with what was wanted and what came.
    """
    require(isinstance(result, tuple) and len(result) == 5, STEP, result)
    observation, reward, terminated, truncated, info = result
    return (
        checked_text(observation, "observation"),
        _checked_reward(reward),
        _checked_flag(terminated, "terminated"),
        _checked_flag(truncated, "truncated"),
        _checked_info(info),
    )


def checked_text(text: Any, name: str) -> str:
    """Check a text that will be tokenized and written to files.

    Raises:
        InvalidValue: if it is no text, too long or not UTF-8.
    """
    require(isinstance(text, str), f"a str as {name}", text)
    text = str.__str__(text)  # of a subclass, whose methods may do anything
    length = f"{len(text):,} characters"
    require(len(text) <= MAX_TEXT, f"at most {MAX_TEXT:,} characters as {name}", length, False)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            wrong = text[error.start]
            require(
                False, f"a text that UTF-8 can encode as {name}", f"one with {ascii(wrong)}", False
            )
    return text


def checked_key(key: Any) -> "StateKey":
    """Check a state key.

    Raises:
        InvalidValue: if it cannot be hashed.
    """
    try:
        return StateKey(key)
    except TypeError:
        raise InvalidValue(
            f"must return a hashable state_key(), got {describe_value(key)}"
        ) from None


def checked_copy(twin: Any, env: gymnasium.Env[Any, Any]) -> Any:
    """Check a fork of an environment.

    Raises:
        InvalidValue: if it is no copy.
    """
    wanted = f"a copy, another {type(env).__name__}"
    require(type(twin) is type(env), wanted, twin)
    is_same = twin is env or twin.unwrapped is env.unwrapped
    require(not is_same, wanted, "the environment itself", False)
    return twin


class StateKey:
    """A key that can be compared without harm; keys whose comparison fails are different.

    Args:
        key: what the environment returned.

    Raises:
        TypeError: if it cannot be hashed.
    """

    def __init__(self, key: Hashable):
        self._key, self._hash = key, hash(key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        try:
            return bool(self._key == (other._key if isinstance(other, StateKey) else other))
        except Exception:  # of arrays inside, or of the environment's own `__eq__`
            return False

    def __repr__(self) -> str:
        return describe_value(self._key)

    def __reduce__(self) -> Any:
        return StateKey, (self._key,)  # hashes of texts differ between processes


def _checked_reward(reward: Any) -> float:
    number = math.nan
    if hasattr(reward, "__float__"):  # not a str, which `float` would read
        try:
            number = float(reward)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # several numbers; too large
            number = math.nan
    require(math.isfinite(number), "a finite number as reward", reward)
    return number


def _checked_flag(flag: Any, name: str) -> bool:
    if flag is True or flag is False:  # fast
        return flag
    is_flag = isinstance(flag, bool | int | np.bool_ | np.integer) and flag in (0, 1)
    require(is_flag, f"True or False as {name}", flag)
    return bool(flag)


def _checked_info(info: Any) -> dict[str, Any]:
    require(isinstance(info, dict), "a dict as info", info)
    info = dict(info)
    for name in FLAGS:
        if name in info:
            info[name] = _checked_flag(info[name], f"info[{name!r}]")
    return info


def require(condition: bool, wanted: str, got: Any, is_value: bool = True) -> None:
    """Refuse a value.

    Raises:
        InvalidValue: if `condition` does not hold.
    """
    if not condition:
        shown = describe_value(got) if is_value else got
        raise InvalidValue(f"must return {wanted}, got {shown}")
