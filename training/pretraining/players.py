"""Scripted players: short-sighted, bound to a habit, with a small share of good moves.

The bundled model is trained on their play. They stand for what a small instruction-tuned model is
like before reinforcement learning: nearly always well-formed, strongly peaked, mostly wrong.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...environments.games import countdown, frozen_lake, math_problems, sokoban, sudoku
from ...environments.games.places import PLACES

Choice = Callable[[Any, random.Random], str | None]
"""What a player does in a game; None where it knows nothing to do."""


MAX_DRAWS = 60
"""Draws for one list of distinct moves."""


@dataclass(frozen=True)
class ScriptedPlayer:
    """Mixes three ways of playing one kind of game."""

    expert: Choice
    """A move of an optimal solution."""
    habit: Choice
    """The short-sighted move."""
    anything: Choice
    """Some move."""
    expert_share: float = 0.05
    """Probability of the expert's move."""
    random_share: float = 0.03
    """Probability of a move at random, where the habit would have played."""

    def choose(self, game: Any, rng: random.Random) -> str:
        """Draw one move."""
        return self.choose_distinct(game, rng, 1)[0]

    def choose_distinct(self, game: Any, rng: random.Random, count: int) -> list[str]:
        """Draw moves one after another, without replacement.

        The expert's move and the habit's are fixed for the state, and once drawn they are out of
        the lot; a random move that repeats an earlier one is drawn again, `MAX_DRAWS` times in all,
        so the list may be shorter than `count`.
        """
        best, usual = self.expert(game, rng), self.habit(game, rng)
        share = self.expert_share if best is not None else 0.0
        weights = {best: share, usual: 0.0}  # one move, if the habit is right for once
        weights[usual] += (1 - share) * (1 - self.random_share)
        moves: dict[str, None] = {}
        for _ in range(MAX_DRAWS):
            lot = {move: weight for move, weight in weights.items() if move not in moves}
            lot[None] = (1 - share) * self.random_share
            move = rng.choices(list(lot), list(lot.values()))[0]
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
    """An answer by each method; the first method is the habit."""
    habit_share: float = 0.95
    """Probability of the habit; the others share the rest."""

    def draw_methods(self, rng: random.Random, count: int) -> list[str]:
        """Draw names of methods, one after another, without replacement."""
        names = list(self.methods)
        rest = (1 - self.habit_share) / max(len(names) - 1, 1)
        weights = [self.habit_share, *(rest for _ in names[1:])]
        return draw_distinct(names, weights, rng, count)


def draw_distinct(
    names: Sequence[str], weights: Sequence[float], rng: random.Random, count: int
) -> list[str]:
    """Draw names one after another, each with its share of the weight that is left.

    The order of Exp(1) / weight, ascending, is that of such draws (Efraimidis and Spirakis 2006).
    """
    times = [rng.expovariate(1.0) / weight for weight in weights]
    order = sorted(range(len(names)), key=times.__getitem__)
    return [names[place] for place in order[:count]]


def _named(names: tuple[str, ...], function: Callable[..., int | None]) -> Choice:
    def choose(game: Any, rng: random.Random) -> str | None:
        action = function(game)
        return None if action is None else names[action]

    return choose


def _any_of(names: tuple[str, ...]) -> Choice:
    return lambda game, rng: rng.choice(names)


def _any_expression(game: countdown.CountdownGame, rng: random.Random) -> str:
    """The numbers in any order, with any signs."""
    numbers = rng.sample(game.numbers, len(game.numbers))
    rest = (f" {rng.choice(game.knobs.operators)} {number}" for number in numbers[1:])
    return str(numbers[0]) + "".join(rest)


PLAYERS: dict[str, ScriptedPlayer] = {
    "sesa/Sokoban-v0": ScriptedPlayer(
        _named(sokoban.ACTION_NAMES, sokoban.expert_action),
        _named(sokoban.ACTION_NAMES, sokoban.habit_action),
        _any_of(sokoban.ACTION_NAMES),
    ),
    "sesa/FrozenLake-v0": ScriptedPlayer(
        _named(frozen_lake.ACTIONS, frozen_lake.expert_action),
        _named(frozen_lake.ACTIONS, frozen_lake.habit_action),
        _any_of(frozen_lake.ACTIONS),
    ),
    "sesa/Countdown-v0": ScriptedPlayer(
        lambda game, rng: countdown.expert_action(game),
        countdown.habit_action,
        _any_expression,
    ),
    "sesa/Sudoku-v0": ScriptedPlayer(
        lambda game, rng: sudoku.expert_action(game),
        sudoku.habit_action,
        lambda game, rng: sudoku.random_action(game, rng),
    ),
}
"""The player of each of our environments."""


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
"""Players of the tasks that one answer settles. By habit they fill a Sudoku row by row with an eye
on rows only, and add up in one go without carrying; any other method they follow with care."""


def rank_places(seed: int = 0) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the places of Path Exploration and their weights in a peaked mind.

    The place at rank r, in an order that has nothing to do with the treasures, weighs r^-1.5.
    """
    names = random.Random(seed).sample(PLACES, len(PLACES))
    return tuple(names), tuple(rank**-1.5 for rank in range(1, len(names) + 1))
