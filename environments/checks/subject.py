"""What the checks of an environment share: the subject, playing it, and how a finding is told.

Every call into the environment goes through `call`, so that whatever it raises becomes the finding
of the check that made the call.
"""

import math
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import gymnasium

from ..adapters.guard import EnvError
from ..text_env import fork, state_key

TextEnvironment = gymnasium.Env[Any, Any]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Finding:
    """What a check found out."""

    status: str
    """passed, failed, warned or skipped."""
    seen: str
    """What was observed, in a line."""
    advice: str = ""
    """What to do about it; empty where nothing needs doing."""


class CheckFailed(AssertionError):
    """The environment breaks the contract.

    Args:
        seen: what was observed.
        advice: what its author can do about it.
    """

    def __init__(self, seen: str, advice: str):
        super().__init__(f"{seen} {advice}")
        self.seen, self.advice = seen, advice


@dataclass(frozen=True)
class Subject:
    """An environment under test and how to play it."""

    env: TextEnvironment
    actions: Sequence[str]
    """Texts to play at random."""
    are_all: bool
    """Whether these are all actions that there are, and not examples."""
    seeds: Sequence[int]
    """Puzzles to play, an episode each."""
    count_tokens: Callable[[str], int] | None = None
    """The length of a text in a model's tokens."""


class Outcome(NamedTuple):
    """What a step gave, in a form that compares."""

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
    """Tell that all is well."""
    return Finding("passed", seen)


def warned(seen: str, advice: str) -> Finding:
    """Tell of something that works, but should be known."""
    return Finding("warned", seen, advice)


def skipped(seen: str, advice: str = "") -> Finding:
    """Tell why there was nothing to check."""
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
        name: the call, as a finding tells it.
        advice: what to do if it raises.
        function: what is called.
        args: its arguments.
        kwargs: its keyword arguments.

    Raises:
        CheckFailed: if the environment raises, whatever it may be.
    """
    try:
        return function(*args, **kwargs)
    except EnvError as error:  # what guards an environment has said it already
        raise CheckFailed(f"{error}.", advice) from error.__cause__
    except Exception as error:
        raise CheckFailed(f"{name} raised {error!r}.", advice) from error


def reset(env: TextEnvironment, seed: int | None = None) -> str:
    """Start an episode and return its first observation."""
    name = f"reset(seed={seed})"
    observation, _ = call(name, "Every seed must give a puzzle.", env.reset, seed=seed)
    return observation


def raw_step(env: TextEnvironment, text: str) -> Any:
    """Play a text and return what the environment gave, whatever it may be."""
    advice = (
        "Text that is no action must leave the state as it is and set info['legal'] = False; "
        "nothing that a model writes may raise."
    )
    return call(f"step({text[:50]!r})", advice, env.step, text)


def step(env: TextEnvironment, text: str) -> Outcome:
    """Play a text in an environment that passed the check of its API."""
    observation, reward, terminated, truncated, info = raw_step(env, text)
    # Tuples compare the one object math.nan as equal to itself, unlike any other NaN.
    reward = math.nan if math.isnan(float(reward)) else float(reward)
    success, legal = bool(info.get("success", False)), bool(info.get("legal", True))
    return Outcome(observation, reward, bool(terminated), bool(truncated), success, legal)


def play(env: TextEnvironment, texts: Sequence[str]) -> list[Outcome]:
    """Play until the episode or the texts end."""
    outcomes: list[Outcome] = []
    for text in texts:
        outcomes.append(step(env, text))
        if outcomes[-1].is_end:
            break
    return outcomes


def random_steps(subject: Subject, max_steps: int = 100) -> Iterator[tuple[str, Any]]:
    """Play an episode of every puzzle at random; yield each text and what `step` gave.

    Asks only that the first four things that `step` gives can be unpacked.
    """
    for seed in subject.seeds:
        rng = random.Random(seed)
        reset(subject.env, seed)
        for _ in range(max_steps):
            text = rng.choice(subject.actions)
            given = raw_step(subject.env, text)
            yield text, given
            if given[2] or given[3]:
                break


def canonical_action(env: TextEnvironment, text: str, default: str | None) -> str | None:
    """Return the one spelling of the action that a text names; `default` if the env has no such."""
    read = getattr(env.unwrapped, "canonical_action", None)
    if read is None:
        return default
    advice = "It must return None for text that is no action."
    return call(f"canonical_action({text[:50]!r})", advice, read, text)


def has_state_key(env: TextEnvironment) -> bool:
    """Whether the environment says what decides its future."""
    return hasattr(env.unwrapped, "state_key")


def read_state_key(env: TextEnvironment) -> Hashable:
    """Return the state's key.

    Raises:
        CheckFailed: if it raises or cannot be hashed.
    """
    key = call("state_key()", "It is asked for at any time after reset().", state_key, env)
    try:
        hash(key)
    except TypeError as error:
        advice = "Make it of tuples, strings and numbers."
        raise CheckFailed(f"state_key() must be hashable, got {key!r}.", advice) from error
    return key


def fork_env(env: TextEnvironment, reseed: int | None = None) -> TextEnvironment:
    """Copy the environment as the samplers do."""
    advice = (
        "Give the environment a fork() that returns a copy, or keep out of it what cannot be "
        "copied, such as locks, files and connections."
    )
    return call("fork(env)", advice, fork, env, reseed)
