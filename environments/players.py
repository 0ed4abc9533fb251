"""Scripted players: short-sighted, bound to a habit, with a small share of good moves.

The bundled model is trained on their play. They stand for what a small instruction-tuned model is
like before reinforcement learning: nearly always well-formed, strongly peaked, mostly wrong.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import countdown, frozen_lake, sokoban, sudoku

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
