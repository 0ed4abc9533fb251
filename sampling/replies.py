"""Reads the actions of a response: what it gives as an answer, and which actions the texts name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from ..agents.engines.base import Completion
from ..agents.parsing import bare_action, find_answer, read_answer, split_actions
from ..agents.prompts import PromptStyle
from ..agents.tool_prompts import ToolPromptStyle
from ..environments import EnvError
from ..environments.available import spell
from ..environments.text_env import action_reader, text_spec

NONSENSE = "§ no action §"
"""A text that is an action only in games where every text is."""


@dataclass(frozen=True)
class ReplyReader:
    """Reads responses to the prompts of a style."""

    style: PromptStyle
    is_strict: bool = True
    """Whether only the exact format of an answer is read (`model.answer_format`)."""
    prefill: str = ""
    """The first text of every reply, which its prompt ends with."""

    @property
    def plays_nonsense(self) -> bool:
        """Whether a response without an action is played: a tool says what is wrong with it."""
        return isinstance(self.style, ToolPromptStyle)

    def read(
        self, env: gymnasium.Env[Any, Any], completion: Completion, available: Sequence[str] = ()
    ) -> tuple[list[str], bool]:
        """Return the canonical actions up to the first unknown one, and whether all are known.

        Args:
            env: the environment, which reads the texts.
            completion: the response.
            available: actions that the environment lists now, if it does.

        Raises:
            EnvError: if a guarded environment fails.
        """
        if isinstance(self.style, ToolPromptStyle):
            return self._known(env, self.style.read_calls(completion.text), available)
        reply = self.prefill + completion.text
        if self.is_strict:
            answer = read_answer(reply, self.style.thinking) or ""
        else:
            answer = find_answer(reply, completion.finish_reason != "length") or ""
        read = self._known(env, self._split(answer), available)
        if self.is_strict or self.style.actions_per_turn == 1 or read[1]:
            return read
        bare = bare_action(answer)  # quotes may enclose all the actions
        inside = self._known(env, self._split(bare), available) if bare != answer else read
        return inside if inside[1] else read

    def _split(self, answer: str) -> list[str]:
        return split_actions(answer, self.style.actions_per_turn)

    def _known(
        self, env: gymnasium.Env[Any, Any], given: list[str], available: Sequence[str]
    ) -> tuple[list[str], bool]:
        actions: list[str] = []
        for text in given:
            canonical = canonical_action(env, text, available)
            if canonical is None and not self.is_strict and (bare := bare_action(text)) != text:
                canonical = canonical_action(env, bare, available)
            if canonical is None:
                break
            actions.append(canonical)
        return actions, bool(given) and len(actions) == len(given)


def canonical_action(
    env: gymnasium.Env[Any, Any], text: str, available: Sequence[str] = ()
) -> str | None:
    """Return the canonical spelling of an action, or None if the text names no action.

    An available action is spelled as it is listed. Any other text is read by the environment; one
    without `canonical_action` takes it as it is.

    Raises:
        EnvError: if a guarded environment fails.
    """
    listed = spell(text, available)
    if listed is not None:
        return listed
    read = action_reader(env)
    return text if read is None else read(text)


def has_listed_actions(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether the actions are the names in the environment's `text_spec`, and no others."""
    spec, names = text_spec(env), []
    if spec is not None and not spec.examples:
        names = spec.listed_actions()
    try:
        are_read = all(canonical_action(env, name) == name for name in names)
        return bool(names) and are_read and canonical_action(env, NONSENSE) is None
    except EnvError:
        return False
