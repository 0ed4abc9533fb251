"""Hints: following them from the start wins, and a lost position gets none."""

from typing import Any

import pytest

from sesa_agent.configs.load import load_config
from sesa_agent.environments import make_env
from sesa_agent.environments.games.solvers import find_solver

STEADY = {
    "sokoban": {},
    "frozen_lake": {"slippery": False},
    "countdown": {},
    "sudoku": {},
    "math": {},
}
"""Games with a solver, with options that make them deterministic."""
FILLED_DIGIT_BY_DIGIT = {"answer": "placements", "num_blanks": 6}


def open_game(name, seed, **options):
    cfg = load_config(name).env
    env = make_env(cfg.id, **{**cfg.options, **options})
    env.reset(seed=seed)
    return env


def hint(env, actions_left):
    solver = find_solver(env)
    assert solver
    return solver(env.unwrapped.game, actions_left)


def unwrapped(env: Any) -> Any:
    """The text environment itself."""
    return env.unwrapped


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", [*STEADY, "sudoku digit by digit"])
def test_following_the_hints_wins(name, seed):
    name, _, is_stepwise = name.partition(" ")
    env = open_game(name, seed, **(FILLED_DIGIT_BY_DIGIT if is_stepwise else STEADY[name]))
    for left in range(unwrapped(env).max_steps, 0, -1):
        _, _, terminated, truncated, info = env.step(hint(env, left))
        if terminated or truncated:
            break
    assert info["success"]


def test_hints_in_sokoban_are_the_shortest_solution():
    env = open_game("sokoban", 3)
    _, info = env.reset(seed=3)
    for number in range(1, info["optimal_length"] + 1):
        success = env.step(hint(env, 10))[4]["success"]
        assert success == (number == info["optimal_length"])


def test_there_is_no_hint_where_the_actions_left_do_not_suffice():
    env = open_game("sokoban", 3)  # solvable in 7 moves
    assert hint(env, 7) is not None
    assert hint(env, 6) is None


def test_there_is_no_hint_for_a_box_in_a_corner():
    env = make_env("sesa/Sokoban-v0", num_rows=5, num_columns=5)
    env.reset(options={"level": "#####\n#X_O#\n#P__#\n#___#\n#####"})
    assert hint(env, 10) is None


def test_there_is_no_hint_in_a_sudoku_with_a_wrong_digit():
    env = open_game("sudoku", 0, **FILLED_DIGIT_BY_DIGIT)
    game = unwrapped(env).game
    digits = [cell for cell, digit in enumerate(game.grid) if digit == 0]
    for cell in digits:  # a digit that the rules allow, but the solution does not hold
        for digit in range(1, 5):
            twin = unwrapped(env).fork()
            info = twin.step(f"{cell // 4 + 1} {cell % 4 + 1} {digit}")[4]
            if info["legal"] and digit != game.solution[cell]:
                assert hint(twin, 10) is None
                return
    pytest.fail("every allowed digit is right: choose another seed")


def test_there_is_no_hint_on_a_lake_whose_goal_is_too_far():
    env = open_game("frozen_lake", 3, slippery=False)  # two moves away
    assert hint(env, 2) is not None
    assert hint(env, 1) is None


def test_a_game_of_another_package_and_a_file_of_problems_have_no_solver(tmp_path):
    (tmp_path / "problems.jsonl").write_text(
        "".join(f'{{"question": "What is 1 + {n}?", "answer": "#### {n + 1}"}}\n' for n in range(9))
    )
    assert find_solver(make_env("Taxi-v4")) is None
    assert find_solver(make_env("sesa/PathExploration-v0")) is None
    assert find_solver(make_env("sesa/Math-v0", path=str(tmp_path / "problems.jsonl"))) is None
