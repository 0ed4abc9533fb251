"""Sudoku grids, 4x4 and 9x9: rules, solver, generator, text forms and files.

A grid is a tuple of digits in reading order, 0 for a blank; its length gives its size. A seed
determines the puzzle: a random full grid whose cells are blanked as long as the exact solver finds
no second solution, or a row of a file in the layout of Kaggle's "3 million Sudoku puzzles with
ratings".
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from math import isqrt
from operator import itemgetter

from .data_files import deal_rows, read_rows, row_of

Grid = tuple[int, ...]

SIZES = (4, 9)

_PLACEMENT = re.compile(r"\s*([1-9])[\s,]+([1-9])[\s,]+([1-9])\s*")
_GRID = re.compile(r"[1-9\s/]{,400}")
_PUZZLE_81 = re.compile("[0-9]{81}")
_SOLUTION_81 = re.compile("[1-9]{81}")
_BLANKS = str.maketrans("._", "00")


# ---- rules and solver ----


def _units(size: int) -> list[tuple[int, int, int]]:
    """List for every cell the indices of its row, column and box among all units."""
    box, cells = isqrt(size), [divmod(cell, size) for cell in range(size * size)]
    return [
        (row, size + column, 2 * size + row // box * box + column // box) for row, column in cells
    ]


def _peers(units: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """List for every cell the other cells of its row, column and box."""
    return [
        [other for other, theirs in enumerate(units) if other != cell and {*own} & {*theirs}]
        for cell, own in enumerate(units)
    ]


UNITS = {size * size: _units(size) for size in SIZES}
"""By number of cells, then by cell: its three units, none of which may hold a digit twice."""
PEERS = {num_cells: _peers(units) for num_cells, units in UNITS.items()}
"""By number of cells, then by cell: the cells that may not hold the same digit."""
_FREE = {
    size * size: [
        [digit for digit in range(1, size + 1) if not held & 1 << digit]
        for held in range(2 << size)
    ]
    for size in SIZES
}
"""By number of cells, then by a set of digits (bit d for digit d): all other digits, ascending."""
_UNITS_81 = [
    itemgetter(*cells)
    for start in range(9)
    for cells in (
        range(9 * start, 9 * start + 9),
        range(start, 81, 9),
        [27 * (start // 3) + 3 * (start % 3) + 9 * (i // 3) + i % 3 for i in range(9)],
    )
]
"""Functions that select the nine digits of each row, column and box from a grid of 81. Made for
large files: `is_valid` takes twenty times as long."""


def candidates(grid: Sequence[int], cell: int) -> list[int]:
    """Return the digits missing from the cell's row, column and box, in ascending order."""
    taken = {grid[peer] for peer in PEERS[len(grid)][cell]}
    return [digit for digit in range(1, isqrt(len(grid)) + 1) if digit not in taken]


def lacking(grid: Sequence[int], row: int) -> list[int]:
    """Return the digits missing from a row, in ascending order."""
    size = isqrt(len(grid))
    held = grid[row * size : (row + 1) * size]
    return [digit for digit in range(1, size + 1) if digit not in held]


def is_valid(grid: Sequence[int]) -> bool:
    """Return whether no row, column or box holds a digit twice."""
    return _held_digits(grid) is not None


def _held_digits(grid: Sequence[int]) -> list[int] | None:
    """Return each unit's set of digits (bit d for digit d); None if a unit holds a digit twice."""
    held = [0] * (3 * isqrt(len(grid)))
    for digit, (row, column, box) in zip(grid, UNITS[len(grid)], strict=True):
        if digit:
            bit = 1 << digit
            if (held[row] | held[column] | held[box]) & bit:
                return None
            held[row] |= bit
            held[column] |= bit
            held[box] |= bit
    return held


def solutions(grid: Sequence[int], rng: random.Random | None = None) -> Iterator[Grid]:
    """Yield every solution, by exhaustive search that always fills the most constrained cell.

    Args:
        grid: 16 or 81 digits in reading order, 0 for a blank.
        rng: shuffles the order in which digits are tried; without it the order is ascending.
    """
    held = _held_digits(grid)
    if held is not None:
        blanks = [cell for cell, digit in enumerate(grid) if digit == 0]
        yield from _search(list(grid), blanks, held, rng)


def _search(
    grid: list[int], blanks: list[int], held: list[int], rng: random.Random | None
) -> Iterator[Grid]:
    """Fill the blanks (cells in ascending order) in every way; all arguments end up unchanged."""
    if not blanks:
        yield tuple(grid)
        return
    place, digits = _most_constrained(len(grid), blanks, held)
    if rng is not None:
        digits = digits[:]
        rng.shuffle(digits)
    cell = blanks.pop(place)
    row, column, box = UNITS[len(grid)][cell]
    for digit in digits:
        bit = 1 << digit
        grid[cell] = digit
        held[row] ^= bit
        held[column] ^= bit
        held[box] ^= bit
        yield from _search(grid, blanks, held, rng)
        held[row] ^= bit
        held[column] ^= bit
        held[box] ^= bit
    blanks.insert(place, cell)


def _most_constrained(
    num_cells: int, blanks: Sequence[int], held: Sequence[int]
) -> tuple[int, list[int]]:
    """Return the index of the first blank with the fewest candidates, and the candidates."""
    units, free = UNITS[num_cells], _FREE[num_cells]
    best, fewest = (0, free[0]), len(free[0]) + 1
    for place, cell in enumerate(blanks):
        row, column, box = units[cell]
        digits = free[held[row] | held[column] | held[box]]
        if len(digits) < fewest:
            best, fewest = (place, digits), len(digits)
            if fewest <= 1:
                break
    return best


def solve(grid: Sequence[int]) -> Grid | None:
    """Return the first solution, or None if there is none."""
    return next(solutions(grid), None)


def count_solutions(grid: Sequence[int], limit: int = 2) -> int:
    """Count the solutions, up to `limit`."""
    return sum(1 for _ in islice(solutions(grid), limit))


# ---- generator ----


def generate_puzzle(seed: int, size: int, num_blanks: int, unique: bool) -> tuple[Grid, Grid]:
    """Make the puzzle of a seed: the given grid and its solution.

    Raises:
        ValueError: if 1000 full grids give no puzzle with that many blanks and one solution.
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
    """Blank random cells, with `unique` only those that keep one solution; None if too few do."""
    grid, missing = list(solution), num_blanks
    for cell in rng.sample(range(len(grid)), len(grid)):
        if missing == 0:
            break
        grid[cell] = 0
        if unique and _has_another(grid, cell, solution[cell]):
            grid[cell] = solution[cell]
        else:
            missing -= 1
    return tuple(grid) if missing == 0 else None


def _has_another(grid: Sequence[int], cell: int, digit: int) -> bool:
    """Return whether a grid with one solution gets another one when the digit of a cell is removed.

    The other solution would have another digit in the cell, so most cells need no search.
    """
    others = (other for other in candidates(grid, cell) if other != digit)
    return any(solve([*grid[:cell], other, *grid[cell + 1 :]]) for other in others)


# ---- text forms ----


def write_rows(grid: Sequence[int], separator: str) -> str:
    """Write the rows of a grid with a separator between them, `_` for a blank."""
    size = isqrt(len(grid))
    signs = "".join("_123456789"[digit] for digit in grid)
    return separator.join(signs[row : row + size] for row in range(0, len(signs), size))


def write_placement(cell: int, digit: int, size: int) -> str:
    """Write "row column digit", counted from 1."""
    return f"{cell // size + 1} {cell % size + 1} {digit}"


def read_placement(text: str, size: int) -> Grid | None:
    """Read "row column digit", counted from 1; None if the text is not that."""
    match = _PLACEMENT.fullmatch(text)
    numbers = () if match is None else tuple(map(int, match.groups()))
    return numbers if numbers and max(numbers) <= size else None


def read_grid(text: str, size: int) -> Grid | None:
    """Read the rows of a full grid; None if the text is not that."""
    digits = tuple(map(int, re.findall("[1-9]", text))) if _GRID.fullmatch(text) else ()
    return digits if len(digits) == size**2 and max(digits) <= size else None


def read_fill(text: str, givens: Grid) -> Grid | None:
    """Read placements that name every blank once into a full grid; None if the text is not that."""
    size, grid = isqrt(len(givens)), list(givens)
    parts = text.rstrip("; \n").split(";")
    if len(parts) != givens.count(0):
        return None
    for part in parts:
        placement = read_placement(part, size)
        if placement is None:
            return None
        cell = (placement[0] - 1) * size + placement[1] - 1
        if grid[cell] != 0:
            return None
        grid[cell] = placement[2]
    return tuple(grid)


# ---- files ----


@dataclass(frozen=True)
class PuzzleFile:
    """The puzzles of a file, dealt to the splits."""

    dealt: dict[str, list[tuple[str, str]]]
    """Puzzle and solution by split: 81 digits each, 0 for a blank."""
    most_blanks: int
    """Largest number of blanks in a puzzle."""

    def puzzle(self, seed: int) -> tuple[Grid, Grid]:
        """Return the puzzle of a seed, given grid and solution."""
        puzzle, solution = row_of(seed, self.dealt)
        return tuple(map(int, puzzle)), tuple(map(int, solution))


@lru_cache(maxsize=4)  # an environment is made for every task, each from the same file
def read_puzzles(path: str, broken_rows: str = "skip", max_rows: int = 100_000) -> PuzzleFile:
    """Read 9x9 puzzles from the columns `puzzle` and `solution` of a file.

    The file is CSV, JSON Lines or parquet. A puzzle is 81 characters in reading order, with `.`,
    `0` or `_` for a blank. A row is broken if its solution is not a valid full grid or does not fit
    its puzzle. Whether a puzzle has a second solution is not checked.

    Args:
        path: the file.
        broken_rows: "skip" (and log their number in one line) or "refuse".
        max_rows: number of rows to read.

    Raises:
        ValueError: in one line, if the file cannot be read, has too few puzzles, or has a broken
            row that is refused.
    """
    rows, puzzles = read_rows(path, ("puzzle", "solution"), broken_rows, max_rows), {}
    for number, row in rows:
        puzzle = str(row["puzzle"]).strip().translate(_BLANKS)
        solution = str(row["solution"]).strip()
        fault = _find_fault(puzzle, solution)
        if fault:
            rows.drop(number, fault)
        else:
            puzzles.setdefault(puzzle, solution)
    dealt = deal_rows(list(puzzles.items()), source=path, content=itemgetter(0))
    return PuzzleFile(dealt, max(puzzle.count("0") for puzzle in puzzles))


def _find_fault(puzzle: str, solution: str) -> str:
    """Return what is wrong with a row, to follow "row 7 "; empty if nothing is."""
    if not _PUZZLE_81.fullmatch(puzzle):
        return "has a puzzle that is not 81 digits and blanks"
    if "0" not in puzzle:
        return "has a puzzle without blanks"
    if not _SOLUTION_81.fullmatch(solution):
        return "has a solution that is not 81 digits"
    if any(len(set(unit(solution))) < 9 for unit in _UNITS_81):
        return "has a solution that holds a digit twice in a row, column or box"
    is_fit = all(given in ("0", digit) for given, digit in zip(puzzle, solution, strict=True))
    return "" if is_fit else "has a solution that does not fit its puzzle"
