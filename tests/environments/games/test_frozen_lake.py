import pickle
import subprocess
import sys
from itertools import product

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import DOWN, LEFT, RIGHT, UP, FrozenLakeEnv
from gymnasium.utils.env_checker import check_env

from sesa_agent.environments.games.frozen_lake import (
    FrozenLakeGame,
    expert_action,
    generate_map,
    habit_action,
    make_frozen_lake,
    optimal_success,
    shortest_path,
)

POND = "P_\nOG"
"""Right, Down leads to the goal; Down drowns."""


def started(level: str, **knobs) -> FrozenLakeGame:
    game = FrozenLakeGame(size=level.index("\n"), **knobs)
    game.reset(seed=0, options={"level": level})
    return game


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("knobs", [{}, {"slippery": False}, {"size": 8, "min_solution": 3}])
def test_text_and_numeric_side_pass_gymnasiums_check(knobs):
    env = gymnasium.make("sesa/FrozenLake-v0", **knobs)
    check_env(env.unwrapped)
    check_env(make_frozen_lake(**knobs).game, skip_render_check=True)


def test_safe_walk_reaches_the_goal():
    env = make_frozen_lake(size=2, slippery=False)
    observation, info = env.reset(seed=0, options={"level": POND})
    assert observation == POND
    assert info["optimal_length"] == 2
    observation, reward, terminated, _, info = env.step("Right")
    assert (observation, reward, terminated) == ("_P\nOG", 0.0, False)
    observation, reward, terminated, truncated, info = env.step(" down ")
    assert (observation, reward, terminated, truncated) == ("__\nO√", 1.0, True, False)
    assert info["success"] and info["legal"]


def test_hole_ends_the_game_without_reward():
    env = make_frozen_lake(size=2, slippery=False)
    env.reset(seed=0, options={"level": POND})
    observation, reward, terminated, _, info = env.step("Down")
    assert (observation, reward, terminated, info["success"]) == ("__\nXG", 0.0, True, False)


def test_the_border_stops_the_player():
    game = started(POND, slippery=False)
    for action in (LEFT, UP):
        game.step(action)
        assert game.to_text() == POND


def test_observation_counts_the_cells_by_symbol():
    game = started(POND, slippery=False)
    assert game.step(RIGHT)[0].tolist() == [[0, 3], [1, 2]]
    assert game.step(DOWN)[0].tolist() == [[0, 0], [1, 5]]


@pytest.mark.parametrize("slippery", [True, False])
def test_steps_are_those_of_gymnasium(slippery):
    for seed in range(20):
        game = FrozenLakeGame(slippery=slippery)
        game.reset(seed=seed)
        lake = FrozenLakeEnv(desc=list(game.lake), is_slippery=slippery)
        lake.reset(seed=seed)
        lake.np_random = game.fork().np_random
        for action in np.random.default_rng(seed).integers(4, size=20):
            _, reward, terminated, _, _ = game.step(int(action))
            assert (game.position, reward, terminated) == lake.step(action)[:3]
            if terminated:
                break


def test_a_move_on_slippery_ice_goes_three_ways_equally_often():
    counts = dict.fromkeys(["___\nP__\n__G", "___\n_P_\n__G", "_P_\n___\n__G", "___\n___\n_PG"], 0)
    game = started("___\n_P_\n__G")
    for _ in range(3000):
        twin = game.fork()
        twin.np_random = game.np_random
        twin.step(LEFT)
        counts[twin.to_text()] += 1
    assert counts["___\n_P_\n__G"] == 0
    # Standard deviation of a count: sqrt(3000 * 1/3 * 2/3) = 26; five of them are 130.
    assert sorted(counts.values())[1] > 870


def solvable_by_exhaustion(lake: tuple[str, ...], length: int) -> bool:
    """Try every sequence of moves of that length on Gymnasium's own lake."""
    env = FrozenLakeEnv(desc=list(lake), is_slippery=False)
    for actions in product(range(4), repeat=length):
        env.reset()
        if any(env.step(action)[1] for action in actions):
            return True
    return False


def test_shortest_path_wins_and_nothing_shorter_does():
    for seed in range(40):
        lake = generate_map(seed, size=3, frozen_probability=0.6)
        path = shortest_path(lake)
        assert path
        env = FrozenLakeEnv(desc=list(lake), is_slippery=False)
        env.reset()
        assert [env.step(action)[1] for action in path] == [0] * (len(path) - 1) + [1]
        assert not solvable_by_exhaustion(lake, len(path) - 1)


def test_unreachable_goal_has_no_path():
    assert shortest_path(["SH", "HG"]) is None


@pytest.mark.parametrize(("size", "min_solution"), [(4, 1), (4, 4), (8, 6)])
def test_every_generated_lake_is_solvable_within_the_knobs(size, min_solution):
    for seed in range(100):
        lake = generate_map(seed, size, 0.7, min_solution)
        path = shortest_path(lake)
        assert [len(row) for row in lake] == [size] * size
        assert path is not None and len(path) >= min_solution


def test_frozen_share_follows_its_probability():
    lakes = "".join("".join(generate_map(seed, size=8)) for seed in range(200))
    assert lakes.count("H") / (lakes.count("H") + lakes.count("F")) == pytest.approx(0.2, abs=0.03)


def test_a_puzzle_is_its_seed_in_every_process():
    """Python salts string hashes per process; a puzzle that depended on one would differ here."""
    code = (
        "from sesa_agent.environments.games.frozen_lake import generate_map;"
        "print([generate_map(seed) for seed in range(5)])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str([generate_map(seed) for seed in range(5)])


def play(env, actions) -> list:
    return [env.reset(seed=5), *(env.step(action) for action in actions)]


def test_same_seed_gives_the_same_slips():
    actions = ["Right", "Down", "Left", "Up"] * 2
    assert play(make_frozen_lake(), actions) == play(make_frozen_lake(), actions)


def test_fork_keeps_the_slips_and_leaves_the_original_alone():
    game = started("____\n_P__\n____\n___G")
    before = game.to_text(), game.np_random.bit_generator.state
    twin, other = game.fork(), game.fork()
    for action in (LEFT, UP, RIGHT):
        twin.step(action)
        other.step(action)
    assert twin.to_text() == other.to_text()
    assert (game.to_text(), game.np_random.bit_generator.state) == before


def test_a_pickled_game_continues_alike():
    env = make_frozen_lake()
    env.reset(seed=1)
    env.step("Left")
    twin = pickle.loads(pickle.dumps(env))
    assert twin.step("Up") == env.step("Up")


def test_state_key_tells_cells_and_maps_apart():
    game = started(POND, slippery=False)
    start = game.state_key()
    game.step(RIGHT)
    assert game.state_key() != start
    game.step(LEFT)
    assert game.state_key() == start
    assert started("PO\n_G").state_key() != start


def test_optimal_success_of_a_safe_lake_is_all_or_nothing():
    game = started("P__\nOO_\nG__", slippery=False)
    assert [optimal_success(game, steps) for steps in (0, 5, 6)] == [0.0, 0.0, 1.0]


def test_optimal_success_of_a_small_slippery_lake_is_the_hand_computed_one():
    """Start top left, hole below, goal bottom right.

    From the top right, Right goes down, right or up: 1/3 wins and 2/3 stay; Down goes left, down or
    right: 1/3 wins, 1/3 stays, 1/3 returns to the start; so W_1 = 1/3, and Right is the better one
    for W_2 = 1/3 + 2/3 * 1/3 = 5/9. From the start, Right drowns with 1/3, stays with 1/3 and gets
    on with 1/3; Up stays twice and gets on once and never drowns:
    S_1 = 0, S_2 = 1/3 * W_1 = 1/9, S_3 = 2/3 * S_2 + 1/3 * W_2 = 2/27 + 5/27 = 7/27.
    """
    game = started(POND)
    for steps, expected in [(1, 0), (2, 1 / 9), (3, 7 / 27)]:
        assert optimal_success(game, steps) == pytest.approx(expected, abs=1e-12)
    assert expert_action(game, 3) == UP


def test_expert_reaches_the_promised_success():
    game = FrozenLakeGame()
    promised, wins = 0.0, 0
    for seed in range(600):
        game.reset(seed=seed)
        promised += optimal_success(game, 8)
        for steps_left in range(8, 0, -1):
            _, reward, terminated, _, _ = game.step(expert_action(game, steps_left))
            wins += reward
            if terminated:
                break
    # Standard deviation of the mean at most .5 / sqrt(600) = .02.
    assert wins / 600 == pytest.approx(promised / 600, abs=0.08)


def test_expert_takes_the_shortest_path_on_a_safe_lake():
    game = FrozenLakeGame(slippery=False)
    for seed in range(30):
        _, info = game.reset(seed=seed)
        terminated, num_steps = False, 0
        while not terminated:
            _, _, terminated, _, _ = game.step(expert_action(game))
            num_steps += 1
        assert num_steps == info["optimal_length"]


def test_habit_goes_right_then_down_wherever_the_goal_is():
    assert habit_action(started("P__\nO__\nG__")) == RIGHT
    assert habit_action(started("G__\n__P\n___")) == DOWN


@pytest.mark.parametrize(
    ("knobs", "complaint"),
    [
        ({"size": 1}, "size must be from 2 to 16, got 1"),
        ({"frozen_probability": 0.0}, "frozen_probability must be above 0"),
        ({"min_solution": 7}, "min_solution must be from 1 to 6 at size=4, got 7"),
        ({"reward": "rich"}, "reward must be one of success, dense, got 'rich'"),
    ],
)
def test_bad_knobs_are_named(knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_frozen_lake(**knobs)


def test_hopeless_knobs_end_in_an_error_instead_of_a_search_without_end():
    with pytest.raises(ValueError, match="min_solution=14 found no 8x8 lake"):
        generate_map(0, size=8, frozen_probability=0.05, min_solution=14)


@pytest.mark.parametrize("level", ["P_\nG", "PP\n_G", "P_\n__", "P?\n_G"])
def test_unreadable_levels_are_refused(level):
    with pytest.raises(ValueError, match="level must be 2 lines"):
        FrozenLakeGame(size=2).reset(options={"level": level})


@pytest.mark.parametrize("text", ["", "Jump", "Left Right", "0", "√", "Left" * 1000])
def test_other_text_changes_nothing(text):
    env = make_frozen_lake()
    before, _ = env.reset(seed=0)
    after, reward, terminated, _, info = env.step(text)
    assert (after, reward, terminated, info["legal"]) == (before, 0.0, False, False)


def test_the_instruction_says_whether_the_ice_is_slippery():
    assert "slippery" in make_frozen_lake().text_spec.instruction
    assert "slippery" not in make_frozen_lake(slippery=False).text_spec.instruction


def test_picture_shows_the_player_on_the_ice():
    env = make_frozen_lake(size=2, slippery=False, render_mode="rgb_array")
    env.reset(seed=0, options={"level": POND})
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    colours = {tuple(picture[y, x]) for y, x in [(8, 8), (0, 0), (24, 8), (24, 24)]}
    assert len(colours) == 4
