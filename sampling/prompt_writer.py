"""Writes the prompts of a game: what is shown of its turns, and what is left out of a long one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from ..agents.chat import Chat
from ..agents.prompts import PromptStyle, ShortStyle
from ..agents.tool_prompts import ToolPromptStyle
from ..configs.errors import SettingError
from ..environments.text_env import text_spec, tool_specs
from .prompt_cut import shorten


@dataclass(frozen=True)
class Past:
    """A finished turn, as later prompts may show it."""

    observation: str
    """As its own prompt showed it."""
    turn: int
    actions_left: int
    response_ids: tuple[int, ...]
    reward: float


Place = tuple[str, int, int]
"""An observation, the number of its turn and the actions left."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what it shows."""

    ids: tuple[int, ...]
    history: tuple[Past, ...]
    """Its earlier turns."""
    shown: str
    """The observation, which may lack its middle."""


@dataclass(frozen=True)
class PromptWriter:
    """Writes prompts in a model's chat format, in the words of a style."""

    chat: Chat
    style: PromptStyle

    def write(self, place: Place, history: tuple[Past, ...], limit: int) -> Prompt:
        """Write a prompt. If it is too long, drop its oldest turns, then cut the observation.

        Rules and answer format stay. The prompt is longer than `limit` only if these alone are.
        """
        observation, turn, actions_left = place
        ids = self.ids(history, place)
        while history and len(ids) > limit:
            history = history[1:]
            ids = self.ids(history, place)
        if len(ids) <= limit:
            return Prompt(ids, history, observation)

        def write(text: str) -> tuple[int, ...]:
            return self.ids((), (text, turn, actions_left))

        shown = shorten(observation, lambda text: len(write(text)), limit)
        return Prompt(write(shown), (), shown)

    def ids(self, history: Sequence[Past], place: Place) -> tuple[int, ...]:
        """Token ids of the turns shown: a conversation with the responses as sampled."""
        places = [(past.observation, past.turn, past.actions_left) for past in history]
        places.append(place)
        ids = self.chat.opening(self.style.system, self.style.first_message(*places[0]))
        for past, later in zip(history, places[1:], strict=True):
            message = self.style.next_message(past.reward, *later)
            ids = (*ids, *past.response_ids, *self.chat.reply(past.response_ids, message))
        return ids


def prompt_style(
    env: gymnasium.Env[Any, Any],
    actions_per_turn: int = 1,
    thinking: bool = False,
    layout: str = "game",
) -> PromptStyle:
    """Build the prompt texts of an environment.

    Raises:
        SettingError: if the environment has no `text_spec`.
    """
    spec = text_spec(env)
    if spec is None:
        raise SettingError(
            f"env.id {env.spec.id if env.spec else env!r} has no text_spec. Give the environment a "
            "`text_spec = TextSpec(instruction=..., legend=..., actions=...)`."
        )
    said = spec.instruction, spec.legend, spec.actions, actions_per_turn, thinking, spec.sketch
    tools = "\n".join(tool.describe() for tool in tool_specs(env))
    if tools:
        return ToolPromptStyle(*said, tools)
    return (PromptStyle if layout == "game" else ShortStyle)(*said)
