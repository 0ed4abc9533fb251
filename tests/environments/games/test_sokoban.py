import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.environments import fork
from sesa_agent.environments.games.sokoban import (
    ACTION_NAMES,
    SokobanEnv,
    SokobanKnobs,
    expert_action,
    generate_level,
    habit_action,
    make_sokoban,
)
from sesa_agent.environments.games.sokoban_rules import (
    BOX,
    BOX_ON_TARGET,
    DOWN,
    LEFT,
    RIGHT,
    UP,
    board_text,
    read_board,
    solve,
)

from ...helpers.sokoban_boards import brute_force_length, corridor


def start(text, **options):
    lines = text.strip("\n").split("\n")
    size = {"num_rows": len(lines), "num_columns": len(lines[0])}
    game = SokobanEnv(**size, min_solution=1, wall_probability=0, **options)
    _, info = game.reset(options={"level": text})
    return game, info


def play(text, action, **options):
    """One move from a board: the board afterwards, and what `step` said."""
    game, _ = start(text, **options)
    _, reward, terminated, truncated, info = game.step(action)
    assert not truncated
    return game.to_text(), reward, terminated, info["success"], info["legal"]


# ---- rules ----

MOVES = {
    "walk": ("_P_XO", RIGHT, "__PXO", True),
    "walk into a wall": ("P_XO", LEFT, "P_XO", False),
    "push": ("PX_O", RIGHT, "_PXO", True),
    "push against a wall": ("O_PX", RIGHT, "O_PX", False),
    "push two boxes in a row": ("PXX_OO", RIGHT, "PXX_OO", False),
    "push against a box on a target": ("PX√_O", RIGHT, "PX√_O", False),
    "push a box off a target onto floor": ("OP√_X", RIGHT, "O_SXX", True),
    "push from target to target": ("P√OX", RIGHT, "_S√X", True),
    "no pulling": ("_XP_O", RIGHT, "_X_PO", True),
    "step onto a target": ("PO_X", RIGHT, "_S_X", True),
    "blocked on a target": ("SX__", LEFT, "SX__", False),
    "leave a target": ("_S_X", LEFT, "PO_X", True),
    "win": ("PXO_", RIGHT, "_P√_", True),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_move_does_what_the_rules_say(name):
    cells, action, expected, is_legal = MOVES[name]
    text, reward, terminated, success, legal = play(corridor(cells), action)
    assert text == corridor(expected)
    assert legal is is_legal
    assert success is terminated is (name == "win")
    assert reward == (1.0 if name == "win" else 0.0)


@pytest.mark.parametrize(
    "action, row, column", [(UP, 1, 2), (DOWN, 3, 2), (LEFT, 2, 1), (RIGHT, 2, 3)]
)
def test_each_action_moves_in_its_direction(action, row, column):
    game, _ = start("#####\n#___#\n#_P_#\n#__X#\n#__O#\n#####")
    observation = game.step(action)[0]
    assert np.argwhere(observation == 5).tolist() == [[row, column]]


DENSE = {
    "a walk": ("_PX_O", LEFT, -0.1),
    "a blocked move": ("P_X_O", LEFT, -0.1),
    "a box off its target": ("P√_XO", RIGHT, -1.1),
    "a box onto a target": ("PXO_OX", RIGHT, 0.9),
    "from target to target": ("P√OX", RIGHT, -0.1),
    "the solved puzzle": ("PXO", RIGHT, 10.9),
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_reward_is_ragens(name):
    cells, action, expected = DENSE[name]
    assert play(corridor(cells), action, reward="dense")[1] == pytest.approx(expected)


def test_the_win_needs_every_box():
    text, _, terminated, success, _ = play(corridor("PXO_OX"), RIGHT)
    assert "√" in text
    assert not terminated and not success


# ---- text, numbers and pictures ----


def test_a_board_reads_back_as_it_is_drawn():
    text = "#######\n#_O√XP#\n#######"
    assert board_text(read_board(text)) == text
    assert read_board(text)[9:14] == bytes([1, 2, 3, 4, 5])


BAD_LEVELS = {
    "unknown symbol": "#####\n#PXO@#\n#####",
    "unequal lines": "######\n#PXO#\n######",
    "open room": "#####\n#PXO_\n#####",
    "no player": "#####\n#_XO#\n#####",
    "two players": "######\n#PXOP#\n######",
    "a box too many": "######\n#PXOX#\n######",
    "empty": "",
}


@pytest.mark.parametrize("name", BAD_LEVELS)
def test_a_bad_level_is_refused(name):
    with pytest.raises(ValueError, match="level must be"):
        read_board(BAD_LEVELS[name])


def test_a_level_of_another_size_is_refused():
    with pytest.raises(ValueError, match="a board of 6x6 cells"):
        SokobanEnv().reset(options={"level": corridor("PXO")})


def test_a_given_level_reports_its_optimal_length():
    assert start(corridor("P_X_O"))[1] == {"puzzle_seed": None, "optimal_length": 3}
    assert start(corridor("X_P_O"))[1] == {"puzzle_seed": None, "optimal_length": None}


def test_the_numeric_observation_is_the_text():
    game = SokobanEnv()
    observation, _ = game.reset(seed=4)
    drawn = ["".join("#_O√XPS"[code] for code in row) for row in observation]
    assert "\n".join(drawn) == game.to_text()
    assert game.observation_space.contains(observation)


def test_an_observation_does_not_change_with_the_live_board():
    game = SokobanEnv()
    observation, _ = game.reset(seed=4)
    kept = observation.copy()
    for action in range(4):
        game.step(action)
    assert (observation == kept).all()


@pytest.mark.parametrize("text", ["Up", "up", " UP \n"])
def test_an_action_is_read_in_any_case(text):
    assert SokobanEnv().read_action(text) == ("Up", UP)


@pytest.mark.parametrize("text", ["", "upward", "Up Up", "0", "U"])
def test_other_text_is_not_an_action(text):
    assert SokobanEnv().read_action(text) is None


def test_the_picture_shows_every_cell_as_a_tile():
    game, _ = start("#######\n#_O√XP#\n#######")
    picture = game.render()
    assert picture.shape == (3 * 16, 7 * 16, 3) and picture.dtype == np.uint8
    tiles = {picture[16:32, 16 * c : 16 * c + 16].tobytes() for c in range(6)}
    assert len(tiles) == 6


# ---- forks and keys ----


def test_a_fork_and_its_original_are_independent():
    game = SokobanEnv()
    game.reset(seed=1)
    before, twin = game.to_text(), game.fork()
    while twin.to_text() == before:
        twin.step(twin.action_space.sample())
    assert game.to_text() == before
    assert game.state_key() != twin.state_key()


def test_a_fork_draws_the_same_puzzles_as_its_original():
    env = make_sokoban()
    env.reset(seed=1)
    twins = [fork(env), fork(env)]
    following = [[one.reset()[0] for _ in range(3)] for one in (*twins, env)]
    assert following[0] == following[1] == following[2]
    assert len(set(following[0])) == 3


def test_two_puzzles_never_share_a_key():
    wide, _ = start(corridor("PXO_"))
    walled, _ = start(corridor("PXO#"))
    moved_target, _ = start(corridor("PX_O"))
    assert len({game.state_key() for game in (wide, walled, moved_target)}) == 3


def test_a_game_survives_pickling():
    game = SokobanEnv()
    game.reset(seed=2)
    copy = pickle.loads(pickle.dumps(game))
    assert copy.state_key() == game.state_key()
    assert copy.step(UP)[1:] == game.step(UP)[1:]


# ---- generator ----

SIZES = {
    "default": (SokobanKnobs(), 100),
    "6x6, 2 boxes": (SokobanKnobs(num_boxes=2), 10),
    "7x7, 2 boxes": (SokobanKnobs(7, 7, 2, min_solution=5, max_solution=20), 10),
    "8x8, 2 boxes": (SokobanKnobs(8, 8, 2, max_solution=30), 10),
    "10x10, 2 boxes": (SokobanKnobs(10, 10, 2, max_solution=25), 5),
    "5x9, no walls": (SokobanKnobs(5, 9, wall_probability=0), 10),
    "many walls": (SokobanKnobs(wall_probability=0.4), 10),
    "one move": (SokobanKnobs(min_solution=1, max_solution=1), 10),
    "hard": (SokobanKnobs(min_solution=12, max_solution=20), 10),
}


@pytest.mark.parametrize("name", SIZES)
def test_every_generated_puzzle_is_solved_by_its_solution(name):
    knobs, num_puzzles = SIZES[name]
    for seed in range(num_puzzles):
        level = generate_level(seed, knobs)
        text = str(level)
        solution = solve(level.board, knobs.max_solution)
        assert solution is not None and len(solution) == level.optimal_length
        assert knobs.min_solution <= len(solution) <= knobs.max_solution
        lines = text.split("\n")
        assert (len(lines), len(lines[0])) == (knobs.num_rows, knobs.num_columns)
        assert level.board.count(BOX) == knobs.num_boxes == text.count("O")
        assert level.board.count(BOX_ON_TARGET) == 0
        env = SokobanEnv(**vars(knobs))
        env.reset(seed=seed)
        outcomes = [env.step(action) for action in solution]
        assert [outcome[2] for outcome in outcomes] == [False] * (len(solution) - 1) + [True]
        assert all(outcome[4]["legal"] for outcome in outcomes)


def test_a_seed_is_the_same_puzzle_in_every_process():
    program = (
        "from sesa_agent.environments.games.sokoban import generate_level\n"
        "print([generate_level(seed).board.hex() for seed in range(20)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert output.strip() == str([generate_level(seed).board.hex() for seed in range(20)])


def test_seed_7_gives_its_golden_puzzle():
    assert str(generate_level(7)) == "######\n#O_P_#\n#____#\n#X___#\n#____#\n######"


def test_puzzles_differ():
    assert len({generate_level(seed).board for seed in range(300)}) > 290


def test_reset_without_a_seed_names_the_puzzle_that_it_starts():
    env = make_sokoban()
    env.reset(seed=0)
    observation, info = env.reset()
    assert env.reset(seed=info["puzzle_seed"])[0] == observation


BAD_KNOBS = {
    "num_rows": {"num_rows": 2},
    "num_columns": {"num_columns": 1000},
    "num_boxes": {"num_boxes": 8},
    "min_solution": {"min_solution": 0},
    "max_solution": {"min_solution": 5, "max_solution": 4},
    "wall_probability": {"wall_probability": 1.0},
    "reward": {"reward": "sparse"},
}


@pytest.mark.parametrize("knob", BAD_KNOBS)
def test_a_bad_knob_is_named(knob):
    with pytest.raises(ValueError, match=f"^{knob} must be"):
        make_sokoban(**BAD_KNOBS[knob])


def test_impossible_knobs_name_what_to_change(monkeypatch):
    monkeypatch.setattr("sesa_agent.environments.games.sokoban.MAX_DRAWS", 50)
    with pytest.raises(ValueError, match="Raise max_solution"):
        generate_level(0, SokobanKnobs(3, 5, min_solution=50, max_solution=60))


# ---- scripted players ----


def test_a_search_on_boards_of_2500_cells_is_bounded_in_all(monkeypatch):
    """100 boxes on a large board: each search was bounded, but 200 000 of them took hours."""
    monkeypatch.setattr("sesa_agent.environments.games.sokoban.MAX_WORK", 50_000)
    draws = []
    monkeypatch.setattr(
        "sesa_agent.environments.games.sokoban.search",
        lambda board, longest: (None, draws.append(len(board)) or 1000),
    )
    with pytest.raises(ValueError, match="max_solution must be within reach"):
        generate_level(3, SokobanKnobs(num_rows=50, num_columns=50, num_boxes=100))
    assert len(draws) == 31  # 50 000 / (2550 / 4 + 1000), and the one that exceeds it


def test_the_expert_solves_in_the_optimal_number_of_moves():
    game = SokobanEnv()
    for seed in range(30):
        _, info = game.reset(seed=seed)
        num_moves, terminated = 0, False
        while not terminated:
            action = expert_action(game)
            assert action is not None
            terminated = game.step(action)[2]
            num_moves += 1
        assert num_moves == info["optimal_length"]
        assert expert_action(game) is None


def test_the_expert_sees_that_a_puzzle_is_lost():
    assert expert_action(start("######\n#X_P_#\n#__O_#\n######")[0]) is None


HABITS = {
    "the longer axis first": ("#####\n#P__#\n#___#\n#___#\n#_X_#\n#__O#\n#####", DOWN),
    "columns when they are farther": ("#######\n#X__P_#\n#_____#\n#O____#\n#######", LEFT),
    "rows on a tie": ("######\n#__P_#\n#_X_O#\n#____#\n######", DOWN),
    "the nearest box": ("#######\n#X_OPX#\n#O____#\n#######", RIGHT),
    "no box on a target": ("########\n#X__P√_#\n#O_____#\n########", LEFT),
}


@pytest.mark.parametrize("name", HABITS)
def test_habit_walks_straight_at_the_nearest_box(name):
    level, expected = HABITS[name]
    assert habit_action(start(level)[0]) == expected


# ---- properties ----


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), actions=st.lists(st.sampled_from(ACTION_NAMES), max_size=30))
def test_whatever_is_played_the_board_stays_a_board(seed, actions):
    env = make_sokoban(max_steps=100, num_boxes=2, max_solution=20)
    observation, _ = env.reset(seed=seed)
    for action in actions:
        after, reward, terminated, _, info = env.step(action)
        assert info["legal"] == (after != observation)
        assert info["success"] == terminated == ("X" not in after) == (reward == 1.0)
        assert after.count("P") + after.count("S") == 1
        assert after.count("X") + after.count("√") == 2
        assert after.count("O") + after.count("√") + after.count("S") == 2
        assert [c == "#" for c in after] == [c == "#" for c in observation]
        observation = after


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_boxes=st.integers(1, 2), longest=st.integers(4, 14))
def test_the_reported_length_is_the_shortest(seed, num_boxes, longest):
    knobs = SokobanKnobs(5, 6, num_boxes, max_solution=longest)
    level = generate_level(seed, knobs)
    assert brute_force_length(str(level), longest) == level.optimal_length
