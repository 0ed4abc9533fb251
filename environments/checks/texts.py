"""Checks of an environment's texts: what it shows, and what it does with answers."""

import random
import re
import string
import unicodedata
from typing import Any

import gymnasium
from gymnasium.spaces import Text

from ..copying import layers
from ..descriptions import describe_value
from ..text_env import action_reader, has_state_key, scripted_player, tool_specs
from .subject import (
    CheckFailed,
    Finding,
    Subject,
    TextEnvironment,
    call,
    canonical_action,
    passed,
    random_steps,
    read_flag,
    read_state_key,
    require,
    reset,
    show_range,
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
EXAMPLES_ADVICE = (
    "set text_spec.examples to some that can be read, or pass some: "
    "check_text_env(actions=[...]), check-env --action TEXT."
)


def check_observations(subject: Subject) -> Finding:
    """Every observation is readable text within its space."""
    texts = [reset(subject.env, seed) for seed in subject.seeds]
    texts += [given[0] for _, given in random_steps(subject)]
    space = subject.env.observation_space
    for text in texts:
        require(text.strip(), "An observation was empty.", "Always describe the current state.")
        _require_content(text)
        control = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")}
        require(
            not control,
            f"An observation contained control characters: {sorted(control)}.",
            "Leave out colours, tabs and cursor codes: a model reads them as symbols.",
        )
        reason = why_outside(text, space)
        require(
            not reason,
            f"An observation was outside its space: {reason}. It was {describe_value(text)}.",
            "Fit observation_space: Text(max_length, min_length=0, charset=string.printable).",
        )
    seen = f"{show_range([len(text) for text in texts])} characters"
    if subject.count_tokens is not None:
        seen += f", {show_range([subject.count_tokens(text) for text in texts])} tokens"
    return passed(seen)


def _require_content(text: str) -> None:
    """The text is not what Python writes for a missing value, a number or an object."""
    require(
        text.strip() != "None",
        "An observation was the text 'None': render() returned None, or a part of it is missing.",
        "Return the text from render(), or take 'ansi' out of metadata['render_modes'], so that "
        "the numbers are shown; observation_text() of a TextAdapter can also write it.",
    )
    wrong = _NO_NUMBER.search(text) or _OBJECT.search(text)
    require(
        wrong is None,
        f"An observation contained {wrong[0] if wrong else ''!r}: {describe_value(text)}.",
        "Compute numbers that are finite, and write what an object means instead of the object.",
    )


_NO_NUMBER = re.compile(r"(?<![\w'-])(?:nan|NaN)(?![\w'-])")
"""A number that is none."""
_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")
"""An object without a text of its own."""


def why_outside(text: str, space: gymnasium.Space[Any]) -> str:
    """Say why a space does not contain a text; empty if it does.

    >>> why_outside("go on", Text(10))
    "it has ' ', but the charset of Text(10) is letters and digits only, Gymnasium's default"
    """
    if space.contains(text):
        return ""
    if not isinstance(space, Text):
        return f"{space} holds no text"
    name = f"Text({space.max_length})"
    characters = "".join(sorted({*text} - {*space.character_set}))
    if characters:
        is_default = {*space.character_set} == {*string.ascii_letters, *string.digits}
        words = "letters and digits only, Gymnasium's default" if is_default else "another"
        return f"it has {characters[:20]!r}, but the charset of {name} is {words}"
    return f"it has {len(text)} characters, but {name} has {space.min_length} to {space.max_length}"


def check_actions(subject: Subject) -> Finding:
    """Every listed action can be read, has one canonical spelling, and is legal somewhere."""
    env = subject.env
    reset(env, subject.seeds[0])
    unreadable = [t for t in subject.actions if canonical_action(env, t, default=t) is None]
    reason = next(filter(None, (_why_refused(env, text) for text in unreadable)), "")
    require(
        not reason,
        f"Actions must be readable, but {unreadable[:1]} is outside its space: {reason}.",
        "Fit action_space: Text(max_length, charset=string.printable).",
    )
    is_form = subject.are_all and unreadable == subject.actions and len(unreadable) == 1
    require(
        not is_form,
        f"{unreadable} is no action, so there is nothing to play.",
        f"If actions are free text, {EXAMPLES_ADVICE}",
    )
    require(
        not unreadable,
        f"Actions must be readable, but these are not: {unreadable}.",
        f"If text_spec.actions is not a list of names, {EXAMPLES_ADVICE}",
    )
    for text in subject.actions:
        canonical = canonical_action(env, text, default=text)
        again = canonical_action(env, canonical or "", default=canonical)
        require(
            isinstance(canonical, str) and canonical == again,
            f"canonical_action({text!r}) gave {canonical!r}, which reads as {again!r}.",
            "A canonical action must be a str that reads as itself.",
        )
    _require_player(env)
    if subject.are_all and len(subject.actions) == 1:
        seen = f"{subject.actions[0]!r} was the only text to play"
        return warned(seen, f"If actions are free text, {EXAMPLES_ADVICE}")
    legal = {text for text, given in random_steps(subject) if read_flag(given[4], "legal", True)}
    actions = dict.fromkeys(subject.actions)
    never = [text for text in actions if text not in legal]
    if never and subject.are_all:
        advice = "Check that info['legal'] is right; more episodes may also help."
        return warned(f"readable, but never legal in random play: {never}", advice)
    return passed(f"{len(actions)} actions readable, {len(actions) - len(never)} seen as legal")


def _require_player(env: TextEnvironment) -> None:
    """The first answer of a scripted player, if there is one, can be read."""
    play = scripted_player(env)
    if play is None:
        return
    advice = "It takes a random.Random, and returns an action as a player would write it, or None."
    answer = call("scripted_action()", advice, play, random.Random(0))
    is_read = isinstance(answer, str) and canonical_action(env, answer, default=answer) is not None
    seen = f"scripted_action() gave {describe_value(answer)}, which is no action."
    require(answer is None or is_read, seen, advice)


def _why_refused(env: TextEnvironment, text: str) -> str:
    """Say which text space around or below the environment refuses an action; empty if none."""
    spaces = [getattr(layer, "action_space", None) for layer in layers(env)]
    reasons = [why_outside(text, space) for space in spaces if isinstance(space, Text)]
    return next((reason for reason in reasons if "charset" in reason), "")


def check_garbage(subject: Subject) -> Finding:
    """Text that is no action raises nothing, changes nothing and sets `info["legal"] = False`."""
    env, num_texts = subject.env, 0
    reset(env, subject.seeds[0])
    has_key = _key_or_none(env) is not None
    for text in BAD_TEXTS:
        before = reset(env, subject.seeds[0])
        key = _key_or_none(env) if has_key else None
        outcome = step(env, text)
        is_action = canonical_action(env, text, default=None) is not None
        if is_action or (action_reader(env) is None and outcome.legal):  # free text
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
