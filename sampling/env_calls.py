"""The calls of a turn into its environment: read the actions, copy it, step it. No tokens here.

`Player` makes them in a thread if the environment is in worker processes, where many turns are
played side by side; tokenizers are not made for threads, and stay outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium

from ..agents.engines.base import Completion
from ..environments import EnvError, fork
from ..environments.available import AVAILABLE, with_available
from ..environments.success import step_success
from .replies import ReplyReader


@dataclass(frozen=True)
class Outcome:
    """The result of one turn's actions."""

    env: gymnasium.Env[Any, Any]
    """The environment after them."""
    observation: str
    """As `Position.observation`."""
    available: tuple[str, ...] = ()
    """Actions that the environment lists, if it does."""
    actions: tuple[str, ...] = ()
    """The canonical actions up to the first unreadable one."""
    all_readable: bool = False
    num_played: int = 0
    """Actions played; fewer than given if the game ended early."""
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    success: bool = False
    legal: bool = True
    error: str = ""


def open_puzzle(env: gymnasium.Env[Any, Any], seed: int) -> Outcome:
    """Start the puzzle of a seed.

    Raises:
        EnvError: if the environment fails.
    """
    observation, info = env.reset(seed=seed)
    available = _available(info)
    return Outcome(env, with_available(observation, available), available)


def play_reply(
    before: Outcome,
    reader: ReplyReader,
    completion: Completion,
    in_place: bool = False,
    noise: int | None = None,
) -> Outcome:
    """Play the actions of a response on a copy of an environment.

    Args:
        before: the environment, which is unchanged unless `in_place`, and what it shows.
        reader: reads the actions.
        completion: the response.
        in_place: step the environment itself.
        noise: seed for the copy's random generator; None keeps the generator's state.

    Returns:
        The outcome; an environment that fails gives a truncated one with an error.
    """
    actions, all_readable, env = list[str](), False, before.env
    try:
        actions, all_readable = reader.read(env, completion, before.available)
        env = env if in_place else fork(env, noise)
        error = ""
    except EnvError as failure:
        error = str(failure)
    outcome = Outcome(
        env,
        before.observation,
        before.available,
        tuple(actions),
        all_readable,
        truncated=bool(error),
        error=error,
    )
    if error:
        return outcome
    return _step(outcome, actions or ([""] if reader.plays_nonsense else []))


def _step(outcome: Outcome, actions: Sequence[str]) -> Outcome:
    """Play actions until the episode ends or none is left."""
    for action in actions:
        try:
            observation, reward, terminated, truncated, info = outcome.env.step(action)
        except EnvError as error:
            return replace(outcome, truncated=True, error=str(error))
        available = () if terminated or truncated else _available(info)
        outcome = Outcome(
            outcome.env,
            with_available(observation, available),
            available,
            outcome.actions,
            outcome.all_readable,
            outcome.num_played + 1,
            outcome.reward + float(reward),
            terminated,
            truncated,
            step_success(info, float(reward), terminated),
            outcome.legal and bool(info.get("legal", True)),
        )
        if terminated or truncated:
            break
    return outcome


def _available(info: dict[str, Any]) -> tuple[str, ...]:
    return tuple(info.get(AVAILABLE, ()))
