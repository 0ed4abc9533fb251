"""Turns environment states into prompts, and responses into environment steps.

A `Position` is a live state of a game: the environment and the prompt that asks for the next
action. `Dialogue.start` opens a task; `Dialogue.play` plays one response. Sampling the responses is
left to the samplers. An environment failure (`EnvError`) ends its trajectory, never the run: the
turn is truncated and records the error.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from ..agents.chat import Chat
from ..agents.engines.base import Completion
from ..agents.parsing import read_answer, split_actions
from ..agents.prompts import (
    SEPARATOR,
    SYSTEM,
    PromptStyle,
    follow,
    list_answers,
    outline,
    propose_another,
)
from ..configs.errors import SettingError, check
from ..environments import EnvError, close_env
from ..environments.splits import puzzle_seeds
from ..environments.text_env import (
    is_guarded,
    max_steps,
    num_puzzles,
    num_targets,
    text_spec,
)
from ..environments.workers.pool import WorkerPool
from .env_calls import Outcome, play_actions, read_actions
from .env_calls import canonical_action as canonical_action
from .trajectory import Task, Turn


@dataclass(frozen=True)
class _Past:
    """A finished turn, as later prompts may show it."""

    observation: str
    turn: int
    actions_left: int
    response_ids: tuple[int, ...]
    reward: float


@dataclass(frozen=True)
class Position:
    """A live state of a game."""

    env: gymnasium.Env[Any, Any]
    observation: str
    turn: int
    """Counts from 1."""
    actions_left: int
    prompt_ids: tuple[int, ...]
    """The plain context x of this decision; empty once the episode is over."""
    history: tuple[_Past, ...] = ()
    """Earlier turns that the next prompt may show."""
    is_cut: bool = False
    """The first prompt was too long and lost its beginning."""


@dataclass(frozen=True)
class Request:
    """A prompt of sequential sampling: the plain prompt x plus an instruction."""

    prompt_ids: tuple[int, ...]
    is_cut: bool = False
    """Part of it was left out because the prompt would have been too long."""


class Dialogue:
    """How one language model plays one environment.

    Args:
        make: builds a fresh environment.
        chat: the model's chat format.
        max_turns: most responses in an episode.
        actions_per_turn: most actions in a response.
        thinking: whether responses contain thoughts before the answer.
        window: latest turns that a prompt shows, the current one included; 1 shows the current
            observation alone, `max_turns` the whole conversation.
        max_prompt_tokens: a longer first prompt loses its beginning; an episode whose next prompt
            would be longer is truncated.
        pool: the worker processes in which the environment lives; None if it lives in this one.

    Raises:
        SettingError: if the environment has no text interface, or if the chat template rewrites
            earlier messages and `window` is above 1.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        chat: Chat,
        max_turns: int = 10,
        actions_per_turn: int = 1,
        thinking: bool = False,
        window: int = 1,
        max_prompt_tokens: int = 4096,
        pool: WorkerPool | None = None,
    ):
        self.make, self.chat, self.max_turns, self.pool = make, chat, max_turns, pool
        self.window, self.max_prompt_tokens = window, max_prompt_tokens
        if window > 1:
            chat.check_appends(thinking)
        env = make()
        self.style = prompt_style(env, actions_per_turn, thinking)
        most = max_turns * actions_per_turn
        self.max_actions = min(max_steps(env) or most, most)
        self.num_targets = num_targets(env)
        """Number of different answers that succeed; 0 if the environment does not report it."""
        self._num_puzzles = num_puzzles(env)
        self._open: weakref.WeakSet[gymnasium.Env[Any, Any]] = weakref.WeakSet()
        """Guarded environments of positions that may still be played."""
        close_env(env)

    def evaluation_seeds(self, split: str, count: int) -> list[int]:
        """Seeds of `count` puzzles of a split, or of all its puzzles if a data file has fewer.

        Raises:
            SettingError: if the split does not hold that many seeds.
        """
        return puzzle_seeds(split, min(count, self._num_puzzles.get(split, count)))

    def start(self, task: Task) -> Position:
        """Open a task's puzzle.

        Raises:
            EnvError: if the environment fails.
        """
        return self.first_position(*self.reset(task))

    def reset(self, task: Task) -> tuple[gymnasium.Env[Any, Any], str]:
        """The environment's part of `start`: a fresh environment and its first observation."""
        env = self.make()
        if is_guarded(env):
            self._open.add(env)
        observation, _ = env.reset(seed=task.seed)
        return env, observation

    def first_position(self, env: gymnasium.Env[Any, Any], observation: str) -> Position:
        """The prompt's part of `start`."""
        place = (observation, 1, self.max_actions)
        opening = self._cut(self._prompt(*place, ()))
        return Position(env, *place, opening.prompt_ids, is_cut=opening.is_cut)

    def close(self, position: Position) -> None:
        """Close the environment of a position that is not played any more."""
        if is_guarded(position.env):
            close_env(position.env)

    def release(self) -> None:
        """Close the environments of all positions."""
        for env in list(self._open):
            close_env(env)
        self._open.clear()
        if self.pool is not None:
            self.pool.release()

    def proposal_prompt(self, position: Position, earlier: Sequence[str]) -> Request:
        """Prompt for an action that differs from the earlier ones; x if there are none."""
        return self._fit(position, earlier, propose_another)

    def list_prompt(self, position: Position, count: int, given: Sequence[Completion]) -> Request:
        """Prompt for the next answer of a reply that lists `count`, after those given so far."""
        list_request = self.chat.append_to_question(position.prompt_ids, list_answers(count))
        for first in range(len(given)):
            prompt = sum((answer.token_ids for answer in given[first:]), list_request)
            if len(prompt) <= self.max_prompt_tokens:
                return Request(prompt, is_cut=first > 0)
        return self._cut(list_request, bool(given))

    def sketch_prompt(self, position: Position, earlier: Sequence[str]) -> Request:
        """Prompt for a sketch that differs from the earlier ones."""
        wanted = self.style.sketch
        request = self._fit(position, earlier, lambda shown: outline(wanted, shown))
        if request.prompt_ids != position.prompt_ids:
            return request
        bare = self.chat.append_to_question(position.prompt_ids, outline(wanted, []))
        return self._cut(bare, bool(earlier))

    def solve_prompt(self, position: Position, sketch: str) -> Request:
        """Prompt for an answer that follows a sketch, cut if too long; x without a sketch."""
        words = sketch.split()[::-1]  # `_fit` drops the first texts: reversed, the last words
        return self._fit(position, words, lambda shown: follow(" ".join(shown[::-1])))

    def _fit(
        self, position: Position, texts: Sequence[str], write: Callable[[Sequence[str]], str]
    ) -> Request:
        """Append a request that shows as many of the last texts as fit; x if none fits."""
        for first in range(len(texts)):
            prompt = self.chat.append_to_question(position.prompt_ids, write(texts[first:]))
            if len(prompt) <= self.max_prompt_tokens:
                return Request(prompt, is_cut=first > 0)
        return Request(position.prompt_ids, is_cut=bool(texts))

    def _cut(self, prompt: tuple[int, ...], is_cut: bool = False) -> Request:
        """Drop the beginning of a prompt that is too long."""
        is_cut = is_cut or len(prompt) > self.max_prompt_tokens
        return Request(prompt[-self.max_prompt_tokens :], is_cut)

    def read(self, position: Position, response: str) -> str | None:
        """Return the canonical action of a response, or None if it has none.

        Several actions are joined by the separator; reading stops at the first unknown one. If the
        environment fails, return the response itself: the error recurs when it is played.
        """
        try:
            actions, _ = read_actions(position.env, self._given(response))
        except EnvError:
            return response
        return SEPARATOR.join(actions) or None

    def _given(self, response: str) -> list[str]:
        """The texts that a response gives as actions."""
        answer = read_answer(response, self.style.thinking) or ""
        return split_actions(answer, self.style.actions_per_turn)

    def play(
        self,
        position: Position,
        completion: Completion,
        proposal_index: int = 0,
        in_place: bool = False,
        noise: int | None = None,
    ) -> tuple[Turn, Position]:
        """Play a response on a copy of the position's environment.

        Args:
            position: where the response is played; stays usable unless `in_place`.
            completion: the response.
            proposal_index: its index among the proposals of this decision.
            in_place: step the position's own environment, if it is not needed again.
            noise: seed for the copy's random generator; None keeps the generator's state.

        Returns:
            The turn and the next position (final if the turn is terminated or truncated).
        """
        outcome = self.step(position, completion, in_place, noise)
        return self.record(position, completion, outcome, proposal_index)

    def step(
        self,
        position: Position,
        completion: Completion,
        in_place: bool = False,
        noise: int | None = None,
    ) -> Outcome:
        """The environment's part of `play`."""
        texts = self._given(completion.text)
        outcome = play_actions(position.env, texts, position.observation, in_place, noise)
        if is_guarded(outcome.env):
            self._open.add(outcome.env)
        return outcome

    def record(
        self,
        position: Position,
        completion: Completion,
        outcome: Outcome,
        proposal_index: int = 0,
    ) -> tuple[Turn, Position]:
        """The tokens' part of `play`: the turn and the next prompt."""
        is_last = position.turn >= self.max_turns or position.actions_left <= outcome.num_played
        is_over = is_last or outcome.terminated or outcome.truncated
        after = self._after(position, outcome, completion.token_ids, is_over)
        is_last = is_last or len(after.prompt_ids) > self.max_prompt_tokens
        turn = Turn(
            observation=position.observation,
            prompt_ids=position.prompt_ids,
            response_ids=completion.token_ids,
            sampling_logprobs=completion.logprobs,
            response=completion.text,
            action=SEPARATOR.join(outcome.actions) or None,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=not outcome.terminated and (outcome.truncated or is_last),
            success=outcome.success,
            legal=outcome.all_readable and outcome.legal,
            num_env_steps=outcome.num_played,
            proposal_index=proposal_index,
            next_observation=after.observation,
            error=outcome.error,
        )
        return turn, after

    def _after(
        self,
        position: Position,
        outcome: Outcome,
        response_ids: tuple[int, ...],
        is_over: bool,
    ) -> Position:
        """The position after a turn; it has no prompt if the episode is over."""
        past = _Past(
            position.observation, position.turn, position.actions_left, response_ids, outcome.reward
        )
        place = (outcome.observation, position.turn + 1, position.actions_left - outcome.num_played)
        history = (*position.history, past)[1 - self.window :] if self.window > 1 else ()
        prompt_ids = () if is_over else self._prompt(*place, history)
        return Position(outcome.env, *place, prompt_ids, history)

    def _prompt(
        self, observation: str, turn: int, actions_left: int, history: tuple[_Past, ...]
    ) -> tuple[int, ...]:
        """Token ids of the turns shown: a conversation with the responses as sampled."""
        places = [(past.observation, past.turn, past.actions_left) for past in history]
        places.append((observation, turn, actions_left))
        ids = self.chat.opening(SYSTEM, self.style.first_message(*places[0]))
        for past, place in zip(history, places[1:], strict=True):
            message = self.style.next_message(past.reward, *place)
            ids = (*ids, *past.response_ids, *self.chat.reply(past.response_ids, message))
        return ids


def check_single_answer(sampler: str, max_turns: int) -> None:
    """Check that an episode has one turn, as samplers of whole answers need.

    Raises:
        SettingError: if it has several.
    """
    check(
        max_turns == 1,
        "sampling.name",
        sampler,
        f"tree or parallel while env.max_turns is {max_turns}",
        "Set env.max_turns=1 if one answer settles the task.",
    )


def prompt_style(
    env: gymnasium.Env[Any, Any], actions_per_turn: int = 1, thinking: bool = False
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
    return PromptStyle(
        spec.instruction, spec.legend, spec.actions, actions_per_turn, thinking, spec.sketch
    )
