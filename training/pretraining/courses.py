"""Training data of the bundled models: the play of scripted, short-sighted players.

The players (`training/pretraining/players.py`) follow a habit, sometimes make a random move, and
rarely a good one. The prompts are those used later: the plain one and those of sequential sampling
(another proposal, a list in one reply, a sketch, a solution along a sketch).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ...agents.chat import ChatFormat
from ...agents.engines.base import Completion
from ...environments import make_env
from ...environments.splits import puzzle_seeds
from ...sampling.dialogue import Dialogue, Position
from ...sampling.trajectory import Task
from .players import PLAYERS, MethodPlayer, ScriptedPlayer, draw_distinct


@dataclass(frozen=True)
class Example:
    """A prompt and its response; the tokens from `start` on are learned."""

    token_ids: tuple[int, ...]
    start: int
    """The first learned token: that of the first listed proposal, or of the response."""


class Course(Protocol):
    """The training data of one environment."""

    @property
    def env_id(self) -> str:
        """The environment."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """Its options, as in `configs/`."""
        ...

    @property
    def max_turns(self) -> int:
        """Responses in an episode."""
        ...

    @property
    def batch_size(self) -> int:
        """Examples per training step."""
        ...

    def examples(self, chat: ChatFormat, rng: random.Random) -> Iterator[Example]:
        """Yield all examples."""
        ...


@dataclass(frozen=True)
class GameCourse:
    """A game of several turns: one or two examples per state that a scripted player visits."""

    env_id: str
    options: dict[str, Any]
    num_proposals: int
    """Longest list of distinct moves."""
    num_puzzles: int
    batch_size: int
    max_turns: int = 10
    list_share: float = 0.5
    """Share of examples that ask for another proposal."""
    random_share: float | None = None
    """Share of random moves; None for the player's own."""

    def examples(self, chat: ChatFormat, rng: random.Random) -> Iterator[Example]:
        """Yield a player's moves, as plain answers and as further proposals."""
        player = PLAYERS[self.env_id]
        if self.random_share is not None:
            player = replace(player, random_share=self.random_share)
        dialogue = _dialogue(self, chat)
        for seed in _lesson_seeds(dialogue, self.num_puzzles):
            position = dialogue.start(Task(self.env_id, seed))
            is_over = False
            while not is_over:
                game = _game(position)
                moves = player.choose_distinct(game, rng, self.num_proposals)
                num_earlier = rng.randrange(1, len(moves)) if len(moves) > 1 else 0
                yield _proposal(dialogue, position, moves, 0)
                if num_earlier and rng.random() < self.list_share / (1 - self.list_share):
                    yield _proposal(dialogue, position, moves, num_earlier)
                move = _wander(player, game, moves[0], rng)
                completion = Completion(dialogue.style.write_answer(move), (), (), "stop")
                turn, position = dialogue.play(position, completion, in_place=True)
                is_over = turn.terminated or turn.truncated


@dataclass(frozen=True)
class ListCourse:
    """A task with many known answers of unequal weight: single answers and lists of them."""

    env_id: str
    options: dict[str, Any]
    answers: Sequence[str]
    weights: Sequence[float]
    """The player's preference for each answer."""
    list_length: int
    num_lists: int
    batch_size: int
    max_turns: int = 1

    def examples(self, chat: ChatFormat, rng: random.Random) -> Iterator[Example]:
        """Yield of each list (sampled without replacement) its first item, another one, and all."""
        dialogue = _dialogue(self, chat)
        position = dialogue.start(Task(self.env_id, 0))
        for _ in range(self.num_lists):
            names = draw_distinct(self.answers, self.weights, rng, self.list_length)
            yield _proposal(dialogue, position, names, 0)
            yield _proposal(dialogue, position, names, rng.randrange(1, len(names)))
            prompt = dialogue.list_prompt(position, self.list_length, []).prompt_ids
            yield _reply(dialogue, prompt, "".join(map(dialogue.style.write_answer, names)))


@dataclass(frozen=True)
class MethodCourse:
    """A task settled by a single answer, found by one of several methods."""

    env_id: str
    options: dict[str, Any]
    player: MethodPlayer
    num_puzzles: int
    batch_size: int
    max_turns: int = 1
    sketch_share: float = 0.25
    """Share of puzzles with a sketch example; sketches are far easier to learn than solutions."""

    def examples(self, chat: ChatFormat, rng: random.Random) -> Iterator[Example]:
        """Yield per puzzle a plain answer, an answer along a sketch, and sometimes a sketch."""
        dialogue = _dialogue(self, chat)
        for seed in _lesson_seeds(dialogue, self.num_puzzles):
            position = dialogue.start(Task(self.env_id, seed))
            game = _game(position)
            sketches = self.player.draw_methods(rng, len(self.player.methods))
            answer = self.player.methods[sketches[0]](game, rng)
            yield _reply(dialogue, position.prompt_ids, dialogue.style.write_answer(answer))
            sketch = rng.choice(sketches)
            prompt = dialogue.solve_prompt(position, sketch).prompt_ids
            answer = self.player.methods[sketch](game, rng)
            yield _reply(dialogue, prompt, dialogue.style.write_answer(answer))
            if rng.random() < self.sketch_share:
                place = rng.randrange(len(sketches))
                prompt = dialogue.sketch_prompt(position, sketches[:place]).prompt_ids
                yield _reply(dialogue, prompt, f"<sketch>{sketches[place]}</sketch>")


def _dialogue(course: Course, chat: ChatFormat) -> Dialogue:
    return Dialogue(lambda: make_env(course.env_id, **course.options), chat, course.max_turns)


def _lesson_seeds(dialogue: Dialogue, num_puzzles: int) -> list[int]:
    """Seeds of puzzles that belong neither to validation nor to test."""
    return dialogue.find_puzzles(puzzle_seeds("pretraining", num_puzzles))


def _game(position: Position) -> Any:
    return position.env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]


def _chat(dialogue: Dialogue) -> ChatFormat:
    """The dialogue's chat format, set by `_dialogue`."""
    assert isinstance(dialogue.chat, ChatFormat)
    return dialogue.chat


def _proposal(dialogue: Dialogue, position: Position, moves: list[str], place: int) -> Example:
    """The move with index `place`; its prompt shows the earlier moves."""
    prompt = dialogue.proposal_prompt(position, moves[:place]).prompt_ids
    example = _reply(dialogue, prompt, dialogue.style.write_answer(moves[place]))
    # The listed moves are learned too: they are sampled from the player like the response.
    start = len(position.prompt_ids) - len(_chat(dialogue).tail_ids) + 1
    return Example(example.token_ids, start) if place else example


def _reply(dialogue: Dialogue, prompt: tuple[int, ...], text: str) -> Example:
    chat = _chat(dialogue)
    return Example((*prompt, *chat.response(text), *chat.end_of_turn), len(prompt))


def _wander(player: ScriptedPlayer, game: Any, move: str, rng: random.Random) -> str:
    """Choose a more varied move than the player's, so that the data covers more states."""
    chance = rng.random()
    if chance < 0.3:
        return player.expert(game, rng) or move
    return (player.anything(game, rng) or move) if chance < 0.5 else move
