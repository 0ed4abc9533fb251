"""Turns environment states into prompts, and responses into environment steps.

A `Position` is a live state of a game: the environment and the prompt that asks for the next
action. `Dialogue.start` opens a task; `Dialogue.play` plays one response. Sampling the responses is
left to the samplers. An environment failure (`EnvError`) ends its trajectory, never the run: the
turn is truncated and records the error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium

from ..agents.chat import Chat
from ..agents.engines.base import Completion
from ..agents.parsing import bare_action, find_answer, read_answer, split_actions
from ..agents.prompts import (
    SEPARATOR,
    PromptStyle,
    follow,
    list_answers,
    outline,
    propose_another,
)
from ..agents.tool_chat import with_tools
from ..agents.tool_prompts import ToolPromptStyle
from ..configs.errors import SettingError, check
from ..environments import EnvError, fork
from ..environments.splits import puzzle_seeds
from ..environments.success import step_success
from ..environments.text_env import (
    action_reader,
    max_steps,
    num_puzzles,
    num_targets,
    text_spec,
    tool_specs,
)
from .trajectory import Task, TrajectoryTree, Turn


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


@dataclass(frozen=True)
class _Outcome:
    """The result of one turn's actions."""

    observation: str
    num_played: int = 0
    """Actions played; fewer than given if the game ended early."""
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    success: bool = False
    legal: bool = True
    error: str = ""


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
        is_strict: whether only the exact format of an answer is read (`model.answer_format`).

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
    ):
        self.is_strict = is_strict
        self.make, self.max_turns = make, max_turns
        self.window, self.max_prompt_tokens = window, max_prompt_tokens
        env = make()
        self.style = prompt_style(env, actions_per_turn, thinking)
        self.chat = chat
        if isinstance(self.style, ToolPromptStyle):
            _check_tool_settings(window, max_turns, actions_per_turn)
            self.chat, name = with_tools(chat, [tool.schema() for tool in tool_specs(env)])
            self.style = replace(self.style, call_format=name)
        if window > 1:
            self.chat.check_appends(thinking)
        most = max_turns * actions_per_turn
        self.max_actions = min(max_steps(env) or most, most)
        self.num_targets = num_targets(env)
        """Number of different answers that succeed; 0 if the environment does not report it."""
        self._num_puzzles = num_puzzles(env)

    def evaluation_seeds(self, split: str, count: int) -> list[int]:
        """Seeds of `count` puzzles of a split, or of all its puzzles if a data file has fewer.

        Raises:
            SettingError: if the split does not hold that many seeds.
        """
        return puzzle_seeds(split, min(count, self._num_puzzles.get(split, count)))

    def open(self, tree: TrajectoryTree) -> Position | None:
        """Open a tree's puzzle. If the environment fails, store the error in the tree."""
        try:
            start = self.start(tree.task)
        # A SettingError too: the settings were valid at startup, so the environment failed.
        except (EnvError, SettingError) as error:
            tree.error = str(error)
            return None
        tree.num_cut_prompts += start.is_cut
        return start

    def start(self, task: Task) -> Position:
        """Open a task's puzzle.

        Raises:
            EnvError: if the environment fails.
        """
        env = self.make()
        observation, _ = env.reset(seed=task.seed)
        place = (observation, 1, self.max_actions)
        opening = self._cut(self._prompt(*place, ()))
        return Position(env, *place, opening.prompt_ids, is_cut=opening.is_cut)

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

    def read(self, position: Position, completion: Completion) -> str | None:
        """Return the canonical action of a response, or None if it has none.

        Several actions are joined by the separator; reading stops at the first unknown one. If the
        environment fails, return the response itself: the error recurs when it is played.
        """
        try:
            actions, _ = self._read_actions(position, completion)
        except EnvError:
            return completion.text
        return SEPARATOR.join(actions) or None

    def _read_actions(self, position: Position, completion: Completion) -> tuple[list[str], bool]:
        """The canonical actions up to the first unknown one, and whether all are known."""
        if isinstance(self.style, ToolPromptStyle):
            return self._known_actions(position, self.style.read_calls(completion.text))
        if self.is_strict:
            answer = read_answer(completion.text, self.style.thinking) or ""
        else:
            answer = find_answer(completion.text, completion.finish_reason != "length") or ""
        read = self._known_actions(position, self._split(answer))
        if self.is_strict or self.style.actions_per_turn == 1 or read[1]:
            return read
        bare = bare_action(answer)  # quotes may enclose all the actions
        inside = self._known_actions(position, self._split(bare)) if bare != answer else read
        return inside if inside[1] else read

    def _split(self, answer: str) -> list[str]:
        return split_actions(answer, self.style.actions_per_turn)

    def _known_actions(self, position: Position, given: list[str]) -> tuple[list[str], bool]:
        """Those of an answer's texts, as `_read_actions` returns them."""
        actions: list[str] = []
        for text in given:
            canonical = canonical_action(position.env, text)
            if canonical is None and not self.is_strict and (bare := bare_action(text)) != text:
                canonical = canonical_action(position.env, bare)
            if canonical is None:
                break
            actions.append(canonical)
        return actions, bool(given) and len(actions) == len(given)

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
        actions, all_readable, env = [], False, position.env
        try:
            actions, all_readable = self._read_actions(position, completion)
            env = position.env if in_place else fork(position.env, noise)
            is_told = not actions and isinstance(self.style, ToolPromptStyle)
            played = [""] if is_told else actions  # an environment with tools says what is wrong
            outcome = _step(env, played, position.observation)
        except EnvError as error:
            outcome = _Outcome(position.observation, truncated=True, error=str(error))
        is_last = position.turn >= self.max_turns or position.actions_left <= outcome.num_played
        is_over = is_last or outcome.terminated or outcome.truncated
        after = self._after(position, env, outcome, completion.token_ids, is_over)
        is_last = is_last or len(after.prompt_ids) > self.max_prompt_tokens
        turn = Turn(
            observation=position.observation,
            prompt_ids=position.prompt_ids,
            response_ids=completion.token_ids,
            sampling_logprobs=completion.logprobs,
            response=completion.text,
            action=SEPARATOR.join(actions) or None,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=not outcome.terminated and (outcome.truncated or is_last),
            success=outcome.success,
            legal=all_readable and outcome.legal,
            num_env_steps=outcome.num_played,
            proposal_index=proposal_index,
            next_observation=after.observation,
            error=outcome.error,
        )
        return turn, after

    def _after(
        self,
        position: Position,
        env: gymnasium.Env[Any, Any],
        outcome: _Outcome,
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
        return Position(env, *place, prompt_ids, history)

    def _prompt(
        self, observation: str, turn: int, actions_left: int, history: tuple[_Past, ...]
    ) -> tuple[int, ...]:
        """Token ids of the turns shown: a conversation with the responses as sampled."""
        places = [(past.observation, past.turn, past.actions_left) for past in history]
        places.append((observation, turn, actions_left))
        ids = self.chat.opening(self.style.system, self.style.first_message(*places[0]))
        for past, place in zip(history, places[1:], strict=True):
            message = self.style.next_message(past.reward, *place)
            ids = (*ids, *past.response_ids, *self.chat.reply(past.response_ids, message))
        return ids


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


def _step(env: gymnasium.Env[Any, Any], actions: list[str], observation: str) -> _Outcome:
    """Play actions until the episode ends or none is left."""
    outcome = _Outcome(observation)
    for action in actions:
        try:
            observation, reward, terminated, truncated, info = env.step(action)
        except EnvError as error:
            return replace(outcome, truncated=True, error=str(error))
        outcome = _Outcome(
            observation,
            outcome.num_played + 1,
            outcome.reward + float(reward),
            terminated,
            truncated,
            step_success(info, float(reward), terminated),
            outcome.legal and bool(info.get("legal", True)),
        )
        if terminated or truncated:
            break
    return outcome


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
    said = spec.instruction, spec.legend, spec.actions, actions_per_turn, thinking, spec.sketch
    tools = "\n".join(tool.describe() for tool in tool_specs(env))
    return ToolPromptStyle(*said, tools) if tools else PromptStyle(*said)


def canonical_action(env: gymnasium.Env[Any, Any], text: str) -> str | None:
    """Return the canonical spelling of an action, or None if the text names no action.

    An environment without `canonical_action` takes the text as it is.

    Raises:
        EnvError: if a guarded environment fails.
    """
    read = action_reader(env)
    return text if read is None else read(text)
