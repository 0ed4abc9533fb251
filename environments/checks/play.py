"""Checks of an environment played from `reset` to the end: texts, actions, rewards, speed."""

import math
import random
import time
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Text

from ..adapters.returned import STEP, InvalidValue, checked_text
from ..descriptions import describe_value
from ..text_env import has_state_key, max_steps, text_spec, tool_specs
from .subject import (
    CheckFailed,
    Finding,
    Subject,
    TextEnvironment,
    call,
    canonical_action,
    fork_env,
    passed,
    random_steps,
    raw_step,
    read_flag,
    read_state_key,
    require,
    reset,
    skipped,
    step,
    warned,
)

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
"""Texts that a language model may write and every environment must survive."""
MAX_STEPS = 10_000
"""Number of actions within which an episode must end, if the environment has no limit."""
CLAIMS: dict[str, tuple[Any, str]] = {
    "is_deterministic": (bool | np.bool_, "True or False"),
    "max_steps": (int | np.integer, "an int"),
    "num_targets": (int | np.integer, "an int"),
    "num_puzzles": (Mapping, "a dict"),
    "state_key": (Callable, "a method"),
    "canonical_action": (Callable, "a method"),
}
"""Optional attributes, and of what kind they must be."""
PICTURES = {"ansi": "a str", "rgb_array": "uint8 (height, width, 3)"}
"""Render modes that are checked, and what they return."""
SLOWEST = {"steps": 100, "forks": 100, "resets": 10}
"""Rates per second below which an environment keeps the policy waiting."""
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
        "Return these five, info as a dict.",
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


def check_observations(subject: Subject) -> Finding:
    """Every observation is readable text within its space."""
    texts = [reset(subject.env, seed) for seed in subject.seeds]
    texts += [given[0] for _, given in random_steps(subject)]
    space = subject.env.observation_space
    for text in texts:
        require(text.strip(), "An observation was empty.", "Always describe the current state.")
        control = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")}
        require(
            not control,
            f"An observation contained control characters: {sorted(control)}.",
            "Leave out colours, tabs and cursor codes: a model reads them as symbols.",
        )
        require(
            space.contains(text),
            f"An observation was outside {space}: {describe_value(text)}.",
            "Set the space's charset, max_length and min_length=0 to fit.",
        )
    seen = f"{_show_range([len(text) for text in texts])} characters"
    if subject.count_tokens is not None:
        seen += f", {_show_range([subject.count_tokens(text) for text in texts])} tokens"
    return passed(seen)


def _show_range(numbers: list[int]) -> str:
    """Write the range from smallest to largest.

    >>> _show_range([3, 1]), _show_range([2, 2])
    ('1 to 3', '2')
    """
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def check_actions(subject: Subject) -> Finding:
    """Every listed action can be read, has one canonical spelling, and is legal somewhere."""
    env = subject.env
    reset(env, subject.seeds[0])
    unreadable = [t for t in subject.actions if canonical_action(env, t, default=t) is None]
    require(
        not unreadable,
        f"Actions must be readable, but these are not: {unreadable}.",
        "If text_spec.actions is not a list of names, set text_spec.examples to texts that can be "
        "read, or pass some: check_text_env(actions=[...]), check-env --action TEXT.",
    )
    for text in subject.actions:
        canonical = canonical_action(env, text, default=text)
        again = canonical_action(env, canonical or "", default=canonical)
        require(
            isinstance(canonical, str) and canonical == again,
            f"canonical_action({text!r}) gave {canonical!r}, which reads as {again!r}.",
            "A canonical action must be a str that reads as itself.",
        )
    legal = {text for text, given in random_steps(subject) if read_flag(given[4], "legal", True)}
    actions = dict.fromkeys(subject.actions)
    never = [text for text in actions if text not in legal]
    if never and subject.are_all:
        advice = "Check that info['legal'] is right; more episodes may also help."
        return warned(f"readable, but never legal in random play: {never}", advice)
    return passed(f"{len(actions)} actions readable, {len(actions) - len(never)} seen as legal")


def check_garbage(subject: Subject) -> Finding:
    """Text that is no action raises nothing, changes nothing and sets `info["legal"] = False`."""
    env, num_texts = subject.env, 0
    reset(env, subject.seeds[0])
    has_key = _key_or_none(env) is not None
    for text in BAD_TEXTS:
        before = reset(env, subject.seeds[0])
        key = _key_or_none(env) if has_key else None
        outcome = step(env, text)
        if canonical_action(env, text, default=None) is not None:
            continue
        num_texts += 1
        require(
            not outcome.legal and not outcome.success,
            f"{text[:50]!r} is no action, but step() gave legal={outcome.legal}, "
            f"success={outcome.success}.",
            "Set info['legal'] = False; or if it is an action, make canonical_action() read it.",
        )
        same = before == outcome.observation or bool(tool_specs(env))  # a tool says what is wrong
        require(
            same and (key is None or key == _key_or_none(env)),
            f"{text[:50]!r} is no action, but step() changed the state.",
            "Return the same observation and change nothing except the number of steps.",
        )
    return passed(f"{num_texts} texts that are no action changed nothing")


def _key_or_none(env: TextEnvironment) -> Any:
    """Return the state's key; None if it has none or a broken one, which another check reports."""
    try:
        return read_state_key(env) if has_state_key(env) else None
    except CheckFailed:
        return None


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
    """Every step sets `info["success"]` and `info["legal"]`, and a won game is over."""
    num_won = 0
    for text, (_, _, terminated, _, info) in random_steps(subject):
        for name in ("success", "legal"):
            require(
                isinstance(info.get(name), bool | np.bool_),
                f"step({text[:50]!r}) must give info[{name!r}] as a bool, got "
                f"{describe_value(info.get(name))}.",
                "success: the game is won; legal: the text was an action that the rules allow.",
            )
        require(
            terminated or not info["success"],
            "A won game must be over, but a step set success without terminated.",
            "Set terminated = True when the game is won.",
        )
        num_won += bool(info["success"])
    return passed(f"success and legal in every step; {num_won} of {len(subject.seeds)} games won")


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
    seen = f"{_show_range(lengths)} actions per episode; {terminated} of {num} ended by the game"
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
