"""Sudoku, 4x4 and 9x9: fill the blanks so that every row, column and box holds each digit once.

Pure rules first (candidates, solver, generator), the game below. A grid is a tuple of digits in
reading order, 0 for a blank; its length tells its size. A puzzle is its seed: a random full grid
from which cells are taken as long as the exact solver finds no second solution.
"""

import copy
import random
import re
from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from math import isqrt
from typing import Any

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from .one_answer import OneAnswerEnv
from .pixels import draw_text
from .text_env import TextEnv, TextGame, TextSpec

Grid = tuple[int, ...]

ANSWERS = ("placements", "grid")
REWARDS = ("success", "dense")
DEFAULT_BLANKS = {4: 6, 9: 40}
MAX_UNIQUE_BLANKS = {4: 12, 9: 54}
"""Most blanks of a puzzle with one solution: proven for 4x4; what is made in a second for 9x9."""

_PLACEMENT = re.compile(r"\s*([1-9])[\s,]+([1-9])[\s,]+([1-9])\s*")
_GRID = re.compile(r"[1-9\s/]{,400}")


# ---- rules and solver ----


def _peers(size: int) -> list[list[int]]:
    """For every cell, the other cells of its row, column and box."""
    box, cells = isqrt(size), range(size * size)

    def units(cell: int) -> tuple[int, int, int]:
        row, column = divmod(cell, size)
        return row, column, row // box * box + column // box

    def share_unit(a: int, b: int) -> bool:
        return a != b and any(x == y for x, y in zip(units(a), units(b), strict=True))

    return [[other for other in cells if share_unit(cell, other)] for cell in cells]


PEERS = {size * size: _peers(size) for size in DEFAULT_BLANKS}
"""By number of cells, then by cell: the cells that may not hold the same digit."""


def candidates(grid: Sequence[int], cell: int) -> list[int]:
    """Return the digits that the cell's row, column and box do not hold yet, in ascending order."""
    taken = {grid[peer] for peer in PEERS[len(grid)][cell]}
    return [digit for digit in range(1, isqrt(len(grid)) + 1) if digit not in taken]


def is_valid(grid: Sequence[int]) -> bool:
    """Return whether no row, column or box holds a digit twice."""
    return all(not digit or digit in candidates(grid, cell) for cell, digit in enumerate(grid))


def solutions(grid: Sequence[int], rng: random.Random | None = None) -> Iterator[Grid]:
    """Yield every solution, by exhaustive search that always fills the most constrained cell.

    Args:
        grid: digits in reading order, 0 for a blank, 16 or 81 of them.
        rng: draws the order in which digits are tried; ascending without it.
    """
    if is_valid(grid):
        yield from _search(list(grid), rng)


def _search(grid: list[int], rng: random.Random | None) -> Iterator[Grid]:
    choice = _most_constrained(grid)
    if choice is None:
        yield tuple(grid)
        return
    cell, digits = choice
    if rng is not None:
        rng.shuffle(digits)
    for digit in digits:
        grid[cell] = digit
        yield from _search(grid, rng)
    grid[cell] = 0


def _most_constrained(grid: Sequence[int]) -> tuple[int, list[int]] | None:
    """Return the blank cell with the fewest candidates and these, or None for a full grid."""
    best = None
    for cell, digit in enumerate(grid):
        if digit == 0:
            digits = candidates(grid, cell)
            if best is None or len(digits) < len(best[1]):
                best = cell, digits
            if len(digits) <= 1:
                break
    return best


def solve(grid: Sequence[int]) -> Grid | None:
    """Return the first solution, or None if there is none."""
    return next(solutions(grid), None)


def count_solutions(grid: Sequence[int], limit: int = 2) -> int:
    """Return the number of solutions, counting no further than `limit`."""
    return sum(1 for _ in islice(solutions(grid), limit))


# ---- generator ----


def generate_puzzle(seed: int, size: int, num_blanks: int, unique: bool) -> tuple[Grid, Grid]:
    """Make the puzzle of a seed: the given grid and its solution.

    Raises:
        ValueError: if 1000 full grids give no puzzle with so many blanks and one solution.
    """
    rng = random.Random(seed)
    for _ in range(1000):
        solution = next(solutions([0] * size**2, rng))
        givens = _take_cells(solution, num_blanks, unique, rng)
        if givens is not None:
            return givens, solution
    raise ValueError(
        f"num_blanks={num_blanks} left more than one solution in 1000 {size}x{size} grids. "
        "Lower num_blanks or set unique=False."
    )


def _take_cells(solution: Grid, num_blanks: int, unique: bool, rng: random.Random) -> Grid | None:
    """Blank random cells; with `unique` only those that leave one solution, None if too few do."""
    grid, missing = list(solution), num_blanks
    for cell in rng.sample(range(len(grid)), len(grid)):
        if missing == 0:
            break
        grid[cell] = 0
        if unique and count_solutions(grid) > 1:
            grid[cell] = solution[cell]
        else:
            missing -= 1
    return tuple(grid) if missing == 0 else None


# ---- game ----


class SudokuGame(TextGame[np.ndarray]):
    """Fill a Sudoku, one digit at a time or in one answer.

    Rules: every row, column and box holds each digit once. A placement on a filled cell, or of a
    digit that its row, column or box already holds, is illegal and changes nothing; a legal one
    stays, even if it leads nowhere. A grid that changes a given digit is illegal too.

    Observation: int64 of shape (size, size), the digits, 0 for a blank. In words: one line per row,
    `_` for a blank.

    Actions: "placements": row, column and digit, int64 of shape (3,), each counted from 0; in words
    "r c d", counted from 1. "grid": all digits less 1, int64 of shape (size, size); in words the
    rows, separated by "/", spaces or newlines.

    Reward: "success": 1 when the grid is full and right, else 0. "dense": 1 / num_blanks for every
    blank that is filled as in the solution.

    Episode end: terminated when the grid is full, and by any whole-grid answer. Truncated: never.

    Arguments: size (4 or 9), num_blanks (6 or 40 unless set), unique (exactly one solution, proved
    by search), answer ("placements" or "grid"), reward ("success" or "dense").

    Version history: v0, the first one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
    charset = "_123456789\n"

    def __init__(
        self,
        size: int = 4,
        num_blanks: int | None = None,
        unique: bool = True,
        answer: str = "placements",
        reward: str = "success",
    ):
        self.render_mode = "rgb_array"
        _check(size in DEFAULT_BLANKS, "size", size, "4 or 9")
        self.size = size
        self.num_blanks = DEFAULT_BLANKS[size] if num_blanks is None else num_blanks
        most = MAX_UNIQUE_BLANKS[size] if unique else size**2
        kind = f"from 1 to {most} ({size}x{size}, unique={unique})"
        _check(1 <= self.num_blanks <= most, "num_blanks", num_blanks, kind)
        _check(answer in ANSWERS, "answer", answer, "one of " + ", ".join(ANSWERS))
        _check(reward in REWARDS, "reward", reward, "one of " + ", ".join(REWARDS))
        self.unique = unique
        self.one_answer = answer == "grid"
        self.is_dense = reward == "dense"
        self.text_spec = _text_spec(size, self.one_answer)
        self.max_text_length = size * (size + 1)
        self.observation_space = Box(0, size, (size, size), np.int64)
        shape = (size, size) if self.one_answer else (3,)
        self.action_space = MultiDiscrete(np.full(shape, size))
        self.givens = self.grid = self.solution = (0,) * size**2
        self.answer: Grid | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the puzzle of `seed`, or of a seed drawn from the generator."""
        super().reset(seed=seed)
        puzzle_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.givens, self.solution = generate_puzzle(
            puzzle_seed, self.size, self.num_blanks, self.unique
        )
        self.grid, self.answer = self.givens, None
        optimal_length = 1 if self.one_answer else self.num_blanks
        info = {"puzzle_seed": puzzle_seed, "optimal_length": optimal_length}
        return self._observation(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Place a digit, or judge a whole grid."""
        before = self.grid
        numbers = np.asarray(action).ravel().tolist()
        legal = self._answer(numbers) if self.one_answer else self._place(*numbers)
        success = 0 not in self.grid and is_valid(self.grid)
        reward = self._num_right(before) / self.num_blanks if self.is_dense else float(success)
        info = {"success": success, "legal": legal}
        return self._observation(), reward, success or self.one_answer, False, info

    def _place(self, row: int, column: int, digit: int) -> bool:
        cell = row * self.size + column
        legal = self.grid[cell] == 0 and digit + 1 in candidates(self.grid, cell)
        if legal:
            self.grid = (*self.grid[:cell], digit + 1, *self.grid[cell + 1 :])
        return legal

    def _answer(self, numbers: list[int]) -> bool:
        self.answer = tuple(number + 1 for number in numbers)
        legal = all(
            given in (0, digit) for given, digit in zip(self.givens, self.answer, strict=True)
        )
        if legal:
            self.grid = self.answer
        return legal

    def _num_right(self, before: Grid) -> int:
        """Count the cells that were blank before and are filled as in the solution now."""
        cells = zip(before, self.grid, self.solution, strict=True)
        return sum(old == 0 and new == right for old, new, right in cells)

    def _observation(self) -> np.ndarray:
        return np.array(self.grid).reshape(self.size, self.size)

    def to_text(self) -> str:
        """Write one line per row, `_` for a blank."""
        return _write_rows(self.grid, "\n")

    def read_action(self, text: str) -> tuple[str, np.ndarray] | None:
        """Read "r c d", counted from 1, or the rows of a whole grid."""
        reading = _read_grid(text) if self.one_answer else _read_placement(text)
        wanted = self.size**2 if self.one_answer else 3
        if reading is None or len(reading) != wanted or max(reading) > self.size:
            return None
        if self.one_answer:
            action = np.array(reading).reshape(self.size, self.size) - 1
            return _write_rows(reading, " / "), action
        return " ".join(map(str, reading)), np.array(reading) - 1

    def fork(self) -> "SudokuGame":
        """Copy the game with its random generator; grids are never changed in place."""
        twin = copy.copy(self)
        twin._np_random = copy.deepcopy(self._np_random)
        return twin

    def state_key(self) -> Hashable:
        """Return the grid, the solution that rewards refer to, and the whole-grid answer if any."""
        return self.grid, self.solution, self.answer

    def render(self) -> np.ndarray:
        """Draw the digits, uint8 of shape (height, width, 3)."""
        return draw_text(self.to_text())


def _check(condition: bool, knob: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{knob} must be {allowed}, got {value!r}.")


def _text_spec(size: int, one_answer: bool) -> TextSpec:
    box = isqrt(size)
    return TextSpec(
        instruction="Fill the blanks so that every row, every column and every "
        f"{box}x{box} box holds the digits 1 to {size} once.",
        legend="_: blank",
        actions=f"the whole grid, {size} rows of {size} digits separated by /"
        if one_answer
        else "row column digit, such as 1 2 3",
    )


def _write_rows(grid: Sequence[int], separator: str) -> str:
    size = isqrt(len(grid))
    signs = "".join("_123456789"[digit] for digit in grid)
    return separator.join(signs[row : row + size] for row in range(0, len(signs), size))


def _read_placement(text: str) -> Grid | None:
    match = _PLACEMENT.fullmatch(text)
    return None if match is None else tuple(map(int, match.groups()))


def _read_grid(text: str) -> Grid | None:
    if not _GRID.fullmatch(text):
        return None
    return tuple(int(sign) for sign in text if sign.isdigit())


def make_sudoku(
    max_steps: int | None = None, render_mode: str | None = None, **knobs: Any
) -> TextEnv:
    """Build the text environment; see `SudokuGame` for the knobs.

    By default an episode has two placements per blank, or one whole-grid answer.
    """
    game = SudokuGame(**knobs)
    if max_steps is None:
        max_steps = 1 if game.one_answer else 2 * game.num_blanks
    return (OneAnswerEnv if game.one_answer else TextEnv)(game, max_steps, render_mode)


# ---- scripted players ----


def expert_action(game: SudokuGame) -> str:
    """Return a cell of the solution, the first with one candidate if there is one; or all of it."""
    solution = solve(game.grid) or game.solution
    if game.one_answer:
        return _write_rows(solution, " / ")
    blanks = [cell for cell, digit in enumerate(game.grid) if digit == 0]
    singles = (cell for cell in blanks if len(candidates(game.grid, cell)) == 1)
    cell = next(singles, blanks[0])
    return _write_placement(cell, solution[cell], game.size)


def habit_action(game: SudokuGame, rng: random.Random) -> str:
    """Return what a player fills in who looks at rows only, from the first blank on.

    Three times in four it takes the smallest digit that the row does not hold yet, else any.
    """
    if not game.one_answer:
        cell = game.grid.index(0)
        return _write_placement(cell, _habit_digit(game.grid, cell, rng), game.size)
    grid = list(game.grid)
    while 0 in grid:
        cell = grid.index(0)
        grid[cell] = _habit_digit(grid, cell, rng)
    return _write_rows(grid, " / ")


def random_action(game: SudokuGame, rng: random.Random) -> str:
    """Return any digit in any blank cell, or any digits in all of them."""
    blanks = [cell for cell, digit in enumerate(game.grid) if digit == 0]
    if not game.one_answer:
        return _write_placement(rng.choice(blanks), rng.randint(1, game.size), game.size)
    grid = [digit or rng.randint(1, game.size) for digit in game.grid]
    return _write_rows(grid, " / ")


def _habit_digit(grid: Sequence[int], cell: int, rng: random.Random) -> int:
    size = isqrt(len(grid))
    row = grid[cell // size * size :][:size]
    missing = [digit for digit in range(1, size + 1) if digit not in row]
    return missing[0 if rng.random() < 0.75 else int(rng.random() * len(missing))]


def _write_placement(cell: int, digit: int, size: int) -> str:
    return f"{cell // size + 1} {cell % size + 1} {digit}"
