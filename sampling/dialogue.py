"""Turns environment states into prompts, and responses into environment steps.

A `Position` is a live state of a game: the environment and the prompt that asks for the next
action. `Dialogue.start` opens a task; `Dialogue.play` plays one response. Sampling the responses is
left to the samplers. An environment failure (`EnvError`) ends its trajectory, never the run: the
turn is truncated and records the error.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium

from ..agents.chat import Chat
from ..agents.engines.base import Completion
from ..agents.prompts import (
    SEPARATOR,
    follow,
    list_answers,
    outline,
    propose_another,
)
from ..agents.tool_chat import with_tools
from ..agents.tool_prompts import ToolPromptStyle
from ..configs.errors import check
from ..environments import EnvError, close_env
from ..environments.puzzle_finder import PuzzleFinder
from ..environments.splits import puzzle_seeds
from ..environments.text_env import (
    is_guarded,
    max_steps,
    num_puzzles,
    num_targets,
    tool_specs,
)
from ..environments.workers.pool import WorkerPool
from .env_calls import Outcome, open_puzzle, play_reply
from .prompt_writer import Past, Place, PromptWriter, prompt_style
from .replies import ReplyReader
from .trajectory import Task, Turn


@dataclass(frozen=True)
class Position:
    """A live state of a game."""

    env: gymnasium.Env[Any, Any]
    observation: str
    """The environment's text and the line with the available actions, if there are any."""
    turn: int
    """Counts from 1."""
    actions_left: int
    prompt_ids: tuple[int, ...]
    """The plain context x of this decision; empty once the episode is over."""
    history: tuple[Past, ...] = ()
    """Earlier turns that the prompt shows."""
    available: tuple[str, ...] = ()
    """Actions that the environment allows now; empty if it does not say."""
    shown: str = ""
    """The observation as the prompt shows it, which may lack its middle."""
    is_cut: bool = False
    """The prompt was too long: it lacks turns of its window, or the middle of its observation."""


@dataclass(frozen=True)
class Request:
    """A prompt of sequential sampling: the plain prompt x plus an instruction."""

    prompt_ids: tuple[int, ...]
    is_cut: bool = False
    """Part of it was left out because the prompt would have been too long."""
    keeps_rules: bool = True
    """Whether that was enough; otherwise the rules and the request alone are too long, and the
    prompt begins in the middle of them."""


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
        max_prompt_tokens: a longer prompt loses its oldest turns, then the middle of its
            observation.
        is_strict: whether only the exact format of an answer is read (`model.answer_format`).
        layout: `game` or, for tasks with a single answer, `short`.
        pool: the worker processes in which the environment lives; None if it lives in this one.

    Raises:
        SettingError: if the environment has no text interface, if the chat template rewrites
            earlier messages and `window` is above 1, or if an environment with tools does not show
            the whole conversation.
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
        is_strict: bool = True,
        layout: str = "game",
        pool: WorkerPool | None = None,
    ):
        self.make, self.max_turns, self.pool = make, max_turns, pool
        self.window, self.max_prompt_tokens = window, max_prompt_tokens
        env = make()
        self.style = prompt_style(env, actions_per_turn, thinking, layout)
        self.chat = chat
        if isinstance(self.style, ToolPromptStyle):
            _check_tool_settings(window, max_turns, actions_per_turn)
            self.chat, name = with_tools(chat, [tool.schema() for tool in tool_specs(env)])
            self.style = replace(self.style, call_format=name)
        if window > 1:
            self.chat.check_appends(thinking)
        self.writer = PromptWriter(self.chat, self.style)
        self.reader = ReplyReader(self.style, is_strict, self.chat.prefill)
        most = max_turns * actions_per_turn
        self.max_actions = min(max_steps(env) or most, most)
        self.num_targets = num_targets(env)
        """Number of different answers that succeed; 0 if the environment does not report it."""
        self._num_puzzles = num_puzzles(env)
        self._finder = PuzzleFinder(make, pool)
        self._open: weakref.WeakSet[gymnasium.Env[Any, Any]] = weakref.WeakSet()
        """Guarded environments of positions that may still be played."""
        close_env(env)

    def evaluation_seeds(self, split: str, count: int) -> list[int]:
        """Seeds of `count` puzzles of a split, or of all its puzzles if a data file has fewer.

        Raises:
            SettingError: if the split does not hold that many seeds, or no puzzle at all.
        """
        return self.find_puzzles(
            puzzle_seeds(split, min(count, self._num_puzzles.get(split, count)))
        )

    def find_puzzles(self, seeds: Sequence[int]) -> list[int]:
        """Replace the seeds of puzzles that belong to another split (`PuzzleFinder`).

        Raises:
            SettingError: if a split has no puzzle.
        """
        return self._finder.find(seeds)

    def start(self, task: Task) -> Position:
        """Open a task's puzzle.

        Raises:
            EnvError: if the environment fails.
        """
        return self.first_position(self.reset(task))

    def reset(self, task: Task) -> Outcome:
        """The environment's part of `start`: a fresh environment and what it shows first."""
        env = self.make()
        if is_guarded(env):
            self._open.add(env)
        return open_puzzle(env, task.seed)

    def first_position(self, outcome: Outcome) -> Position:
        """The prompt's part of `start`."""
        place = (outcome.observation, 1, self.max_actions)
        return self._position(outcome.env, place, (), outcome.available)

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
        request = self._append(position, list_answers(count))
        for first in range(len(given)):
            prompt = sum((answer.token_ids for answer in given[first:]), request.prompt_ids)
            if len(prompt) <= self.max_prompt_tokens:
                return Request(prompt, request.is_cut or first > 0)
        return Request(request.prompt_ids, request.is_cut or bool(given))

    def sketch_prompt(self, position: Position, earlier: Sequence[str]) -> Request:
        """Prompt for a sketch that differs from the earlier ones."""
        wanted = self.style.sketch
        request = self._fit(position, earlier, lambda shown: outline(wanted, shown))
        if request.prompt_ids != position.prompt_ids:
            return request
        bare = self._append(position, outline(wanted, []))
        return Request(bare.prompt_ids, bare.is_cut or bool(earlier))

    def solve_prompt(self, position: Position, sketch: str) -> Request:
        """Prompt for an answer that follows a sketch, cut if too long; x without a sketch."""
        words = sketch.split()[::-1]  # `_fit` drops the first texts: reversed, the last words
        return self._fit(position, words, lambda shown: follow(" ".join(shown[::-1])))

    def _fit(
        self, position: Position, texts: Sequence[str], write: Callable[[Sequence[str]], str]
    ) -> Request:
        """Append a request that shows as many of the last texts as fit.

        If none fits, or the observation is cut anyway, the prompt before the request makes room:
        for texts of up to a quarter of its length, at least for one. If that fails, x is returned.
        """
        for first in range(len(texts)):
            prompt = self.chat.append_to_question(position.prompt_ids, write(texts[first:]))
            if len(prompt) <= self.max_prompt_tokens:
                return Request(prompt, position.is_cut or first > 0)
            if position.shown != position.observation:
                break
        for first in range(len(texts)):
            text, is_last = write(texts[first:]), first == len(texts) - 1
            added = len(self.chat.append_to_question(position.prompt_ids, text))
            added -= len(position.prompt_ids)
            if is_last or added <= self.max_prompt_tokens // 4:
                request = self._append(position, text)
                if request.keeps_rules:
                    return request
        return Request(position.prompt_ids, position.is_cut or bool(texts))

    def _append(self, position: Position, text: str) -> Request:
        """Append a request to a prompt, which is cut to make room for it if need be."""
        limit = self.max_prompt_tokens
        request = self.chat.append_to_question(position.prompt_ids, text)
        excess = len(request) - limit
        if excess <= 0:
            return Request(request, position.is_cut)
        place = position.observation, position.turn, position.actions_left
        shorter = self.writer.write(place, position.history, len(position.prompt_ids) - excess)
        request = self.chat.append_to_question(shorter.ids, text)
        return Request(_last(request, limit), is_cut=True, keeps_rules=len(request) <= limit)

    def read(self, position: Position, completion: Completion) -> str | None:
        """Return the canonical action of a response, or None if it has none.

        Several actions are joined by the separator; reading stops at the first unknown one. If the
        environment fails, return the response itself: the error recurs when it is played.
        """
        try:
            actions, _ = self.reader.read(position.env, completion, position.available)
        except EnvError:
            return completion.text
        return SEPARATOR.join(actions) or None

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
        before = Outcome(position.env, position.observation, position.available)
        outcome = play_reply(before, self.reader, completion, in_place, noise)
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
        place = (outcome.observation, position.turn + 1, position.actions_left - outcome.num_played)
        if is_over:
            return Position(outcome.env, *place, (), available=outcome.available)
        past = Past(
            position.shown, position.turn, position.actions_left, response_ids, outcome.reward
        )
        history = (*position.history, past)[1 - self.window :] if self.window > 1 else ()
        return self._position(outcome.env, place, history, outcome.available)

    def _position(
        self,
        env: gymnasium.Env[Any, Any],
        place: Place,
        history: tuple[Past, ...],
        available: tuple[str, ...],
    ) -> Position:
        """The position in a place; turns that its prompt has no room for are dropped for good."""
        limit = self.max_prompt_tokens
        prompt = self.writer.write(place, history, limit)
        all_turns = min(place[1], self.window) - 1
        is_cut = len(prompt.history) < all_turns or prompt.shown != place[0]
        return Position(
            env,
            *place,
            _last(prompt.ids, limit),
            prompt.history,
            available,
            prompt.shown,
            is_cut or len(prompt.ids) > limit,
        )


def _check_tool_settings(window: int, max_turns: int, actions_per_turn: int) -> None:
    """Check the settings of a conversation with tools: results are shown once, and all count.

    Raises:
        SettingError: with the setting to change.
    """
    context = "full" if window >= max_turns else "state" if window == 1 else "window"
    check(
        window >= max_turns,
        "model.context",
        context,
        "full for an environment with tools, whose earlier results are not shown again",
    )
    check(
        actions_per_turn == 1,
        "env.actions_per_turn",
        actions_per_turn,
        "1 for an environment with tools, where one answer may have several calls",
    )


def _last(ids: tuple[int, ...], limit: int) -> tuple[int, ...]:
    return ids[max(0, len(ids) - limit) :]


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
