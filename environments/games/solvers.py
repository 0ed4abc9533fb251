"""The next action of each game's exact solver, for the hints of `sesa-agent play`.

The solvers themselves stand beside each game's rules. Path Exploration has none, because its
treasures can only be found by trying; nor have the games of other packages.
"""

from collections.abc import Callable
from typing import Any

import gymnasium

from ..text_env import text_game
from . import countdown, frozen_lake, math_problems, sokoban, sudoku

Solver = Callable[[Any, int], str | None]
"""Takes a game and the number of actions left; returns an action on a way to win, or None if it
finds no way from here."""


def find_solver(env: gymnasium.Env[Any, Any]) -> Solver | None:
    """Return the solver of an environment's game (`env.unwrapped.game`), or None."""
    game = text_game(env)
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
"""Solvers by the class of the game."""
