"""A game played by talking: where environments and the language model's words meet.

A `Position` is a live place in a game: the environment as it stands and the prompt that asks for the next action.
`Dialogue.start` opens a task, `Dialogue.play` plays one response. Neither draws anything: that is the samplers' part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium

from ..configs.schema import SettingError
from ..agents.chat import ChatFormat
from ..agents.engine import Completion
from ..agents.parsing import read_answer, split_actions
from ..agents.prompts import SEPARATOR, SYSTEM, PromptStyle, propose_another
from ..environments import fork
from .trajectory import Task, Turn


@dataclass(frozen=True)
class _Past:
    """A turn that is over, as later prompts may show it."""

    observation: str
    turn: int
    actions_left: int
    response_ids: tuple[int, ...]
    reward: float


@dataclass(frozen=True)
class Position:
    """A live place in a game."""

    env: gymnasium.Env[Any, Any]
    observation: str
    turn: int
    """Counts from 1."""
    actions_left: int
    prompt_ids: tuple[int, ...]
    """The plain context x of this decision."""
    history: tuple[_Past, ...] = ()


class Dialogue:
    """How one environment is played by one language model.

    Args:
        make: builds a fresh environment.
        chat: the model's chat format.
        max_turns: responses in an episode.
        actions_per_turn: actions that one response may hold.
        thinking: whether responses hold thoughts before the answer.
        context: "state" (a prompt shows the present observation), "window" (the last `window` turns) or "full".
        window: turns shown by "window".
        max_prompt_tokens: an episode whose next prompt would be longer is truncated.

    Raises:
        SettingError: if the environment cannot be played in words, or the chat template cannot hold a conversation.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        chat: ChatFormat,
        max_turns: int = 10,
        actions_per_turn: int = 1,
        thinking: bool = False,
        context: str = "state",
        window: int = 3,
        max_prompt_tokens: int = 4096,
    ):
        self.make, self.chat, self.max_turns = make, chat, max_turns
        self.max_prompt_tokens = max_prompt_tokens
        self.num_shown = {"state": 1, "window": window, "full": max_turns}[context]
        if self.num_shown > 1:
            chat.check_appends()
        env = make()
        self.style = prompt_style(env, actions_per_turn, thinking)
        max_steps = getattr(env.unwrapped, "max_steps", None) or max_turns * actions_per_turn
        self.max_actions = min(max_steps, max_turns * actions_per_turn)

    def start(self, task: Task) -> Position:
        """Open the puzzle of a task."""
        env = self.make()
        observation, _ = env.reset(seed=task.seed)
        return Position(
            env,
            observation,
            1,
            self.max_actions,
            self._prompt(observation, 1, self.max_actions, ()),
        )

    def proposal_prompt(self, position: Position, earlier: list[str]) -> tuple[int, ...]:
        """The prompt that asks for an action different from the earlier ones; x itself if there are none."""
        if not earlier:
            return position.prompt_ids
        return self.chat.append_to_question(position.prompt_ids, propose_another(earlier))

    def read(self, position: Position, response: str) -> str | None:
        """Return the canonical action of a response, several joined by the separator, or None if it has none.

        Reading stops at the first action that the environment does not know.
        """
        answer = read_answer(response, self.style.thinking)
        actions: list[str] = []
        for text in split_actions(answer or "", self.style.actions_per_turn):
            canonical = _canonical(position.env, text)
            if canonical is None:
                break
            actions.append(canonical)
        return SEPARATOR.join(actions) or None

    def play(
        self,
        position: Position,
        completion: Completion,
        proposal_index: int = 0,
        in_place: bool = False,
    ) -> tuple[Turn, Position]:
        """Play a response on a copy of the position's environment.

        Args:
            position: where it is played; stays usable unless `in_place`.
            completion: the response.
            proposal_index: its place among the proposals of this decision.
            in_place: step the position's own environment, which nobody needs any more.

        Returns:
            The turn, and the position after it (over if the turn is terminated or truncated).
        """
        action = self.read(position, completion.text)
        env = position.env if in_place else fork(position.env)
        observation, reward, success, legal = position.observation, 0.0, False, action is not None
        terminated = truncated = False
        actions = action.split(SEPARATOR) if action else []
        num_played = 0
        while num_played < len(actions) and not (terminated or truncated):
            observation, gain, terminated, truncated, info = env.step(actions[num_played])
            num_played += 1
            reward += float(gain)
            legal = legal and bool(info.get("legal", True))
            success = bool(info.get("success", terminated and float(gain) > 0))
        past = _Past(
            position.observation, position.turn, position.actions_left, completion.token_ids, reward
        )
        actions_left = position.actions_left - num_played
        after = Position(
            env,
            observation,
            position.turn + 1,
            actions_left,
            self._prompt(observation, position.turn + 1, actions_left, (*position.history, past)),
            (*position.history, past)[1 - self.num_shown :] if self.num_shown > 1 else (),
        )
        is_last = position.turn >= self.max_turns or actions_left <= 0
        is_last = is_last or len(after.prompt_ids) > self.max_prompt_tokens
        turn = Turn(
            observation=position.observation,
            prompt_ids=position.prompt_ids,
            response_ids=completion.token_ids,
            sampling_logprobs=completion.logprobs,
            response=completion.text,
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=not terminated and (truncated or is_last),
            success=success,
            legal=legal,
            proposal_index=proposal_index,
        )
        return turn, after

    def _prompt(
        self, observation: str, turn: int, actions_left: int, history: tuple[_Past, ...]
    ) -> tuple[int, ...]:
        """Ids of the turns shown: the first opens the conversation, sampled responses stand as they were drawn."""
        shown = history[1 - self.num_shown :] if self.num_shown > 1 else ()
        places = [(past.observation, past.turn, past.actions_left) for past in shown]
        places.append((observation, turn, actions_left))
        ids = self.chat.opening(SYSTEM, self.style.first_message(*places[0]))
        for past, place in zip(shown, places[1:], strict=True):
            message = self.style.next_message(past.reward, *place)
            ids = (*ids, *past.response_ids, *self.chat.reply(past.response_ids, message))
        return ids


def prompt_style(
    env: gymnasium.Env[Any, Any], actions_per_turn: int = 1, thinking: bool = False
) -> PromptStyle:
    """What the policy is told about an environment.

    Raises:
        SettingError: if the environment does not explain itself.
    """
    spec = getattr(env.unwrapped, "text_spec", None)
    if spec is None:
        raise SettingError(
            f"env.id {env.spec.id if env.spec else env!r} has no text_spec. Give the environment a "
            "`text_spec = TextSpec(instruction=..., legend=..., actions=...)`."
        )
    return PromptStyle(spec.instruction, spec.legend, spec.actions, actions_per_turn, thinking)


def _canonical(env: gymnasium.Env[Any, Any], text: str) -> str | None:
    """The environment's one spelling of an action; the text itself where it has no such notion."""
    read = getattr(env.unwrapped, "canonical_action", None)
    return text if read is None else read(text)
