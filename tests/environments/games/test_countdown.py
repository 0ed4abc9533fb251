import random
import re
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.environments import fork, state_key
from sesa_agent.environments.games.countdown import (
    CountdownGame,
    CountdownKnobs,
    expert_action,
    generate_puzzle,
    habit_action,
    make_countdown,
)
from sesa_agent.environments.games.expressions import (
    all_values,
    evaluate_expression,
    evaluate_postfix,
    format_expression,
    parse_expression,
    solve,
)


def env_with(numbers, target, **options):
    env = make_countdown(**options)
    env.reset(seed=0)
    env.game.numbers, env.game.target = numbers, target  # pyright: ignore
    return env


# ---- expressions ----


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 + 5 - 2", 6),
        ("3+5*2", 13),
        ("(3 + 5) * 2", 16),
        ("10 - 4 - 3", 3),
        ("10 - (4 - 3)", 9),
        ("12 / 2 / 3", 2),
        ("1 / 3", Fraction(1, 3)),
        ("6 × 4 ÷ 3 − 1", 7),
        ("3 * 8 = 24", 24),
        ("3 * 8 = 7", 24),
        ("  007\t+ 1 ", 8),
        ("((((1))))", 1),
    ],
)
def test_evaluates_by_hand(text, value):
    assert evaluate_expression(text) == value


GARBAGE = [
    *("", " ", "+", "3 +", "3 5", "(3", "3)", "()", "3 + * 5", "-3 + 5", "3.5 + 1", "a + 1"),
    *("9**9**9", "((((", "3 // 2", "3 = 4 = 5", "3 + 5 =", "= 8", "3 % 2", "3²", "٣ + 5", "1_000"),
    *("1234567", "__import__('os')", "1" * 10_000, "(" * 10_000, "1+" * 5_000, "9*" * 150 + "9"),
    "(" * 21 + "1" + ")" * 21,
    *("(" * 1_000_000, "1+" * 500_000, "1" * 1_000_000, " " * 1_000_000, "=" * 1_000_000),
]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: text[:12])
def test_garbage_is_a_value_error_and_fast(text):
    start = time.process_time()
    with pytest.raises(ValueError):
        evaluate_expression(text)
    assert time.process_time() - start < 0.1


def test_longest_product_is_exact():
    assert evaluate_expression("*".join(["999999"] * 28)) == 999999**28


def test_division_by_zero_is_a_value_error():
    with pytest.raises(ValueError, match="zero"):
        evaluate_expression("1 / (2 - 2)")


@given(st.lists(st.integers(0, 9) | st.sampled_from("+-*/"), max_size=7))
def test_numbers_and_operators_in_any_order_are_a_value_or_a_value_error(postfix):
    """An empty list was an IndexError, and the second of two numbers was ignored."""
    try:
        evaluate_postfix(tuple(postfix))
    except ValueError:
        return
    assert sum(isinstance(token, int) for token in postfix) * 2 == len(postfix) + 1


trees = st.recursive(
    st.integers(0, 999).map(str),
    lambda child: st.builds(
        str.format,
        st.sampled_from(["{} {} {}", "({} {} {})"]),
        child,
        st.sampled_from("+-*/"),
        child,
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(trees)
def test_agrees_with_pythons_own_arithmetic(text):
    # Python itself is the judge here, on text that this file made: no model's text gets this far.
    exact = re.sub(r"[0-9]+", r"Fraction(\g<0>)", text)
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(ValueError):
            evaluate_expression(text)
    else:
        assert evaluate_expression(text) == expected


@settings(deadline=None)
@given(trees)
def test_canonical_text_reads_as_itself(text):
    postfix = parse_expression(text)
    assert parse_expression(format_expression(postfix)) == postfix


@settings(deadline=None)
@given(st.text() | st.text(alphabet="0123456789+-*/()= ×÷−²", max_size=250))
def test_any_text_reads_or_raises_value_error(text):
    try:
        assert isinstance(evaluate_expression(text), Fraction)
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("3+5-2", "3 + 5 - 2"),
        ("((3 + 5)) - 2 = 6", "3 + 5 - 2"),
        ("3+(5-2)", "3 + (5 - 2)"),
        ("( 3+5 )×2", "(3 + 5) * 2"),
        ("3+(5×2)", "3 + 5 * 2"),
    ],
)
def test_canonical_text(text, canonical):
    assert make_countdown().canonical_action(text) == canonical


# ---- solver and generator ----


def test_solver_by_hand():
    assert solve((3, 5, 2), 6) == "3 + 5 - 2"
    assert solve((54, 98, 6), 38) == "98 - 54 - 6"
    assert solve((1, 1, 1), 4) is None
    assert solve((3, 3, 8, 8), 24, "+-*/") == "8 / (3 - 8 / 3)"
    assert set(all_values((1, 2))) == {3, 1, -1}
    assert set(all_values((2, 4), "/")) == {2, Fraction(1, 2)}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=4), st.sampled_from(["+-", "+-*/", "*/"]))
def test_every_expression_of_the_solver_has_its_value(numbers, operators):
    for value, postfix in all_values(numbers, operators).items():
        assert evaluate_expression(format_expression(postfix)) == value
        assert sorted(token for token in postfix if isinstance(token, int)) == sorted(numbers)


KNOBS = [{}, {"operators": "+-*/"}, {"min_count": 2, "max_count": 5, "max_number": 9}]


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_every_puzzle_is_within_the_knobs_and_solved(knobs):
    env = make_countdown(**knobs)
    game = env.game
    assert isinstance(game, CountdownGame)
    for seed in range(60):
        env.reset(seed=seed)
        assert game.knobs.min_count <= len(game.numbers) <= game.knobs.max_count
        assert all(game.knobs.min_number <= n <= game.knobs.max_number for n in game.numbers)
        assert 1 <= game.target <= game.knobs.max_target
        assert env.step(expert_action(game))[1:] == (
            1,
            True,
            False,
            {"success": True, "legal": True},
        )


def test_puzzles_of_a_seed_stay_what_they_were():
    """Results name puzzles by their seeds, so a faster generator must make the same ones."""
    hard = CountdownKnobs(min_count=5, max_count=5, max_target=999, operators="+-*/")
    assert generate_puzzle(0, CountdownKnobs()) == ((98, 54, 6, 34), 4)
    assert generate_puzzle(1, CountdownKnobs()) == ((73, 98, 9), 34)
    assert generate_puzzle(0, hard) == ((32, 3, 94, 35, 15), 115)
    assert generate_puzzle(1, hard) == ((51, 35, 46, 61, 7), 367)


def test_same_seed_same_puzzle_in_another_process():
    code = (
        "from sesa_agent.environments.games.countdown import *;"
        "print([generate_puzzle(s, CountdownKnobs()) for s in range(5)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [generate_puzzle(seed, CountdownKnobs()) for seed in range(5)]
    assert there.stdout.strip() == str(here)
    assert len(set(here)) == 5


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"min_count": 1}, "min_count must be from 2 to 5, got 1"),
        ({"min_count": 4, "max_count": 3}, r"max_count must be from min_count \(4\) to 5, got 3"),
        ({"min_number": 0}, "min_number must be from 1"),
        ({"max_number": 0}, r"max_number must be from min_number \(1\)"),
        ({"max_target": 0}, "max_target must be from 1"),
        ({"operators": "+^"}, r"operators must be one or more of \+-\*/, each once, got '\+\^'"),
        ({"reward": "big"}, "reward must be one of success, dense, got 'big'"),
        ({"operators": "+", "min_number": 90}, "max_target must be within reach"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_wrong_knobs_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        make_countdown(**knobs)


# ---- game ----


@pytest.mark.parametrize(
    ("answer", "sparse", "dense", "success", "legal"),
    [
        ("3 + 5 - 2", 1, 1, True, True),
        ("5 - 2 + 3 = 6", 1, 1, True, True),
        ("3 * (5 - 3)", 0, 0, False, False),
        ("3 + 5 + 2", 0, 0.1, False, True),
        ("3 * 5 * 2", 0, 0.1, False, True),
        ("3 + 3", 0, 0, False, False),
        ("3 + 5 - 2 + 0", 0, 0, False, False),
        ("3 + 5", 0, 0, False, False),
        ("1 + 2 + 3 + 4 + 5 + 6 + 7", 0, 0, False, False),
        ("six", 0, 0, False, False),
    ],
)
def test_answers_by_hand(answer, sparse, dense, success, legal):
    for reward, expected in (("success", sparse), ("dense", dense)):
        env = env_with((3, 5, 2), 6, reward=reward)
        info = {"success": success, "legal": legal}
        assert env.step(answer) == ("Numbers: 3, 5, 2\nTarget: 6", expected, True, False, info)


def test_division_by_zero_is_an_illegal_answer():
    env = env_with((3, 2, 2), 3)
    assert env.step("3 / (2 - 2)")[1:] == (0, True, False, {"success": False, "legal": False})


def test_equal_numbers_may_each_be_used_once():
    assert env_with((4, 4, 4), 4).step("4 - 4 + 4")[4]["success"]


def test_numeric_side_by_hand():
    game = CountdownGame()
    observation, info = game.reset(seed=7)
    assert observation.shape == (5,) and observation[-1] == game.target
    assert info["puzzle_seed"] == 7
    game.numbers, game.target = (3, 5, 2), 6
    text, action = game.read_action("3 + 5 - 2")  # pyright: ignore
    assert (text, action.tolist()) == ("3 + 5 - 2", [0, 1, 4, 2, 5, 8, 8])
    assert game.read_action("3 + 9")[1].tolist() == [8] * 7  # pyright: ignore
    assert game.step(action)[0].tolist() == [3, 5, 2, 0, 6]
    for malformed in ([4, 0, 1, 2, 5, 8, 8], [0, 1, 4, 2, 5, 8, 0], [0, 1, 4, 2, 8, 5, 8]):
        assert game.step(np.array(malformed))[4] == {"success": False, "legal": False}


@settings(deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 8), min_size=7, max_size=7))
def test_any_numeric_action_is_judged(seed, tokens):
    game = CountdownGame()
    game.reset(seed=seed)
    observation, reward, terminated, _, _ = game.step(np.array(tokens))
    assert terminated and reward in (0, 1) and observation in game.observation_space


def test_reset_without_a_seed_draws_reproducible_puzzles():
    first, second = make_countdown(), make_countdown()
    first.reset(seed=3)
    second.reset(seed=3)
    seeds = [first.reset()[1]["puzzle_seed"] for _ in range(4)]
    assert seeds == [second.reset()[1]["puzzle_seed"] for _ in range(4)]
    assert len(set(seeds)) == 4
    assert first.reset(seed=seeds[3])[0] == second.reset(seed=seeds[3])[0]


def test_fork_leaves_the_original_alone():
    env = make_countdown()
    env.reset(seed=1)
    key, twin = state_key(env), fork(env)
    twin.step("1 + 1")
    assert state_key(env) == key != state_key(twin)
    next_puzzle = fork(env).reset()[0]
    assert twin.reset()[0] == next_puzzle == env.reset()[0]


def test_text_and_picture_fit_their_spaces():
    env = make_countdown(
        max_count=5, max_number=999_999, max_target=999_999, render_mode="rgb_array"
    )
    for seed in range(20):
        assert env.reset(seed=seed)[0] in env.observation_space
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.min() < picture.max()


def test_habit_answers_are_legal_and_win_sometimes():
    env, rng = make_countdown(), random.Random(0)
    assert isinstance(env.game, CountdownGame)
    infos = []
    for seed in range(1000):
        env.reset(seed=seed)
        infos.append(env.step(habit_action(env.game, rng))[4])
    assert all(info["legal"] for info in infos)
    assert 0.08 < np.mean([info["success"] for info in infos]) < 0.22
