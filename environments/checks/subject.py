"""What the checks share: the environment under test, ways to play it, and their findings.

Every call into the environment goes through `call`, so any exception becomes a finding of the
check that made the call.
"""

import math
import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import gymnasium
import numpy as np

from ..adapters.guard import EnvError, GuardedEnv
from ..descriptions import describe_error, describe_value
from ..text_env import action_reader, fork, state_key

TextEnvironment = gymnasium.Env[Any, Any]
Answer = TypeVar("Answer")
_ends_at = ContextVar("ends_at", default=math.inf)
"""When the running check has to end, by `time.monotonic`."""


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    status: str
    """passed, failed, warned or skipped."""
    seen: str
    """What was observed, in one line."""
    advice: str = ""
    """What to do about it; empty if nothing."""


class CheckFailed(AssertionError):
    """The environment breaks the contract.

    Args:
        seen: what was observed.
        advice: what the author of the environment can do about it.
    """

    def __init__(self, seen: str, advice: str):
        super().__init__(f"{seen} {advice}")
        self.seen, self.advice = seen, advice


class OutOfTime(Exception):
    """The time of a check is over."""


@contextmanager
def time_budget(seconds: float) -> Iterator[None]:
    """Let calls into the environment raise `OutOfTime` once the time is over."""
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


@dataclass(frozen=True)
class Subject:
    """An environment under test and how to play it."""

    env: GuardedEnv
    given: TextEnvironment
    """The environment without our guard, to measure its speed."""
    actions: Sequence[str]
    """Texts to play at random."""
    are_all: bool
    """Whether `actions` is complete, rather than a few examples."""
    seeds: Sequence[int]
    """Puzzles to play, one episode each."""
    process: Mapping[str, frozenset[Any]]
    """The state of the process before the checks."""
    count_tokens: Callable[[str], int] | None = None
    """Returns the length of a text in a model's tokens."""


class Outcome(NamedTuple):
    """What a step returned, in a form that can be compared."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    success: bool
    legal: bool

    @property
    def is_end(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated

    def __str__(self) -> str:
        flags = [name for name in ("terminated", "truncated", "success") if getattr(self, name)]
        flags += [] if self.legal else ["not legal"]
        return ", ".join([f"{self.observation!r} with reward {self.reward:g}", *flags])


def passed(seen: str) -> Finding:
    """Report that the check passed."""
    return Finding("passed", seen)


def warned(seen: str, advice: str) -> Finding:
    """Report something that works but that the author should know."""
    return Finding("warned", seen, advice)


def skipped(seen: str, advice: str = "") -> Finding:
    """Report why there was nothing to check."""
    return Finding("skipped", seen, advice)


def require(condition: object, seen: str, advice: str) -> None:
    """Fail the check unless the condition holds.

    Raises:
        CheckFailed: if it does not.
    """
    if not condition:
        raise CheckFailed(seen, advice)


def call(
    name: str, advice: str, function: Callable[..., Answer], *args: Any, **kwargs: Any
) -> Answer:
    """Call into the environment.

    Args:
        name: the call, as the finding shows it.
        advice: what to do if it raises.
        function: what is called.
        args: its arguments.
        kwargs: its keyword arguments.

    Raises:
        CheckFailed: if the environment raises any exception.
        OutOfTime: if the time of the check is over; nothing is called then.
    """
    if time.monotonic() > _ends_at.get():
        raise OutOfTime
    try:
        return function(*args, **kwargs)
    except EnvError as error:  # raised by a guard, whose message already names the call
        raise CheckFailed(f"{error}.", advice) from error.__cause__
    except Exception as error:
        raise CheckFailed(f"{name} raised {describe_error(error)}.", advice) from error


def reset(env: TextEnvironment, seed: int | None = None) -> str:
    """Start an episode and return its first observation."""
    name = f"reset(seed={seed})"
    observation, _ = call(name, "Every seed must give a puzzle.", env.reset, seed=seed)
    return observation


def raw_step(env: TextEnvironment, text: str) -> Any:
    """Play a text and return what the environment returned, unchecked."""
    advice = (
        "Text that is no action must leave the state unchanged and set info['legal'] = False; "
        "no text that a model writes may raise."
    )
    return call(f"step({text[:50]!r})", advice, env.step, text)


def step(env: TextEnvironment, text: str) -> Outcome:
    """Play a text in an environment that passed the "api" check."""
    observation, reward, terminated, truncated, info = raw_step(env, text)
    # Tuples compare by identity first, so the object math.nan equals itself; other NaNs do not.
    reward = math.nan if math.isnan(float(reward)) else float(reward)
    success, legal = read_flag(info, "success", False), read_flag(info, "legal", True)
    return Outcome(observation, reward, bool(terminated), bool(truncated), success, legal)


def read_flag(info: Mapping[str, Any], name: str, default: bool) -> bool:
    """Read a flag of `info`; one that is none is False, and the "info" check reports it."""
    flag = info.get(name, default)
    return bool(flag) if isinstance(flag, bool | int | np.bool_) else False


def play(env: TextEnvironment, texts: Sequence[str]) -> list[Outcome]:
    """Play the texts until they or the episode end."""
    outcomes: list[Outcome] = []
    for text in texts:
        outcomes.append(step(env, text))
        if outcomes[-1].is_end:
            break
    return outcomes


def random_steps(subject: Subject, max_steps: int = 100) -> Iterator[tuple[str, Any]]:
    """Play an episode of every puzzle at random; yield each text and what `step` returned.

    It reads only the flags `terminated` and `truncated` of what `step` returned.
    """
    for seed in subject.seeds:
        yield from random_episode(subject, seed, max_steps)


def random_episode(subject: Subject, seed: int, max_steps: int = 100) -> Iterator[tuple[str, Any]]:
    """Play one puzzle at random; yield as `random_steps` does."""
    rng = random.Random(seed)
    reset(subject.env, seed)
    for _ in range(max_steps):
        text = rng.choice(subject.actions)
        given = raw_step(subject.env, text)
        yield text, given
        if given[2] or given[3]:
            break


def canonical_action(env: TextEnvironment, text: str, default: str | None) -> str | None:
    """Return the canonical spelling of an action; `default` if the env has no such method."""
    read = action_reader(env)
    if read is None:
        return default
    advice = "It must return None for text that is no action."
    return call(f"canonical_action({text[:50]!r})", advice, read, text)


def read_state_key(env: TextEnvironment) -> Hashable:
    """Return the state's key.

    Raises:
        CheckFailed: if it raises, or cannot be hashed or compared.
    """
    advice = "It must work at any time after reset(). Build it from tuples, strings and numbers."
    key, again = (call("state_key()", advice, state_key, env) for _ in range(2))
    try:
        hash(key)
    except TypeError as error:
        seen = f"state_key() must be hashable, got {describe_value(key)}."
        raise CheckFailed(seen, advice) from error
    is_equal = call("The comparison of two keys", advice, lambda: bool(key == again))
    seen = f"state_key() gave {describe_value(key)}, and again {describe_value(again)}."
    require(is_equal, seen, advice)
    return key


def fork_env(env: TextEnvironment, reseed: int | None = None) -> TextEnvironment:
    """Copy the environment as the samplers do."""
    advice = (
        "Give the environment a fork() that returns a copy, or keep things that cannot be copied "
        "out of it, such as locks, files and connections."
    )
    return call("fork(env)", advice, fork, env, reseed)


def show_range(numbers: list[int]) -> str:
    """Write the range from smallest to largest.

    >>> show_range([3, 1]), show_range([2, 2])
    ('1 to 3', '2')
    """
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
