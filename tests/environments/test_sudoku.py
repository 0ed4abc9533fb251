import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.environments import fork, make_env, state_key
from sesa_agent.environments.sudoku import (
    SudokuGame,
    candidates,
    count_solutions,
    expert_action,
    generate_puzzle,
    habit_action,
    is_valid,
    make_sudoku,
    random_action,
    solutions,
    solve,
)

FULL = (1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1)
GIVENS = (1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 0, 3, 4, 3, 2, 0)
EASY = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
EASY_SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


def env_with(givens=GIVENS, solution=FULL, **options):
    env = make_sudoku(num_blanks=givens.count(0), **options)
    env.reset(seed=0)
    game = env.game
    assert isinstance(game, SudokuGame)
    game.givens = game.grid = givens
    game.solution = solution
    return env


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


def test_same_seed_same_puzzle_in_another_process():
    code = (
        "from sesa_agent.environments.sudoku import *;"
        "print([generate_puzzle(s, 4, 6, True) for s in range(5)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [generate_puzzle(seed, 4, 6, True) for seed in range(5)]
    assert there.stdout.strip() == str(here)
    assert len(set(here)) == 5


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"size": 6}, "size must be 4 or 9, got 6"),
        ({"num_blanks": 0}, "num_blanks must be from 1 to 12"),
        ({"num_blanks": 13}, r"num_blanks must be from 1 to 12 \(4x4, unique=True\), got 13"),
        ({"num_blanks": 17, "unique": False}, "num_blanks must be from 1 to 16"),
        ({"size": 9, "num_blanks": 55}, "num_blanks must be from 1 to 54"),
        ({"answer": "both"}, "answer must be one of placements, grid, got 'both'"),
        ({"reward": "big"}, "reward must be one of success, dense, got 'big'"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_wrong_knobs_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        make_sudoku(**knobs)


# ---- game ----


@pytest.mark.parametrize("knobs", [{}, {"answer": "grid"}, {"size": 9, "num_blanks": 20}], ids=str)
def test_gymnasium_checker_is_silent(knobs):
    env = make_env("sesa/Sudoku-v0", **knobs).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
        check_env(env.game, skip_render_check=True)  # pyright: ignore


def test_placements_by_hand():
    env = env_with()
    assert env.step("3 3 4") == ("1234\n3412\n2143\n432_", 0, False, False, legal(True))
    assert env.step("4, 4, 1") == (
        "1234\n3412\n2143\n4321", 1, True, False, {"success": True, "legal": True},
    )  # fmt: skip


def legal(is_legal):
    return {"success": False, "legal": is_legal}


@pytest.mark.parametrize(
    "text",
    ["1 1 1", "1 1 2", "3 3 1", "3 3 2", "3 3 3", "4 4 2", "", "3 3", "3 3 5", "5 3 4", "334"],
)
def test_illegal_and_unreadable_placements_change_nothing(text):
    env = env_with()
    key = state_key(env)
    assert env.step(text)[1:] == (0, False, False, legal(False))
    assert state_key(env) == key


def test_a_legal_placement_that_leads_nowhere_stays():
    env = env_with((0,) * 16, unique=False)
    for text in ("1 1 1", "1 2 2", "1 3 3", "2 4 4"):
        assert env.step(text)[4] == legal(True)
    assert env.game.to_text() == "123_\n___4\n____\n____"  # the corner's box has its 4 already
    assert solve(env.game.grid) is None  # pyright: ignore
    assert env.step("1 4 4")[4] == legal(False)


def test_dense_reward_pays_each_right_cell():
    env = env_with((0, 0, *FULL[2:4], 0, 0, *FULL[6:]), reward="dense")
    assert env.step("1 1 1")[1] == 0.25
    assert env.step("1 1 1")[1] == 0
    assert env.step("1 2 2")[1] == 0.25


def test_dense_reward_pays_nothing_for_a_wrong_legal_digit():
    env = env_with((0,) * 16, reward="dense", unique=False)
    assert env.step("1 1 2")[1:] == (0, False, False, legal(True))
    assert env.step("1 2 1")[1] == 0
    assert env.step("1 3 3")[1] == 1 / 16


def test_placements_are_truncated_after_two_steps_per_blank():
    env = env_with()
    flags = [env.step("pass")[2:4] for _ in range(4)]
    assert flags == [(False, False)] * 3 + [(False, True)]


GRID = "1234 / 3412 / 2143 / 4321"


@pytest.mark.parametrize(
    "text", [GRID, "1234\n3412\n2143\n4321", "1234 3412 2143 4321", "1 2 3 4/3 4 1 2/2143/4321"]
)
def test_whole_grid_answers_are_read_in_every_layout(text):
    env = env_with(answer="grid")
    assert env.canonical_action(text) == GRID
    assert env.step(text)[1:] == (1, True, False, {"success": True, "legal": True})


@pytest.mark.parametrize(
    ("text", "is_legal", "dense"),
    [
        ("1234 / 3412 / 2143 / 4322", True, 0.5),  # one wrong digit
        ("2134 / 3412 / 2143 / 4321", False, 0),  # a given was changed
        ("1234 / 3412 / 2143 / 432", False, 0),
        ("1234 / 3412 / 2143 / 4325", False, 0),
        ("1234 / 3412 / 2143 / 432_", False, 0),
        ("1" * 10_000, False, 0),
        ("", False, 0),
    ],
)
def test_wrong_grids_lose(text, is_legal, dense):
    for reward, expected in (("success", 0), ("dense", dense)):
        env = env_with(answer="grid", reward=reward)
        assert env.step(text)[1:] == (expected, True, False, legal(is_legal))


def test_another_solution_counts_if_several_exist():
    givens = (0,) * 16
    env = env_with(givens, answer="grid", unique=False)
    other = [digit % 4 + 1 for digit in FULL]
    assert env.step("".join(map(str, other)))[4]["success"]


@settings(deadline=None)
@given(st.text(), st.sampled_from(["placements", "grid"]))
def test_any_text_is_read_or_refused(text, answer):
    game = SudokuGame(answer=answer)
    reading = game.read_action(text)
    if reading is not None:
        assert reading[1] in game.action_space
        assert game.read_action(reading[0])[0] == reading[0]  # pyright: ignore


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.data())
def test_random_play_keeps_every_rule(seed, data):
    env = make_sudoku(unique=False, num_blanks=10)
    game = env.game
    assert isinstance(game, SudokuGame)
    env.reset(seed=seed)
    for _ in range(10):
        before = game.grid
        action = np.array(data.draw(st.tuples(*[st.integers(0, 3)] * 3)))
        observation, _, terminated, _, info = game.step(action)
        assert is_valid(game.grid) and observation in game.observation_space
        assert (game.grid != before) == info["legal"]
        assert terminated == info["success"] == (0 not in game.grid)


@pytest.mark.parametrize("answer", ["placements", "grid"])
@pytest.mark.parametrize("size", [4, 9])
def test_expert_wins_in_the_optimal_length(size, answer):
    env = make_sudoku(size=size, answer=answer)
    game = env.game
    assert isinstance(game, SudokuGame)
    for seed in range(20 if size == 4 else 2):
        _, info = env.reset(seed=seed)
        for _ in range(info["optimal_length"]):
            *_, terminated, _, last = env.step(expert_action(game))
        assert terminated and last["success"]


@pytest.mark.parametrize("answer", ["placements", "grid"])
@pytest.mark.parametrize("play", [habit_action, random_action])
def test_weak_players_are_readable_and_win_sometimes(answer, play):
    env, rng = make_sudoku(answer=answer), random.Random(0)
    game = env.game
    assert isinstance(game, SudokuGame)
    wins = 0
    for seed in range(200):
        env.reset(seed=seed)
        is_open = True
        while is_open:
            action = play(game, rng)
            assert env.canonical_action(action) == action
            *_, terminated, truncated, info = env.step(action)
            is_open = not (terminated or truncated)
        wins += info["success"]
    assert wins < 180
    assert wins > 0 or play is random_action


@pytest.mark.parametrize("answer", ["placements", "grid"])
def test_fork_leaves_the_original_alone(answer):
    env = make_sudoku(answer=answer)
    env.reset(seed=1)
    key, twin = state_key(env), fork(env)
    assert isinstance(twin.game, SudokuGame)
    twin.step(expert_action(twin.game))
    assert state_key(env) == key != state_key(twin)
    next_puzzle = fork(env).reset()[0]
    assert twin.reset()[0] == next_puzzle == env.reset()[0]


def test_reset_without_a_seed_draws_reproducible_puzzles():
    env = make_sudoku()
    env.reset(seed=3)
    seeds = [env.reset()[1]["puzzle_seed"] for _ in range(3)]
    env.reset(seed=3)
    assert seeds == [env.reset()[1]["puzzle_seed"] for _ in range(3)]
    observation = env.reset()
    assert env.reset(seed=observation[1]["puzzle_seed"]) == observation


def test_picture_shows_the_digits():
    env = env_with(render_mode="rgb_array")
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.shape == (25 * 6, 17 * 6, 3)
    env.step("3 3 4")
    assert (env.render() != picture).any()
