"""The conformance suite for text environments, ours and anybody's: `check_text_env(env)`.

A test of three lines is all that an environment of your own needs:

    def test_my_env():
        check_text_env(gymnasium.make("my_pkg:MyEnv-v0"), actions=["north", "south"])
"""

import math
import random
from collections.abc import Hashable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Text

from .text_env import fork, state_key

BAD_TEXTS = (
    "",
    " \n",
    "hello",
    "no such action " * 1000,
    "9**9**9**9",
    "9" * 10_000,
    "((((" * 5000,
    "__import__('os')",
    "\0√∀🙂",
)
"""Things that a language model may say and no environment may stumble over."""
MAX_STEPS = 10_000
"""Actions within which an episode must end."""

TextEnvironment = gymnasium.Env[Any, Any]
Outcome = tuple[Any, ...]
"""Observation, reward, terminated, truncated, success, legal."""


def check_text_env(
    env: TextEnvironment, num_episodes: int = 3, seed: int = 0, actions: Sequence[str] | None = None
) -> None:
    """Check that an environment keeps the text contract.

    Spaces, observations and info; a puzzle that is its seed; text that is no action; forks, state
    keys, canonical actions and pictures where the environment has them.

    Args:
        env: the environment, with or without wrappers.
        num_episodes: episodes to play, each on a puzzle of its own.
        seed: the first puzzle.
        actions: texts that the environment can read, to be played at random. By default the names
            that its `text_spec.actions` lists, separated by commas.

    Raises:
        AssertionError: if it does not; the message says what is wrong and what to do.
    """
    _check_spaces(env)
    actions = _readable_actions(env, actions)
    for episode in range(num_episodes):
        rng = random.Random(seed + episode)
        _check_seeding(env, seed + episode, rng.choices(actions, k=20))
        _check_bad_texts(env, seed + episode)
        _check_episode(env, seed + episode, actions, rng)
        _check_forks(env, seed + episode, actions, rng)
    _check_canonical_actions(env, actions)
    _check_render(env, seed)


def _require(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _check_spaces(env: TextEnvironment) -> None:
    for name in ("observation_space", "action_space"):
        space = getattr(env, name)
        _require(isinstance(space, Text), f"{name} must be a gymnasium.spaces.Text, got {space}.")
    for name in ("instruction", "legend", "actions"):
        words = getattr(getattr(env.unwrapped, "text_spec", None), name, None)
        _require(
            isinstance(words, str),
            f"text_spec.{name} must be a str, got {words!r}. Set text_spec = TextSpec(instruction="
            "..., legend=..., actions=...): a player is told nothing else.",
        )


def _readable_actions(env: TextEnvironment, actions: Sequence[str] | None) -> Sequence[str]:
    names = env.unwrapped.text_spec.actions.split(",")  # pyright: ignore[reportAttributeAccessIssue]
    actions = [name.strip() for name in names] if actions is None else actions
    unreadable = [text for text in actions if _canonical(env, text, default=text) is None]
    _require(
        actions and not unreadable,
        f"Actions must be readable, but these are not: {unreadable}. "
        "Pass check_text_env(actions=[...]) texts that the environment can read.",
    )
    return actions


def _canonical(env: TextEnvironment, text: str, default: str | None) -> str | None:
    read = getattr(env.unwrapped, "canonical_action", None)
    return default if read is None else read(text)


def _key(env: TextEnvironment) -> Hashable:
    """Return the state's key, None for an environment that has none."""
    key = state_key(env) if hasattr(env.unwrapped, "state_key") else None
    try:
        hash(key)
    except TypeError as error:
        raise AssertionError(f"state_key() must be hashable, got {key!r}: use tuples.") from error
    return key


def _reset(env: TextEnvironment, seed: int | None = None) -> str:
    observation, info = env.reset(seed=seed)
    _check_observation(env, observation, "reset")
    _require(isinstance(info, dict), f"reset() must return an info dict, got {info!r}.")
    return observation


def _check_observation(env: TextEnvironment, observation: Any, source: str) -> None:
    _require(
        isinstance(observation, str),
        f"{source}() must return a str as observation, got {type(observation).__name__}.",
    )
    _require(
        env.observation_space.contains(observation),
        f"{source}() returned an observation outside {env.observation_space}. Set its charset, "
        f"max_length and min_length=0 to fit: {observation!r}.",
    )


def _step(env: TextEnvironment, action: str) -> Outcome:
    try:
        observation, reward, terminated, truncated, info = env.step(action)
    except Exception as error:
        raise AssertionError(
            f"step({action[:50]!r}) raised {error!r}. Text that is no action must leave the state "
            "as it is and set info['legal'] = False."
        ) from error
    _check_observation(env, observation, "step")
    _require(math.isfinite(float(reward)), f"The reward must be a finite number, got {reward!r}.")
    flags = {"terminated": terminated, "truncated": truncated}
    flags |= {f"info[{name!r}]": info.get(name) for name in ("success", "legal")}
    for name, flag in flags.items():
        _require(
            isinstance(flag, bool | np.bool_),
            f"step({action[:50]!r}) must give {name} as a bool, got {flag!r}.",
        )
    success = info["success"]
    _require(terminated or not success, "A won game must be over: success without terminated.")
    return observation, float(reward), terminated, truncated, success, info["legal"]


def _play(env: TextEnvironment, actions: Sequence[str]) -> list[Outcome]:
    """Play until the episode or the actions end."""
    outcomes = []
    for action in actions:
        outcomes.append(_step(env, action))
        if outcomes[-1][2] or outcomes[-1][3]:
            break
    return outcomes


def _check_seeding(env: TextEnvironment, seed: int, actions: Sequence[str]) -> None:
    first, first_outcomes = _reset(env, seed), _play(env, actions)
    _reset(env)
    second, second_outcomes = _reset(env, seed), _play(env, actions)
    _require(
        first == second and first_outcomes == second_outcomes,
        f"reset(seed={seed}) with the same actions gave two different episodes. Draw every random "
        "number from self.np_random, and call super().reset(seed=seed) first.",
    )


def _check_bad_texts(env: TextEnvironment, seed: int) -> None:
    for text in BAD_TEXTS:
        before, key = _reset(env, seed), _key(env)
        after, _, _, _, success, is_legal = _step(env, text)
        if _canonical(env, text, default=None) is not None:
            continue
        _require(
            not is_legal and not success,
            f"{text[:50]!r} is no action, but step() gave legal={is_legal}, success={success}.",
        )
        _require(
            before == after and key == _key(env),
            f"{text[:50]!r} is no action, but step() changed the state.",
        )


def _check_episode(
    env: TextEnvironment, seed: int, actions: Sequence[str], rng: random.Random
) -> None:
    _reset(env, seed)
    for _ in range(MAX_STEPS):
        _, _, terminated, truncated, _, _ = _step(env, rng.choice(actions))
        if terminated or truncated:
            return
    raise AssertionError(f"The episode did not end within {MAX_STEPS} actions: set a step limit.")


def _check_forks(
    env: TextEnvironment, seed: int, actions: Sequence[str], rng: random.Random
) -> None:
    _reset(env, seed)
    for depth in range(3):
        future, other = rng.choices(actions, k=10), rng.choices(actions, k=10)
        key, twin, sibling, late_sibling = _key(env), fork(env), fork(env), fork(env)
        _require(
            key == _key(twin),
            f"A fork must have the original's state_key(), got {_key(twin)!r}, not {key!r}.",
        )
        expected = _play(twin, future)
        _play(sibling, other)
        _require(
            fork(env).reset()[0] == fork(env).reset()[0],
            "Two forks started different puzzles at reset(): they share a random generator.",
        )
        _require(key == _key(env), f"Stepping a fork changed the original after {depth} actions.")
        _require(
            _play(late_sibling, future) == expected,
            f"After {depth} actions two forks parted under the same actions. Copy all that step() "
            "changes, the random generator too.",
        )
        outcome = _step(env, future[0])
        _require(
            outcome == expected[0],
            f"After {depth} actions the original gave {outcome} and its fork {expected[0]}. Copy "
            "all that step() changes, the random generator too.",
        )
        if outcome[2] or outcome[3]:
            return


def _check_canonical_actions(env: TextEnvironment, actions: Sequence[str]) -> None:
    for text in actions:
        canonical = _canonical(env, text, default=text)
        again = None if canonical is None else _canonical(env, canonical, default=canonical)
        _require(
            canonical is not None and canonical == again,
            f"canonical_action({text!r}) gave {canonical!r}, which reads as {again!r}: a canonical "
            "text must read as itself.",
        )


def _check_render(env: TextEnvironment, seed: int) -> None:
    _reset(env, seed)
    for mode in env.metadata.get("render_modes", []):
        twin = fork(env)
        twin.unwrapped.render_mode = mode
        picture = twin.render()
        if mode == "ansi":
            _require(isinstance(picture, str), f"render() as ansi must be a str, got {picture!r}.")
        if mode == "rgb_array":
            shape = getattr(picture, "shape", ())
            _require(
                getattr(picture, "dtype", None) == np.uint8 and len(shape) == 3 and shape[2] == 3,
                f"render() as rgb_array must be uint8 (height, width, 3), got {type(picture)} "
                f"of shape {shape}.",
            )
