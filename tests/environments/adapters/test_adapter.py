import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import (
    TextAdapter,
    check_text_env,
    fork,
    fork_kind,
    is_deterministic,
    make_env,
    state_key,
)
from tests.helpers.toy_game import TAXI

TOY_TEXT = (TAXI, "CliffWalking-v1", "Blackjack-v1", "FrozenLake-v1")


class Bare(gymnasium.Env):
    """Turn the right knobs.

    They are many.
    """

    def __init__(self, observation_space, action_space, info=None):
        self.observation_space, self.action_space = observation_space, action_space
        self.info, self.actions_seen = info or {}, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), self.info

    def step(self, action):
        self.actions_seen.append(action)
        return self.observation_space.sample(), 1.0, len(self.actions_seen) == 2, False, self.info


def bare(observation_space, action_space, **options) -> TextAdapter:
    env = TextAdapter(Bare(observation_space, action_space, **options))
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("env_id", TOY_TEXT)
def test_games_of_gymnasium_keep_the_text_contract_unmodified(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_text_env(make_env(env_id), num_episodes=2)


def test_colours_with_a_meaning_are_kept_in_the_text():
    env = make_env(TAXI)
    board = env.reset(seed=0)[0]
    assert board.count("\n") == 6 and "\x1b" not in board
    tags = ("<yellow>", "<blue>", "<magenta>")
    assert all(board.count(tag) == 1 for tag in tags)
    lake = make_env("FrozenLake-v1").reset(seed=0)[0]
    assert lake == "<red>S</red>FFF\nFHFH\nFFFH\nHFFG"


def test_a_taxi_ride_succeeds():
    env = make_env(TAXI)
    env.reset(seed=0)
    game = env.unwrapped.env.unwrapped  # pyright: ignore[reportAttributeAccessIssue]
    game.s = game.encode(0, 0, 0, 2)  # waits at R, wants to Y, both in the first column
    played = [env.step(a) for a in ("pickup", "South", "1", *["South"] * 4, "Dropoff")]
    _, reward, terminated, _, info = played[-1]
    assert (reward, terminated, info["success"], info["legal"]) == (20.0, True, True, True)
    assert not any(outcome[2] for outcome in played[:-1])


def test_an_action_that_the_mask_forbids_is_not_legal():
    env = make_env(TAXI)
    env.reset(seed=0)
    game = env.unwrapped.env.unwrapped  # pyright: ignore[reportAttributeAccessIssue]
    game.s = game.encode(4, 0, 0, 2)
    assert env.step("North")[4]["legal"]  # the mask of the start is the old state's
    assert env.step("South")[4]["legal"] and not env.step("South")[4]["legal"]


def test_the_goal_behind_the_cliff_is_a_success_although_it_costs_a_step():
    env = make_env("CliffWalking-v1")
    env.reset(seed=0)
    outcomes = [env.step(action) for action in ("Up", *["Right"] * 11, "Down")]
    assert [outcome[4]["success"] for outcome in outcomes] == [False] * 12 + [True]
    assert outcomes[-1][1] == -1.0


def test_the_table_games_know_their_noise_and_states():
    assert is_deterministic(make_env(TAXI)) and not is_deterministic(make_env(TAXI, is_rainy=True))
    assert is_deterministic(make_env("FrozenLake-v1", is_slippery=False))
    lake = make_env("FrozenLake-v1")
    lake.reset(seed=0)
    assert not is_deterministic(lake) and state_key(lake) == 0


@pytest.mark.parametrize("env_id", TOY_TEXT)
def test_a_reseeded_fork_has_its_own_noise(env_id):
    env = make_env(env_id)
    env.reset(seed=0)
    twins = [fork(env, reseed=seed) for seed in (1, 1, 2)]
    samples = [twin.np_random.random() for twin in twins]
    assert samples[0] == samples[1] != samples[2]
    assert fork(env).np_random.random() == fork(env).np_random.random() == env.np_random.random()


def test_the_large_table_is_shared_by_forks():
    env = make_env(TAXI)
    env.reset(seed=0)
    tables = [e.unwrapped.env.unwrapped.P for e in (env, fork(env))]  # pyright: ignore
    assert tables[0] is tables[1] and fork_kind(env) == "fork"


def test_names_of_actions_come_from_the_documentation():
    spec = make_env("MountainCar-v0").unwrapped.text_spec  # pyright: ignore
    names = "Accelerate to the left, Don't accelerate, Accelerate to the right"
    assert spec.actions == names and spec.instruction.startswith("The Mountain Car MDP")
    assert spec.legend == "2 numbers from -1.2 to 0.6"


def test_actions_without_names_are_numbers():
    env = bare(Discrete(5), Discrete(3, start=1))
    assert env.text_spec.actions == "1, 2, 3"
    assert env.text_spec.instruction == "Turn the right knobs."
    assert [env.read_action(text) for text in ("1", " 3 ", "0", "4", "one")] == [
        ("1", 1),
        ("3", 3),
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("space", "text", "canonical"),
    [
        (MultiDiscrete([3, 2]), "2, 1", "2 1"),
        (MultiDiscrete([3, 2]), "2 2", None),
        (MultiDiscrete([3, 2]), "2", None),
        (MultiDiscrete(np.array([[3, 2], [2, 2]])), "2 1 0 1", "2 1 0 1"),
        (MultiBinary(3), "1 0 1", "1 0 1"),
        (MultiBinary(3), "1 0 2", None),
        (MultiDiscrete([3]), "9" * 10_000, None),
        (Text(5, min_length=1), " ab ", "ab"),
        (Text(5, min_length=1), "too long", None),
    ],
)
def test_actions_of_several_numbers_and_of_text_are_read(space, text, canonical):
    env = bare(Discrete(5), space)
    assert env.canonical_action(text) == canonical
    if canonical:
        assert env.step(text)[4]["legal"]
        assert env.env.unwrapped.actions_seen[0] in space  # pyright: ignore
    else:
        assert env.step(text)[4] == {"legal": False}


@pytest.mark.parametrize(
    "space",
    [
        Discrete(4),
        Box(-1, 1, (3, 3)),
        MultiBinary(4),
        Text(9),
        Tuple((Discrete(3), Box(0, 9, (2,), np.int64))),
        Dict({"board": Box(0, 1, (2, 2, 2)), "clock": Discrete(9)}),
    ],
)
def test_any_small_observation_becomes_text(space):
    env = bare(space, Discrete(2))
    assert isinstance(env.text, str) and env.text


def test_spaces_that_cannot_become_text_are_refused_with_advice():
    with pytest.raises(SettingError, match=r"Pendulum-v1 has continuous actions, Box.*docs/env"):
        make_env("Pendulum-v1")
    with pytest.raises(SettingError, match=r"shows 4800 numbers, more than the 512.*docs/env"):
        bare(Box(0, 1, (40, 40, 3)), Discrete(2))


def test_success_is_the_environments_own_flag_and_is_not_guessed():
    env = bare(Discrete(2), Discrete(2))
    assert not env.knows_success and "success" not in env.step("0")[4]
    env = bare(Discrete(2), Discrete(2), info={"won": True})
    assert [env.step("0")[4]["success"] for _ in range(2)] == [True, True]


def test_a_subclass_says_what_success_is():
    class Second(TextAdapter):
        def is_success(self, reward, terminated, info):
            return terminated and self.num_steps == 2

    env = Second(Bare(Discrete(2), Discrete(2)))
    env.reset(seed=0)
    assert [env.step("0")[4]["success"] for _ in range(2)] == [False, True]
    assert env.step("none")[4] == {"success": False, "legal": False}


def test_wrong_number_of_names_is_refused():
    class Named(TextAdapter):
        action_names = ("Up",)

    with pytest.raises(SettingError, match=r"Named.action_names must name all 2 actions.*got 1"):
        Named(Bare(Discrete(2), Discrete(2)))


def test_minigrid_keeps_the_text_contract_unmodified():
    pytest.importorskip("minigrid", reason="needs pip install 'sesa-agent[minigrid]'")
    env = make_env("minigrid:MiniGrid-DoorKey-5x5-v0")
    check_text_env(env, num_episodes=2)
    text = env.reset(seed=0)[0]
    assert text.startswith("Mission: use the key") and "LY" in text and "GG" in text
    assert is_deterministic(env)
