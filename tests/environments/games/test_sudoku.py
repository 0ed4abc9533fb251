import random
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.environments import fork, make_env, state_key
from sesa_agent.environments.games.sudoku import (
    ORDERS,
    SudokuGame,
    expert_action,
    fill_in_order,
    habit_action,
    make_sudoku,
    random_action,
)
from sesa_agent.environments.games.sudoku_rules import is_valid, solve

from ...helpers.sudokus import FULL, GIVENS


def sudoku_of(env) -> SudokuGame:
    assert isinstance(env.game, SudokuGame)
    return env.game


def env_with(givens=GIVENS, solution=FULL, **options):
    env = make_sudoku(num_blanks=givens.count(0), **options)
    env.reset(seed=0)
    game = sudoku_of(env)
    game.givens = game.grid = givens
    game.solution = solution
    return env


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"size": 6}, "size must be 4 or 9, got 6"),
        ({"num_blanks": 0}, "num_blanks must be from 1 to 12"),
        ({"num_blanks": 13}, r"num_blanks must be from 1 to 12 \(4x4, unique=True\), got 13"),
        ({"num_blanks": 17, "unique": False}, "num_blanks must be from 1 to 16"),
        ({"size": 9, "num_blanks": 55}, "num_blanks must be from 1 to 54"),
        ({"answer": "both"}, "answer must be one of placements, grid, fill, got 'both'"),
        ({"reward": "big"}, "reward must be one of success, dense, got 'big'"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_wrong_knobs_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        make_sudoku(**knobs)


@pytest.mark.parametrize(
    "knobs",
    [{}, {"answer": "grid"}, {"answer": "fill"}, {"size": 9, "num_blanks": 20}],
    ids=str,
)
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


def test_a_legal_placement_that_makes_the_puzzle_unsolvable_stays():
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


TWO_BLANKS = "1234\n3412\n21_3\n432_"


@pytest.mark.parametrize(
    "text",
    ["3 3 4; 4 4 1", "4 4 1; 3 3 4", "4,4,1;3, 3, 4", "\n3 3 4;\n4 4 1;\n", GRID],
)
def test_fill_answers_in_any_order_are_one_answer(text):
    env = env_with(answer="fill")
    assert env.game.to_text() == TWO_BLANKS
    assert env.canonical_action(text) == GRID
    assert env.step(text)[1:] == (1, True, False, {"success": True, "legal": True})


@pytest.mark.parametrize(
    "text",
    [
        "3 3 4",  # a blank is left
        "3 3 4; 3 3 4",  # one blank twice, the other never
        "3 3 4; 4 4 1; 1 1 1",  # a given too
        "3 3 4; 4 3 1",
        "3 3 4; 4 4 5",
        "5 3 4; 4 4 1",
        "3 3 4; 4 4",
        "3 3 4; ; 4 4 1",
        "3 3 4 4 4 1",
        "1234 / 3412 / 2143 / 432_",
        ";",
        "",
        "3 3 4; " * 10_000,
    ],
)
def test_fill_answers_that_do_not_name_every_blank_once_are_unreadable(text):
    env = env_with(answer="fill")
    assert env.canonical_action(text) is None
    assert env.step(text)[1:] == (0, True, False, legal(False))


def test_fill_answers_are_judged_as_their_grid_is():
    for text, is_legal, reward in (
        ("3 3 4; 4 4 2", True, 0.5),  # one wrong digit
        ("2134 / 3412 / 2143 / 4321", False, 0),  # a given was changed
    ):
        env = env_with(answer="fill", reward="dense")
        assert env.step(text)[1:] == (reward, True, False, legal(is_legal))


@settings(deadline=None)
@given(st.text("123456789_;/, \n²١") | st.text(), st.sampled_from(["placements", "grid", "fill"]))
def test_any_text_is_read_or_refused(text, answer):
    game = SudokuGame(num_blanks=1, answer=answer)
    game.reset(seed=0)
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


@pytest.mark.parametrize("answer", ["placements", "grid", "fill"])
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


@pytest.mark.parametrize("answer", ["placements", "grid", "fill"])
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
            canonical = env.canonical_action(action)
            assert canonical is not None and (canonical == action or game.is_fill)
            *_, terminated, truncated, info = env.step(action)
            is_open = not (terminated or truncated)
        wins += info["success"]
    assert wins < 180
    assert wins > 0 or play is random_action


CROSS = (0, 2, 0, 4, 3, 0, 1, 0, 0, 1, 0, 3, 4, 0, 2, 0)
"""`FULL` with every other cell blank: two in each row, column and box."""


@pytest.mark.parametrize(
    ("order", "cells"),
    [
        ("rows from the top", "11 13 22 24 31 33 42 44"),
        ("rows from the bottom", "42 44 31 33 22 24 11 13"),
        ("columns from the left", "11 31 22 42 13 33 24 44"),
        ("columns from the right", "24 44 13 33 22 42 11 31"),
        ("boxes one by one", "11 22 13 24 31 42 33 44"),
    ],
)
def test_fixed_orders_by_hand(order, cells):
    game = sudoku_of(env_with(CROSS, answer="fill"))
    for care in (0, 1):
        text = fill_in_order(game, order, random.Random(0), care)
        assert [part[:3].replace(" ", "") for part in text.split("; ")] == cells.split()


def test_the_most_constrained_order_follows_what_is_filled():
    givens = (0, 0, 3, 4, 0, 0, 0, 2, *FULL[8:])
    game = sudoku_of(env_with(givens, answer="fill"))
    # Every blank has one candidate from the start on: the first of them goes first.
    text = fill_in_order(game, "the most constrained blank first", random.Random(0), 0)
    assert text == "1 1 1; 1 2 2; 2 1 3; 2 2 4; 2 3 1"
    givens = (0, 0, 0, 0, 0, 0, 0, 2, *FULL[8:])
    game = sudoku_of(env_with(givens, answer="fill"))
    text = fill_in_order(game, "the most constrained blank first", random.Random(0), 0)
    assert text.startswith("1 4 4; ")


def test_digit_by_digit_brings_the_digits_in_ascending_order():
    game = sudoku_of(env_with(CROSS, answer="fill"))
    text = fill_in_order(game, "digit by digit", random.Random(0), 1)
    digits_in_order = [part[-1] for part in text.split("; ")]
    assert digits_in_order == sorted(digits_in_order)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31),
    st.sampled_from(list(ORDERS)),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 16),
)
def test_every_filled_row_holds_each_digit_once(seed, order, care, num_blanks):
    env = make_sudoku(answer="fill", num_blanks=num_blanks, unique=False)
    env.reset(seed=seed)
    text = fill_in_order(sudoku_of(env), order, random.Random(seed), care)
    grid = env.canonical_action(text)
    assert grid is not None
    assert [sorted(row) for row in grid.split(" / ")] == [list("1234")] * 4
    assert env.step(text)[4]["legal"]


def test_care_makes_every_order_right_more_often():
    env = make_sudoku(answer="fill")
    for order in ORDERS:
        rates = []
        for care in (0.0, 1.0):
            rng, wins = random.Random(0), 0
            for seed in range(60):
                env.reset(seed=seed)
                text = fill_in_order(sudoku_of(env), order, rng, care)
                wins += env.step(text)[4]["success"]
            rates.append(wins / 60)
        careless, careful = rates
        if order == "the most constrained blank first":
            assert careless == careful > 0.8  # careful in any case
        else:
            assert careful > careless + 0.2, order


def test_unknown_orders_and_cares_are_refused():
    game = sudoku_of(env_with(answer="fill"))
    with pytest.raises(
        ValueError, match="order must be one of rows from the top, .*, got 'spiral'"
    ):
        fill_in_order(game, "spiral", random.Random(0), 1)
    with pytest.raises(ValueError, match="care must be from 0 to 1, got 2"):
        fill_in_order(game, "digit by digit", random.Random(0), 2)


@pytest.mark.parametrize("answer", ["placements", "grid", "fill"])
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
