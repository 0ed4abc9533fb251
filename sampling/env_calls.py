"""The calls of a turn into its environment: read the actions, copy it, step it. No tokens here.

`Player` makes them in a thread if the environment is in worker processes, where many turns are
played side by side; tokenizers are not made for threads, and stay outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium

from ..environments import EnvError, fork
from ..environments.text_env import action_reader


@dataclass(frozen=True)
class Outcome:
    """The result of one turn's actions."""

    env: gymnasium.Env[Any, Any]
    """The environment after them."""
    observation: str
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


def play_actions(
    env: gymnasium.Env[Any, Any],
    texts: Sequence[str],
    observation: str,
    in_place: bool = False,
    noise: int | None = None,
) -> Outcome:
    """Play the actions that some texts name, on a copy of an environment.

    Args:
        env: the environment; unchanged unless `in_place`.
        texts: what the response gives as actions.
        observation: what the environment shows now.
        in_place: step the environment itself.
        noise: seed for the copy's random generator; None keeps the generator's state.

    Returns:
        The outcome; an environment that fails gives a truncated one with an error.
    """
    outcome = Outcome(env, observation)
    try:
        actions, all_readable = read_actions(env, texts)
        outcome = replace(outcome, actions=tuple(actions), all_readable=all_readable)
        outcome = replace(outcome, env=env if in_place else fork(env, noise))
    except EnvError as error:
        return replace(outcome, truncated=True, error=str(error))
    return _step(outcome)


def _step(outcome: Outcome) -> Outcome:
    """Play the actions of an outcome until the episode ends or none is left."""
    for action in outcome.actions:
        try:
            observation, reward, terminated, truncated, info = outcome.env.step(action)
        except EnvError as error:
            return replace(outcome, truncated=True, error=str(error))
        outcome = Outcome(
            outcome.env,
            observation,
            outcome.actions,
            outcome.all_readable,
            outcome.num_played + 1,
            outcome.reward + float(reward),
            terminated,
            truncated,
            bool(info.get("success", terminated and float(reward) > 0)),
            outcome.legal and bool(info.get("legal", True)),
        )
        if terminated or truncated:
            break
    return outcome


def read_actions(env: gymnasium.Env[Any, Any], texts: Sequence[str]) -> tuple[list[str], bool]:
    """The canonical actions up to the first unknown one, and whether all are known.

    Raises:
        EnvError: if a guarded environment fails.
    """
    actions: list[str] = []
    for text in texts:
        canonical = canonical_action(env, text)
        if canonical is None:
            break
        actions.append(canonical)
    return actions, bool(texts) and len(actions) == len(texts)


def canonical_action(env: gymnasium.Env[Any, Any], text: str) -> str | None:
    """Return the canonical spelling of an action, or None if the text names no action.

    An environment without `canonical_action` takes the text as it is.

    Raises:
        EnvError: if a guarded environment fails.
    """
    read = action_reader(env)
    return text if read is None else read(text)
