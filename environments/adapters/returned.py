"""Checks what an environment returned, and gives it as plain values of Python. Pure.

The values are used far away from the environment, where nothing may fail: so a text is a `str`
that UTF-8 can hold, a reward a finite `float`, a flag a `bool`, and `info` a `dict`.
"""

import math
import pickle
from collections.abc import Hashable
from typing import Any

import gymnasium
import numpy as np

from ..available import AVAILABLE
from ..descriptions import describe_value
from ..success import as_flag
from ..text_env import state_key

MAX_TEXT = 200_000
"""Length of the longest text that an environment may return, in characters."""
STEP = "(observation, reward, terminated, truncated, info)"
FLAGS = ("success", "legal")
"""The flags in `info` that we read."""


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
    observation, reward, terminated, truncated, info = step_values(result)
    return (
        checked_text(observation, "observation"),
        _checked_reward(reward),
        _checked_flag(terminated, "terminated"),
        _checked_flag(truncated, "truncated"),
        _checked_info(info),
    )


def checked_content(content: Any) -> str | bytes | None:
    """Check what `puzzle_content` returned.

    Raises:
        InvalidValue: with what was wanted and what came.
    """
    require(isinstance(content, str | bytes | None), "a str, bytes or None", content)
    return content


def step_values(result: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Take apart what `step` returned.

    Raises:
        InvalidValue: if it is not five values.
    """
    count = len(result) if isinstance(result, tuple) else 0
    wanted = f"{STEP}, not four values as the old package gym" if count == 4 else STEP
    require(count == 5, wanted, result)
    observation, reward, terminated, truncated, info = result
    return observation, reward, terminated, truncated, info


def single_reward(reward: Any) -> float:
    """Return a reward as a number, finite or not.

    Raises:
        InvalidValue: if it is several numbers.
    """
    is_several = isinstance(reward, np.ndarray | list | tuple) and np.size(reward) != 1
    require(not is_several, "one number as reward, not one for each objective", reward)
    return float(reward)  # pyright: ignore[reportArgumentType]


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


def same_state(env: gymnasium.Env[Any, Any], twin: gymnasium.Env[Any, Any]) -> bool:
    """Return whether two environments have the same state key and will draw the same numbers.

    Raises:
        InvalidValue: if a key cannot be hashed.
    """
    (key, draws), (other_key, other_draws) = (
        (checked_key(state_key(one)), pickle.dumps(one.np_random.bit_generator.state))
        for one in (env, twin)
    )
    return key == other_key and draws == other_draws


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
            flag = as_flag(info[name])
            require(flag is not None, f"True or False as info[{name!r}]", info[name])
            info[name] = flag
    if AVAILABLE in info:
        info[AVAILABLE] = _checked_actions(info[AVAILABLE])
    return info


def _checked_actions(actions: Any) -> list[str]:
    wanted = f"a list of str as info[{AVAILABLE!r}]"
    require(isinstance(actions, list | tuple | np.ndarray), wanted, actions)
    texts = [checked_text(text, f"info[{AVAILABLE!r}]") for text in actions]
    return [text for text in dict.fromkeys(texts) if text.strip()]


def require(condition: bool, wanted: str, got: Any, is_value: bool = True) -> None:
    """Refuse a value.

    Raises:
        InvalidValue: if `condition` does not hold.
    """
    if not condition:
        shown = describe_value(got) if is_value else got
        raise InvalidValue(f"must return {wanted}, got {shown}")
