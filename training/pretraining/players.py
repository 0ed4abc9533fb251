"""Scripted players: short-sighted creatures of habit with a small share of good moves.

The bundled models are trained on their play. They imitate a small instruction-tuned model before
reinforcement learning: nearly always well-formed, strongly peaked, mostly wrong.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...environments.games import countdown, frozen_lake, math_problems, sokoban, sudoku
from ...environments.games.places import PLACES
from ...environments.text_env import TextGame

Choice = Callable[[Any, random.Random], str | None]
"""Chooses a move in a game; None if it knows none."""


MAX_DRAWS = 60
"""Most samples for one list of distinct moves."""


@dataclass(frozen=True)
class ScriptedPlayer:
    """Plays one kind of game with a mixture of three policies."""

    expert: Choice
    """A move of an optimal solution."""
    habit: Choice
    """The short-sighted move."""
    anything: Choice
    """A random move."""
    expert_share: float = 0.05
    """Probability of the expert's move."""
    random_share: float = 0.03
    """Probability of a random move if the expert's is not chosen."""

    def choose(self, game: Any, rng: random.Random) -> str:
        """Sample one move."""
        return self.choose_distinct(game, rng, 1)[0]

    def choose_distinct(self, game: Any, rng: random.Random, count: int) -> list[str]:
        """Sample moves in sequence, without replacement.

        The expert's and the habit's move are fixed for the state and excluded once sampled; a
        random move that duplicates an earlier one is sampled again. After `MAX_DRAWS` samples the
        list may be shorter than `count`.
        """
        best, usual = self.expert(game, rng), self.habit(game, rng)
        share = self.expert_share if best is not None else 0.0
        weights = {best: share, usual: 0.0}  # a single entry if the habit is the expert's move
        weights[usual] += (1 - share) * (1 - self.random_share)
        moves: dict[str, None] = {}
        for _ in range(MAX_DRAWS):
            left = {move: weight for move, weight in weights.items() if move not in moves}
            left[None] = (1 - share) * self.random_share
            move = rng.choices(list(left), list(left.values()))[0]
            move = self.anything(game, rng) if move is None else move
            if move is not None:
                moves[move] = None
            if len(moves) == count:
                break
        return list(moves)


@dataclass(frozen=True)
class MethodPlayer:
    """Answers a puzzle by one of several methods, nearly always by the same one."""

    methods: Mapping[str, Callable[[Any, random.Random], str]]
    """Methods by name; each gives an answer, and the first one is the habit."""
    habit_share: float = 0.95
    """Probability of the habit; the others share the rest equally."""

    def draw_methods(self, rng: random.Random, count: int) -> list[str]:
        """Sample names of methods in sequence, without replacement."""
        names = list(self.methods)
        rest = (1 - self.habit_share) / max(len(names) - 1, 1)
        weights = [self.habit_share, *(rest for _ in names[1:])]
        return draw_distinct(names, weights, rng, count)


def draw_distinct(
    names: Sequence[str], weights: Sequence[float], rng: random.Random, count: int
) -> list[str]:
    """Sample names in sequence without replacement, in proportion to their weights.

    Sorting by Exp(1) / weight, ascending, gives such a sample (Efraimidis and Spirakis 2006).
    """
    times = [rng.expovariate(1.0) / weight for weight in weights]
    order = sorted(range(len(names)), key=times.__getitem__)
    return [names[place] for place in order[:count]]


def _named(names: tuple[str, ...], function: Callable[..., int | None]) -> Choice:
    def choose(game: Any, rng: random.Random) -> str | None:
        action = function(game)
        return None if action is None else names[action]

    return choose


def _solver(game: TextGame[Any], rng: random.Random) -> str | None:
    """A move of the game's own player, which solves it."""
    play: Any = game.scripted_action  # pyright: ignore[reportAttributeAccessIssue]
    return play(rng)


def _any_of(names: tuple[str, ...]) -> Choice:
    return lambda game, rng: rng.choice(names)


def _any_expression(game: countdown.CountdownGame, rng: random.Random) -> str:
    """All numbers in random order with random operators."""
    numbers = rng.sample(game.numbers, len(game.numbers))
    rest = (f" {rng.choice(game.knobs.operators)} {number}" for number in numbers[1:])
    return str(numbers[0]) + "".join(rest)


PLAYERS: dict[str, ScriptedPlayer] = {
    "sesa/Sokoban-v0": ScriptedPlayer(
        _solver,
        _named(sokoban.ACTION_NAMES, sokoban.habit_action),
        _any_of(sokoban.ACTION_NAMES),
    ),
    "sesa/FrozenLake-v0": ScriptedPlayer(
        _solver,
        _named(frozen_lake.ACTIONS, frozen_lake.habit_action),
        _any_of(frozen_lake.ACTIONS),
    ),
    "sesa/Countdown-v0": ScriptedPlayer(
        _solver,
        countdown.habit_action,
        _any_expression,
    ),
    "sesa/Sudoku-v0": ScriptedPlayer(
        _solver,
        sudoku.habit_action,
        lambda game, rng: sudoku.random_action(game, rng),
    ),
}
"""Scripted players by environment id."""


def _fill(order: str, care: float) -> Callable[[sudoku.SudokuGame, random.Random], str]:
    return lambda game, rng: sudoku.fill_in_order(game, order, rng, care)


def _worked_sum(method: str) -> Callable[[math_problems.MathGame, random.Random], str]:
    return lambda game, rng: math_problems.METHODS[method](game.terms)


METHOD_PLAYERS: dict[str, MethodPlayer] = {
    "sesa/Sudoku-v0": MethodPlayer(
        {order: _fill(order, care=1.0) for order in sudoku.ORDERS}
        | {"rows from the top": _fill("rows from the top", care=0.0)}
    ),
    "sesa/Math-v0": MethodPlayer(
        {"in one go": lambda game, rng: math_problems.careless_answer(game.terms)}
        | {name: _worked_sum(name) for name in ("left to right", "tens and ones", "ones first")}
    ),
}
"""Players of tasks settled by a single answer. Their habit fills a Sudoku row by row, looking at
rows only, or adds up in one go without carrying; the other methods are followed with care."""


def rank_places(seed: int = 0) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the places of Path Exploration with peaked weights.

    The place at rank r, in a random order independent of the treasures, has weight r^-1.5.
    """
    names = random.Random(seed).sample(PLACES, len(PLACES))
    return tuple(names), tuple(rank**-1.5 for rank in range(1, len(names) + 1))
