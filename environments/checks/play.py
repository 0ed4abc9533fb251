"""Checks of an environment played from `reset` to the end: texts, actions, rewards, speed."""

import math
import random
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Text

from ..adapters.adapter import TextAdapter
from ..adapters.returned import STEP, InvalidValue, checked_text
from ..descriptions import describe_value
from ..success import reported_success
from ..success_probe import ProbedEpisode, refute_guess
from ..text_env import max_steps, text_spec
from .subject import (
    CheckFailed,
    Finding,
    Subject,
    TextEnvironment,
    call,
    fork_env,
    passed,
    random_episode,
    random_steps,
    raw_step,
    require,
    reset,
    show_range,
    skipped,
    step,
    warned,
)

MAX_STEPS = 10_000
"""Number of actions within which an episode must end, if the environment has no limit."""
CLAIMS: dict[str, tuple[Any, str]] = {
    "is_deterministic": (bool | np.bool_, "True or False"),
    "max_steps": (int | np.integer, "an int"),
    "num_targets": (int | np.integer, "an int"),
    "num_puzzles": (Mapping, "a dict"),
    "state_key": (Callable, "a method"),
    "canonical_action": (Callable, "a method"),
    "scripted_action": (Callable, "a method"),
}
"""Optional attributes, and of what kind they must be."""
PICTURES = {"ansi": "a str", "rgb_array": "uint8 (height, width, 3)"}
"""Render modes that are checked, and what they return."""
SLOWEST = {"steps": 100, "forks": 100, "resets": 10}
"""Rates per second below which an environment keeps the policy waiting."""
SUCCESS_ADVICE = (
    "Set info['success'], give a TextAdapter an is_success(), or choose a rule: "
    "env.success=terminated, env.success=truncated, 'env.success=return>=N' or "
    "'env.success=reward>N'."
)
SPEED_SECONDS = 0.5
"""How long the speed is measured."""


def check_api(subject: Subject) -> Finding:
    """Gymnasium's contract with text on both sides: spaces, `text_spec`, `reset`, `step`."""
    _require_spaces(subject.env)
    _require_reset(subject)
    num_steps = 0
    reset(subject.env, subject.seeds[0])
    _require_step(raw_step(subject.env, subject.actions[0]))
    for _, given in random_steps(subject):
        _require_step(given)
        num_steps += 1
    return passed(f"{num_steps} steps in {len(subject.seeds)} episodes")


def _require_spaces(env: TextEnvironment) -> None:
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        require(
            isinstance(space, Text),
            f"{name} must be a gymnasium.spaces.Text, got {space}.",
            "A language model reads and writes text: use text spaces, or derive from TextGame.",
        )
    _require_claims(env.unwrapped)
    for name in ("instruction", "legend", "actions"):
        text = getattr(text_spec(env), name, None)
        require(
            isinstance(text, str) and "\n" not in text and (text or name == "legend"),
            f"text_spec.{name} must be a str of one line, got {text!r}.",
            "Set text_spec = TextSpec(instruction=..., legend=..., actions=...): the player sees "
            "nothing else.",
        )


def _require_claims(game: Any) -> None:
    """The optional attributes are of the right kind and stay as they are."""
    for name, (kind, words) in CLAIMS.items():
        if not hasattr(game, name):
            continue
        claim, again = getattr(game, name), getattr(game, name)
        shown = describe_value(claim)
        advice = "Training would ignore it: leave it out if there is nothing to say."
        require(isinstance(claim, kind), f"{name} must be {words}, got {shown}.", advice)
        seen = f"{name} changed from {shown} to {describe_value(again)}."
        require(claim == again, seen, "It is read once.")


def _require_reset(subject: Subject) -> None:
    advice = "It must take (*, seed=None, options=None) and call super().reset(seed=seed) first."
    for options in (None, {}):
        given = call("reset()", advice, subject.env.reset, seed=subject.seeds[0], options=options)
        require(
            isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict),
            f"reset() must return (observation, info), got {describe_value(given)}.",
            "Return the observation and a dict.",
        )
        _require_text(given[0], "reset")


def _require_text(observation: Any, source: str) -> None:
    try:
        checked_text(observation, "observation")
    except InvalidValue as error:
        advice = "Describe the state in words, or draw it with characters."
        raise CheckFailed(f"{source}() {error}.", advice) from error


def _require_step(given: Any) -> None:
    is_step = isinstance(given, tuple) and len(given) == 5 and isinstance(given[4], dict)
    require(
        is_step,
        f"step() must return {STEP}, got {describe_value(given)}.",
        "Return these five, info as a dict; the old package gym returned four.",
    )
    _require_text(given[0], "step")
    for name, flag in zip(("terminated", "truncated"), given[2:4], strict=True):
        require(
            isinstance(flag, bool | np.bool_),
            f"step() must give {name} as a bool, got {describe_value(flag)}.",
            "terminated: the game is won or lost; truncated: a limit cut it off.",
        )
    seen = f"The reward must be a number, got {describe_value(given[1])}."
    require(hasattr(given[1], "__float__"), seen, "Return a float.")
    try:
        float(given[1])
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckFailed(seen, "Return a float.") from error


def check_rewards(subject: Subject) -> Finding:
    """Every reward is a finite number."""
    rewards = [float(given[1]) for _, given in random_steps(subject)]
    wrong = [reward for reward in rewards if not math.isfinite(reward)]
    require(
        not wrong,
        f"The reward must be a finite number, got {wrong[:1]}.",
        "One such number spoils the mean reward of its whole group.",
    )
    return passed(f"{min(rewards):g} to {max(rewards):g} in random play")


def check_info(subject: Subject) -> Finding:
    """Every step says whether it succeeded and was legal, and a won game is over."""
    success, played = subject.env.success, list[ProbedEpisode]()
    num_won, is_reported = 0, success.source == "setting"
    for seed in subject.seeds:
        rewards, terminated, is_won = list[float](), False, False
        for text, (_, reward, terminated, truncated, info) in random_episode(subject, seed):
            rewards.append(float(reward))
            _require_flag(text, info, "legal")
            flag = reported_success(info)
            if flag is None and not isinstance(subject.env.unwrapped, TextAdapter):
                is_set = success.source == "setting"
                require(is_set, *_missing_flag(text, info, "success"))
            is_reported |= flag is not None
            require(
                terminated or not flag or success.source == "setting",
                "A won game must be over, but a step set success without terminated.",
                "Set terminated = True when the game is won.",
            )
            total = math.fsum(rewards)
            is_won = success.of_step(rewards[-1], total, terminated, truncated, info)
        num_won += is_won
        played.append(ProbedEpisode(tuple(rewards), bool(terminated)))
    won = f"{num_won} of {len(subject.seeds)} games won"
    if is_reported:
        return passed(f"success and legal in every step; {won}")
    reason = refute_guess(played) if success.source == "guess" else ""
    require(not reason, f"The rewards do not say what success is: {reason}.", SUCCESS_ADVICE)
    source = "" if success.source == "guess" else f", the {success.source}"
    return passed(f"success is taken to be {success.rule}{source}; {won}")


def _require_flag(text: str, info: Mapping[str, Any], name: str) -> None:
    is_flag = isinstance(info.get(name), bool | np.bool_)
    require(is_flag, *_missing_flag(text, info, name))


def _missing_flag(text: str, info: Mapping[str, Any], name: str) -> tuple[str, str]:
    """What is wrong with a flag, and what to do."""
    shown = describe_value(info.get(name))
    return (
        f"step({text[:50]!r}) must give info[{name!r}] as a bool, got {shown}.",
        "success: the game is won; legal: the text was an action that the rules allow.",
    )


def check_episode_end(subject: Subject) -> Finding:
    """Random play ends within the limit; one step more does not raise, and `reset` starts over."""
    env = subject.env
    limit = _step_limit(env)
    lengths, terminated = [], 0
    for seed in subject.seeds:
        rng = random.Random(seed)
        start, outcome = reset(env, seed), None
        lengths.append(0)
        while lengths[-1] < limit and (outcome is None or not outcome.is_end):
            outcome = step(env, rng.choice(subject.actions))
            lengths[-1] += 1
        require(
            outcome is not None and outcome.is_end,
            f"The episode did not end within {limit} actions.",
            "Count the actions and return truncated = True at a limit named max_steps.",
        )
        terminated += outcome is not None and outcome.terminated
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium's own games warn about a step too many
            step(env, rng.choice(subject.actions))
        require(
            reset(env, seed) == start,
            f"After an episode, reset(seed={seed}) started a different puzzle than before it.",
            "reset() must restore everything that step() changes.",
        )
    num = len(lengths)
    seen = f"{show_range(lengths)} actions per episode; {terminated} of {num} ended by the game"
    return passed(seen)


def _step_limit(env: TextEnvironment) -> int:
    """Return the environment's own limit, else `MAX_STEPS`."""
    limits = (max_steps(env), env.spec.max_episode_steps if env.spec else None)
    return min([limit for limit in limits if isinstance(limit, int)], default=MAX_STEPS)


def check_pictures(subject: Subject) -> Finding:
    """`render` returns what its modes promise."""
    reset(subject.env, subject.seeds[0])
    modes = [mode for mode in subject.env.metadata.get("render_modes", []) if mode in PICTURES]
    drawn = [mode for mode in modes if _draws(subject.env, mode)]
    if not drawn:
        return skipped(f"no picture in mode {' or '.join(PICTURES)}")
    return passed(", ".join(drawn))


def _draws(env: TextEnvironment, mode: str) -> bool:
    """Return whether a mode gives a picture; fail if it is not of the promised kind."""
    chosen, env.unwrapped.render_mode = env.unwrapped.render_mode, mode
    advice = "Return that, or leave the mode out of metadata['render_modes']."
    try:
        picture = call(f"render() as {mode}", advice, env.render)
    except CheckFailed as failure:
        if isinstance(failure.__cause__, NotImplementedError):  # pictures are optional
            return False
        raise
    finally:
        env.unwrapped.render_mode = chosen
    is_picture = isinstance(picture, str)
    if mode == "rgb_array":
        shape = getattr(picture, "shape", ())
        is_picture = len(shape) == 3 and shape[2] == 3
        is_picture = is_picture and getattr(picture, "dtype", None) == np.uint8
    what = f"render() as {mode} must be {PICTURES[mode]}, got {type(picture).__name__}."
    require(is_picture, what, advice)
    return True


def check_speed(subject: Subject) -> Finding:
    """Steps, forks and resets per second, against rates that would keep the policy waiting."""
    rates = _measure_rates(subject)
    slow = [name for name, rate in rates.items() if rate < SLOWEST[name]]
    seen = ", ".join(f"{float(f'{rate:.2g}'):,.0f} {name}/s" for name, rate in rates.items())
    if not slow:
        return passed(seen)
    advice = f"Make {' and '.join(slow)} faster: the policy waits for them."
    if "forks" in slow:
        advice += " A fork() of your own needs to copy only the state."
    return warned(seen, advice)


def _measure_rates(subject: Subject) -> dict[str, float]:
    """Measure steps, forks and resets per second."""
    env, rng = subject.given, random.Random(0)
    spent = dict.fromkeys(SLOWEST, 0.0)
    counts = dict.fromkeys(SLOWEST, 0)

    def timed(name: str, act: Callable[..., Any], *arguments: Any) -> Any:
        before = time.perf_counter()
        result = act(*arguments)
        spent[name] += time.perf_counter() - before
        counts[name] += 1
        return result

    while sum(spent.values()) < SPEED_SECONDS:
        timed("resets", reset, env, rng.randrange(1000))
        for _ in range(20):
            timed("forks", fork_env, env)
            if timed("steps", step, env, rng.choice(subject.actions)).is_end:
                break
    return {name: counts[name] / spent[name] for name in SLOWEST}
