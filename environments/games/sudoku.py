"""Sudoku, 4x4 and 9x9: fill the blanks so that every row, column and box holds each digit once.

The game and its scripted players: some that fill the blanks in a named order, an expert, one with a
habit, and a random one. `sudoku_rules.py` has the grids, the generator and the files.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from ...configs.errors import check, check_choice
from ..options import options_of
from ..text_env import RenderMode, TextEnv, TextGame, TextSpec
from .data_files import BROKEN_ROWS
from .one_answer import OneAnswerEnv
from .pixels import draw_text
from .sudoku_rules import (
    Grid,
    PuzzleFile,
    candidates,
    generate_puzzle,
    is_valid,
    lacking,
    read_fill,
    read_grid,
    read_placement,
    read_puzzles,
    solve,
    write_placement,
    write_rows,
)

ANSWERS = ("placements", "grid", "fill")
REWARDS = ("success", "dense")
DEFAULT_BLANKS = {4: 8, 9: 40}
MAX_UNIQUE_BLANKS = {4: 12, 9: 54}
"""Most blanks of a puzzle with one solution: proven for 4x4; for 9x9 what one second can make."""


# ---- game ----


@dataclass(frozen=True)
class SudokuKnobs:
    """What puzzles are generated, or the file they are read from.

    Raises:
        ValueError: if a knob is out of its range.
    """

    size: int | None = None
    """Cells along a side, 4 or 9; by default 4, and 9 with a file."""
    num_blanks: int | None = None
    """Blanks of a generated puzzle; by default 8, or 40 in a 9x9 grid."""
    unique: bool = True
    """Whether a generated puzzle has exactly one solution, proved by search."""
    path: str = ""
    """A file of 9x9 puzzles as `read_puzzles` reads it; empty to generate puzzles."""
    broken_rows: str = "skip"
    """What to do with broken rows of the file: "skip" or "refuse"."""
    max_rows: int = 100_000
    """Number of rows of the file to read."""

    def __post_init__(self) -> None:
        check(isinstance(self.path, str), "path", self.path, "the name of a file")
        check(self.size in (None, *DEFAULT_BLANKS), "size", self.size, "4 or 9")
        check_choice("broken_rows", self.broken_rows, BROKEN_ROWS)
        check(self.max_rows >= 1, "max_rows", self.max_rows, "at least 1")
        if self.path:
            check(self.side == 9, "size", self.size, "9 with path")
            check(self.num_blanks is None, "num_blanks", self.num_blanks, "left out with path")
        else:
            most = MAX_UNIQUE_BLANKS[self.side] if self.unique else self.side**2
            kind = f"from 1 to {most} ({self.side}x{self.side}, unique={self.unique})"
            check(1 <= self.blanks <= most, "num_blanks", self.num_blanks, kind)

    @property
    def side(self) -> int:
        """Cells along a side."""
        return self.size or (9 if self.path else 4)

    @property
    def blanks(self) -> int:
        """Blanks of a generated puzzle."""
        return DEFAULT_BLANKS[self.side] if self.num_blanks is None else self.num_blanks

    def read_file(self) -> PuzzleFile:
        """Read the file's puzzles; they are cached."""
        return read_puzzles(self.path, self.broken_rows, self.max_rows)


class SudokuGame(TextGame[np.ndarray]):
    """Fill a Sudoku, one digit at a time or in one answer.

    Rules: every row, column and box holds each digit once. A placement on a filled cell, or of a
    digit that its row, column or box already holds, is illegal and changes nothing; a legal one
    stays, even if it makes the puzzle unsolvable. A grid that changes a given digit is illegal too.

    Observation: int64 of shape (size, size), the digits, 0 for a blank. As text: one line per row,
    `_` for a blank.

    Actions: "placements": row, column and digit, int64 of shape (3,), each counted from 0; as text
    "r c d", counted from 1. "grid": all digits minus 1, int64 of shape (size, size); as text the
    rows, separated by "/", spaces or newlines. "fill": the same numbers, as text "r c d; r c d" and
    so on with every blank once, or the rows; another order of the blanks is the same action.

    Reward: "success": 1 when the grid is full and right, else 0. "dense": 1 / num_blanks for every
    blank that is filled as in the solution.

    Episode end: terminated when the grid is full, and by any whole-grid answer. Truncated: never.

    Arguments: answer ("placements", "grid" or "fill"), reward ("success" or "dense") and the fields
    of `SudokuKnobs`.

    Version history: v0, the first one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
    charset = "_123456789\n"

    def __init__(self, answer: str = "placements", reward: str = "success", **knobs: Any):
        check(answer in ANSWERS, "answer", answer, "one of " + ", ".join(ANSWERS))
        check(reward in REWARDS, "reward", reward, "one of " + ", ".join(REWARDS))
        self.render_mode = "rgb_array"
        self.knobs = SudokuKnobs(**knobs)
        self.size = size = self.knobs.side
        if self.knobs.path:
            puzzles = self.knobs.read_file()
            self.num_blanks = puzzles.most_blanks
            self.num_puzzles = {name: len(rows) for name, rows in puzzles.dealt.items()}
        else:
            self.num_blanks = self.knobs.blanks
        self.one_answer = answer != "placements"
        self.is_fill = answer == "fill"
        self.longest_solution = 1 if self.one_answer else self.num_blanks
        self.is_dense = reward == "dense"
        self.text_spec = _text_spec(size, answer)
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
        if self.knobs.path:
            # Not kept in the game, so that copies and pickles do not carry the whole file.
            self.givens, self.solution = self.knobs.read_file().puzzle(puzzle_seed)
            self.num_blanks = self.givens.count(0)
        else:
            self.givens, self.solution = generate_puzzle(
                puzzle_seed, self.size, self.num_blanks, self.knobs.unique
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
        return write_rows(self.grid, "\n")

    def read_action(self, text: str) -> tuple[str, np.ndarray] | None:
        """Read "r c d", counted from 1, one for every blank, or the rows of a whole grid."""
        if not self.one_answer:
            placement = read_placement(text, self.size)
            if placement is None:
                return None
            return " ".join(map(str, placement)), np.array(placement) - 1
        grid = read_fill(text, self.givens) if self.is_fill else None
        grid = read_grid(text, self.size) if grid is None else grid
        if grid is None:
            return None
        return write_rows(grid, " / "), np.array(grid).reshape(self.size, self.size) - 1

    def state_key(self) -> Hashable:
        """Return the grid, the solution (rewards depend on it) and the whole-grid answer if any."""
        return self.grid, self.solution, self.answer

    def puzzle_content(self, seed: int) -> str | None:
        """Return the given digits of a seed; None for the rows of a file."""
        if self.knobs.path:
            return None
        givens, _ = generate_puzzle(seed, self.size, self.num_blanks, self.knobs.unique)
        return write_rows(givens, "\n")

    def scripted_action(self, rng: random.Random) -> str:
        """Answer with a placement of the solution, or with all of it."""
        return expert_action(self)

    def render(self) -> np.ndarray:
        """Draw the digits, uint8 of shape (height, width, 3)."""
        return draw_text(self.to_text())


def _text_spec(size: int, answer: str) -> TextSpec:
    box = isqrt(size)
    actions = {
        "placements": "row column digit, such as 1 2 3",
        "grid": f"the whole grid, {size} rows of {size} digits separated by /",
        "fill": "row column digit of every blank, in any order, such as 1 2 3; 3 1 4; 2 4 1",
    }
    whole = "/".join(["1" * size] * size)  # how placements are read depends on the blanks
    examples = {
        "placements": ("1 1 1", "1 2 3", "2 1 4", "2 3 1", "3 4 2", "4 1 2", "4 4 3"),
        "grid": (whole,),
        "fill": (whole,),
    }
    return TextSpec(
        instruction="Fill the blanks so that every row, every column and every "
        f"{box}x{box} box holds the digits 1 to {size} once.",
        legend="_: blank",
        actions=actions[answer],
        sketch="the order in which to fill the blanks",
        examples=examples[answer],
    )


@options_of(SudokuGame, SudokuKnobs)
def make_sudoku(
    max_steps: int | None = None, render_mode: RenderMode = None, **knobs: Any
) -> TextEnv:
    """Build the text environment; see `SudokuGame` and `SudokuKnobs` for the arguments.

    By default an episode has one answer, or two placements per blank (with a file: per blank of its
    puzzle with the most).
    """
    game = SudokuGame(**knobs)
    if max_steps is None:
        max_steps = 1 if game.one_answer else 2 * game.num_blanks
    return (OneAnswerEnv if game.one_answer else TextEnv)(game, max_steps, render_mode)


# ---- orders of filling ----

Order = Callable[[Sequence[int], bool], list[tuple[int, int]]]
"""Takes a grid with blanks, and whether the player checks columns and boxes besides rows; returns
the placements (cell, digit) that the next one is drawn from, or none if no digit fits."""


def _cell_order(rank: Callable[[int, int], tuple[int, ...]]) -> Order:
    """Fill the blank whose cell and grid size have the lowest rank."""

    def placements(grid: Sequence[int], careful: bool) -> list[tuple[int, int]]:
        size = isqrt(len(grid))
        blanks = (cell for cell, digit in enumerate(grid) if digit == 0)
        cell = min(blanks, key=lambda cell: rank(cell, size))
        digits = candidates(grid, cell) if careful else lacking(grid, cell // size)
        return [(cell, digit) for digit in digits]

    return placements


def _box_rank(cell: int, size: int) -> tuple[int, ...]:
    box, (row, column) = isqrt(size), divmod(cell, size)
    return row // box, column // box, row, column


def _constrained_first(grid: Sequence[int], careful: bool) -> list[tuple[int, int]]:
    """Fill the blank with the fewest candidates; finding it takes care in any case."""
    blanks = (cell for cell, digit in enumerate(grid) if digit == 0)
    cell = min(blanks, key=lambda cell: len(candidates(grid, cell)))
    digits = candidates(grid, cell) or lacking(grid, cell // isqrt(len(grid)))
    return [(cell, digit) for digit in digits]


def _digit_by_digit(grid: Sequence[int], careful: bool) -> list[tuple[int, int]]:
    """Put the lowest digit that some row lacks into a blank of the first such row."""
    size = isqrt(len(grid))
    digit, row = min((digit, row) for row in range(size) for digit in lacking(grid, row))
    blanks = [cell for cell in range(row * size, (row + 1) * size) if grid[cell] == 0]
    return [(cell, digit) for cell in blanks if not careful or digit in candidates(grid, cell)]


ORDERS: dict[str, Order] = {
    "rows from the top": _cell_order(lambda cell, size: (cell,)),
    "rows from the bottom": _cell_order(lambda cell, size: (-(cell // size), cell)),
    "columns from the left": _cell_order(lambda cell, size: (cell % size, cell)),
    "columns from the right": _cell_order(lambda cell, size: (-(cell % size), cell)),
    "boxes one by one": _cell_order(_box_rank),
    "the most constrained blank first": _constrained_first,
    "digit by digit": _digit_by_digit,
}
"""Orders in which to fill the blanks, by the text of a sketch."""


def fill_in_order(game: SudokuGame, order: str, rng: random.Random, care: float) -> str:
    """Fill every blank in an order, and write the "fill" answer.

    With probability `care` a digit is drawn from those that fit its row, column and box so far;
    otherwise, and if none fits, from those missing in its row. So every row ends up with each digit
    once, whatever the care.

    Args:
        game: the puzzle, with blanks.
        order: a name in `ORDERS`. "the most constrained blank first" is always careful.
        rng: draws the digits, or for "digit by digit" the cells.
        care: probability from 0 to 1.

    Raises:
        ValueError: if the order is unknown or `care` is not a probability.
    """
    check(order in ORDERS, "order", order, "one of " + ", ".join(ORDERS))
    check(0 <= care <= 1, "care", care, "from 0 to 1")
    grid, placements = list(game.grid), []
    while 0 in grid:
        careful = rng.random() < care
        choice = ORDERS[order](grid, careful) or ORDERS[order](grid, False)
        cell, digit = rng.choice(choice)
        grid[cell] = digit
        placements.append(write_placement(cell, digit, game.size))
    return "; ".join(placements)


# ---- scripted players ----


def expert_action(game: SudokuGame) -> str:
    """Return a placement of the solution, preferably in a cell with one candidate; or all of it."""
    solution = solve(game.grid) or game.solution
    if game.one_answer:
        return _write_answer(game, solution)
    blanks = [cell for cell, digit in enumerate(game.grid) if digit == 0]
    singles = (cell for cell in blanks if len(candidates(game.grid, cell)) == 1)
    cell = next(singles, blanks[0])
    return write_placement(cell, solution[cell], game.size)


def habit_action(game: SudokuGame, rng: random.Random) -> str:
    """Return the action of a player who only checks rows and fills the first blank.

    Three times out of four it takes the smallest digit missing in the row, otherwise any of them.
    """
    if not game.one_answer:
        cell = game.grid.index(0)
        return write_placement(cell, _habit_digit(game.grid, cell, rng), game.size)
    grid = list(game.grid)
    while 0 in grid:
        cell = grid.index(0)
        grid[cell] = _habit_digit(grid, cell, rng)
    return _write_answer(game, grid)


def random_action(game: SudokuGame, rng: random.Random) -> str:
    """Return any digit in any blank cell, or any digits in all of them."""
    blanks = [cell for cell, digit in enumerate(game.grid) if digit == 0]
    if not game.one_answer:
        return write_placement(rng.choice(blanks), rng.randint(1, game.size), game.size)
    return _write_answer(game, [digit or rng.randint(1, game.size) for digit in game.grid])


def _habit_digit(grid: Sequence[int], cell: int, rng: random.Random) -> int:
    missing = lacking(grid, cell // isqrt(len(grid)))
    return missing[0 if rng.random() < 0.75 else int(rng.random() * len(missing))]


def _write_answer(game: SudokuGame, grid: Sequence[int]) -> str:
    """Write a whole grid, or for "fill" the digits of its blanks in reading order."""
    if not game.is_fill:
        return write_rows(grid, " / ")
    blanks = [cell for cell, digit in enumerate(game.givens) if digit == 0]
    return "; ".join(write_placement(cell, grid[cell], game.size) for cell in blanks)
