"""What an exact solver would play next, for a person who asks for a hint.

The solvers are those beside each game's rules. Games of other packages have none here, nor has Path
Exploration, which is about finding out.
"""

from collections.abc import Callable
from typing import Any

import gymnasium

from . import countdown, frozen_lake, math_problems, sokoban, sudoku

Solver = Callable[[Any, int], str | None]
"""From a game and the number of actions left to an action on a way to win; None if it knows no way
from here."""


def find_solver(env: gymnasium.Env[Any, Any]) -> Solver | None:
    """Return the solver of an environment's game, or None if there is none.

    It takes the game, `env.unwrapped.game`.
    """
    game = getattr(env.unwrapped, "game", None)
    if isinstance(game, math_problems.MathGame) and not game.terms:
        return None  # the problems of a file are not solved, only looked up
    return SOLVERS.get(type(game))


def _solve_sokoban(game: sokoban.SokobanEnv, actions_left: int) -> str | None:
    solution = sokoban.solve(game.board(), actions_left)
    return sokoban.ACTION_NAMES[solution[0]] if solution else None


def _solve_frozen_lake(game: frozen_lake.FrozenLakeGame, actions_left: int) -> str | None:
    if frozen_lake.optimal_success(game, actions_left) == 0:
        return None
    return frozen_lake.ACTIONS[frozen_lake.expert_action(game, actions_left)]


def _solve_sudoku(game: sudoku.SudokuGame, actions_left: int) -> str | None:
    return None if sudoku.solve(game.grid) is None else sudoku.expert_action(game)


SOLVERS: dict[type, Solver] = {
    sokoban.SokobanEnv: _solve_sokoban,
    frozen_lake.FrozenLakeGame: _solve_frozen_lake,
    countdown.CountdownGame: lambda game, actions_left: countdown.expert_action(game),
    sudoku.SudokuGame: _solve_sudoku,
    math_problems.MathGame: lambda game, actions_left: math_problems.METHODS["left to right"](
        game.terms
    ),
}
"""By the class of the game."""
