import logging
import pickle
import subprocess
import sys

import pytest

from sesa_agent.environments.games.sudoku import SudokuGame, expert_action, make_sudoku
from sesa_agent.environments.games.sudoku_rules import (
    candidates,
    count_solutions,
    generate_puzzle,
    is_valid,
    read_puzzles,
    solutions,
    solve,
)

from ...helpers.sudokus import EASY, EASY_SOLVED, FULL, GIVENS, relabelled, write_csv


def digits(text):
    return tuple(map(int, text))


# ---- rules, solver and generator ----


def test_candidates_by_hand():
    assert candidates(GIVENS, 10) == [4]
    assert candidates(GIVENS, 15) == [1]
    assert candidates([0] * 81, 40) == list(range(1, 10))


def test_validity_looks_at_rows_columns_and_boxes():
    assert is_valid(FULL) and is_valid(GIVENS)
    for first, second in ((0, 3), (0, 12), (0, 5)):
        grid = [0] * 16
        grid[first] = grid[second] = 1
        assert not is_valid(grid)
        assert solve(grid) is None


def test_solver_by_hand():
    assert solve(GIVENS) == FULL
    assert solve(digits(EASY)) == digits(EASY_SOLVED)
    assert count_solutions(digits(EASY)) == 1


def test_solver_counts_every_solution():
    assert sum(1 for _ in solutions([0] * 16)) == 288  # all 4x4 Sudokus there are
    assert count_solutions([0] * 16, limit=5) == 5
    assert count_solutions((1, 2, 3, 0, 0, 0, 0, 4) + (0,) * 8) == 0


@pytest.mark.parametrize(
    ("size", "num_blanks", "unique"),
    [(4, 1, True), (4, 6, True), (4, 12, True), (4, 16, False), (9, 40, True), (9, 30, False)],
)
def test_every_puzzle_is_solvable_and_unique_if_asked(size, num_blanks, unique):
    for seed in range(40 if size == 4 else 4):
        givens, solution = generate_puzzle(seed, size, num_blanks, unique)
        assert givens.count(0) == num_blanks
        assert is_valid(solution) and 0 not in solution
        assert all(given in (0, digit) for given, digit in zip(givens, solution, strict=True))
        if unique:
            assert list(solutions(givens)) == [solution]


def test_puzzles_of_a_seed_stay_what_they_were():
    """Results name puzzles by their seeds, so a faster generator must make the same ones."""
    assert generate_puzzle(0, 4, 8, True)[0] == digits("3004040300420031")
    assert generate_puzzle(0, 9, 40, True)[0] == digits(
        "800000006040000059095070003009065407610042008000389610001907864730650920064210300"
    )


def test_same_seed_same_puzzle_in_another_process():
    code = (
        "from sesa_agent.environments.games.sudoku_rules import *;"
        "print([generate_puzzle(s, 4, 6, True) for s in range(5)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [generate_puzzle(seed, 4, 6, True) for seed in range(5)]
    assert there.stdout.strip() == str(here)
    assert len(set(here)) == 5


# ---- files ----


@pytest.fixture
def csv_file(tmp_path):
    return write_csv(tmp_path / "sudoku-3m.csv", enumerate(map(relabelled, range(9))))


def test_a_file_gives_the_puzzles_and_each_split_its_own(csv_file):
    env = make_sudoku(path=csv_file, answer="fill")
    game = env.game
    assert isinstance(game, SudokuGame)
    seen = {}
    for start in (0, 100_000, 1_000_000):
        seen[start] = set()
        for seed in range(start, start + 20):
            text, info = env.reset(seed=seed)
            seen[start].add(text)
            puzzle = "".join("_123456789"[digit] for digit in game.givens)
            assert puzzle.replace("_", ".") in {relabelled(shift)[0] for shift in range(9)}
            assert game.num_blanks == puzzle.count("_") == 51
            assert info["optimal_length"] == 1
            assert env.step(expert_action(game))[4]["success"]
    assert {start: len(texts) for start, texts in seen.items()} == {0: 1, 100_000: 1, 1_000_000: 7}
    assert len(set.union(*seen.values())) == 9


def test_a_file_is_played_by_placements_too(csv_file):
    env = make_sudoku(path=csv_file, reward="dense")
    game = env.game
    assert isinstance(game, SudokuGame)
    assert env.max_steps == 2 * 51
    env.reset(seed=0)
    assert env.step(expert_action(game))[1] == 1 / 51
    assert len(pickle.dumps(env)) < 10_000  # the file stays where it is
    assert pickle.loads(pickle.dumps(env)).reset(seed=3) == env.reset(seed=3)


BROKEN = [
    (EASY[1:], EASY_SOLVED),
    (EASY[1:] + "x", EASY_SOLVED),
    (EASY_SOLVED, EASY_SOLVED),
    (EASY, EASY),
    (EASY, EASY_SOLVED[:-1] + "8"),
    (EASY.replace("5", "6", 1), EASY_SOLVED),
    (EASY, ""),
]
FAULTS = [
    "has a puzzle that is not 81 digits and blanks",
    "has a puzzle that is not 81 digits and blanks",
    "has a puzzle without blanks",
    "has a solution that is not 81 digits",
    "has a solution that holds a digit twice",
    "has a solution that does not fit its puzzle",
    "has a solution that is not 81 digits",
]


@pytest.mark.parametrize(("row", "fault"), list(zip(BROKEN, FAULTS, strict=True)))
def test_a_broken_row_is_refused_with_its_number(tmp_path, row, fault):
    rows = [relabelled(0), row, *map(relabelled, range(1, 9))]
    path = write_csv(tmp_path / "broken.csv", enumerate(rows))
    with pytest.raises(ValueError, match=f"broken.csv: row 2 {fault}"):
        make_sudoku(path=path, broken_rows="refuse")


def test_broken_rows_are_skipped_and_counted(tmp_path, caplog):
    rows = [*BROKEN, *map(relabelled, range(9))]
    path = write_csv(tmp_path / "broken.csv", enumerate(rows))
    with caplog.at_level(logging.WARNING):
        dealt = read_puzzles(path).dealt
    assert sum(len(dealt[split]) for split in ("test", "validation", "training")) == 9
    assert "7 of 16 rows are broken and were skipped" in caplog.text


def test_at_most_max_rows_are_read(csv_file):
    dealt = read_puzzles(csv_file, max_rows=5).dealt
    assert sum(len(dealt[split]) for split in ("test", "validation", "training")) == 5


ONE_KIND_OF_UNIT_WRONG = {
    "boxes": [row + column for row in range(9) for column in range(9)],
    "columns": [3 * row + column for row in range(9) for column in range(9)],
    "rows": [3 * column + row for row in range(9) for column in range(9)],
}


@pytest.mark.parametrize("units", ONE_KIND_OF_UNIT_WRONG)
def test_a_solution_is_checked_in_rows_columns_and_boxes(tmp_path, units):
    solution = "".join(str(number % 9 + 1) for number in ONE_KIND_OF_UNIT_WRONG[units])
    rows = [("." * 81, solution), *map(relabelled, range(9))]
    path = write_csv(tmp_path / f"{units}.csv", enumerate(rows))
    with pytest.raises(ValueError, match="row 1 has a solution that holds a digit twice"):
        make_sudoku(path=path, broken_rows="refuse")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"size": 4}, "size must be 9 with path, got 4"),
        ({"num_blanks": 6}, "num_blanks must be left out with path, got 6"),
        ({"broken_rows": "mend"}, "broken_rows must be one of skip, refuse, got 'mend'"),
        ({"max_rows": 2}, "must hold at least 3 different usable rows, got 2"),
        ({"path": "nowhere.csv"}, "nowhere.csv does not exist"),
    ],
)
def test_wrong_knobs_of_files_are_refused(csv_file, knobs, message):
    with pytest.raises(ValueError, match=message):
        make_sudoku(**{"path": csv_file, **knobs})


def test_a_file_without_solutions_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text(f"quizzes,solution\n{EASY},{EASY_SOLVED}\n")
    with pytest.raises(ValueError, match="must have the columns puzzle, solution; it has no puz"):
        make_sudoku(path=str(tmp_path / "other.csv"))
