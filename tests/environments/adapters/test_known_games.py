import pickle
import random
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.wrappers import TransformReward
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.environments import fork, fork_kind, make_env, state_key
from sesa_agent.environments.adapters.known_games import Taxi, adapt
from tests.helpers.toy_game import TAXI

GAMES = {
    "taxi": (TAXI, {}),
    "fickle taxi in the rain": (TAXI, {"is_rainy": True, "fickle_passenger": True}),
    "cliff": ("CliffWalking-v1", {}),
    "slippery cliff": ("CliffWalking-v1", {"is_slippery": True}),
    "slippery lake": ("FrozenLake-v1", {}),
    "large lake": ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}),
    "blackjack": ("Blackjack-v1", {}),
    "door": ("minigrid:MiniGrid-DoorKey-5x5-v0", {}),
    "moving obstacles": ("minigrid:MiniGrid-Dynamic-Obstacles-5x5-v0", {}),
    "boxes": ("minigrid:MiniGrid-ObstructedMaze-1Dlhb-v0", {}),
    "instructions": ("minigrid:BabyAI-PutNextS4N1-v0", {}),
}
"""Games whose copies know what a step changes, with and without noise."""


def make(name) -> Any:
    env_id, options = GAMES[name]
    if env_id.startswith("minigrid"):
        pytest.importorskip("minigrid", reason="needs pip install 'sesa-agent[minigrid]'")
    return make_env(env_id, **options)


def play(env, texts):
    """Play until the episode ends, then the start of the next puzzle."""
    outcomes = []
    for text in texts:
        outcomes.append((env.step(text), state_key(env), env.np_random.bit_generator.state))
        if outcomes[-1][0][2] or outcomes[-1][0][3]:
            break
    return str(outcomes), str(env.reset())


def game_of(env):
    return env.unwrapped.env.unwrapped


@pytest.mark.parametrize("name", GAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), depth=st.integers(0, 12), chance=st.integers(0, 2**20))
def test_a_fork_has_the_originals_future_and_its_own_state(name, seed, depth, chance):
    """The same observations, rewards, flags, keys and draws, and the same next puzzle."""
    env, again, rng = make(name), make(name), random.Random(chance)
    names = env.unwrapped.text_spec.listed_actions()
    before, after, other = (rng.choices(names, k=k) for k in (depth, 15, 15))
    for one in (env, again):
        one.reset(seed=seed)
        for text in before:
            one.step(text)
    twin, sibling = fork(env), fork(env)
    later = fork(twin)
    play(sibling, other)
    sibling.reset(seed=seed + 1)
    expected = play(again, after)
    assert play(twin, after) == expected
    assert play(env, after) == expected
    assert play(later, after) == expected


@pytest.mark.parametrize("name", GAMES)
def test_what_forks_share_is_never_changed(name):
    """Two copies share an object only if no play of either of them changes it.

    Found by its pickle: of every attribute that both hold, in the game and in each layer around it.
    """
    env = make(name)
    names = env.unwrapped.text_spec.listed_actions()
    for seed in range(3):
        rng = random.Random(seed)
        env.reset(seed=seed)
        env.step(names[0])
        twin = fork(env)
        shared = shared_objects(env.unwrapped, twin.unwrapped)
        before = {key: pickle.dumps(value) for key, value in shared.items()}
        for one in (env, twin):
            play(one, rng.choices(names, k=60))
        assert {key: pickle.dumps(value) for key, value in shared.items()} == before


def shared_objects(env, twin):
    """Attributes of all layers, and of the grid, that are one object in both."""
    found = {}
    while env is not None:
        assert type(env) is type(twin) and env is not twin
        found |= {(type(env), k): v for k, v in vars(env).items() if vars(twin).get(k) is v}
        env, twin = getattr(env, "env", None), getattr(twin, "env", None)
    return found


@pytest.mark.parametrize("name", ["taxi", "cliff", "slippery lake"])
def test_a_fork_copies_neither_the_table_nor_the_map(name):
    env = make(name)
    env.reset(seed=0)
    game, twin = game_of(env), game_of(fork(env))
    assert twin is not game and twin.P is game.P
    assert twin.np_random is not game.np_random
    assert fork_kind(env) == "fork"


def test_limits_of_steps_are_counted_by_each_fork():
    env = adapt(gymnasium.make(TAXI, max_episode_steps=3, render_mode="ansi"))
    env.reset(seed=0)
    env.step("North")
    twin = fork(env)
    assert [twin.step("North")[3] for _ in range(2)] == [False, True]
    assert [env.step("North")[3] for _ in range(2)] == [False, True]
    assert twin.num_steps == env.num_steps == 3


class MovingRoads(TaxiEnv):
    """A taxi whose roads change with every step."""

    def step(self, action):
        self.P[int(self.s)][action] = [(1.0, self.s, -1, False)]
        return super().step(action)


def test_a_subclass_that_changes_the_table_has_its_own():
    """Forks of every subclass of Taxi shared one table, also if its steps changed it."""
    gymnasium.register("MovingRoads-v0", lambda **options: MovingRoads(**options))
    env = make_env("MovingRoads-v0")
    env.reset(seed=0)
    assert fork_kind(env) in ("deepcopy", "replay")  # whichever takes less time
    twin, before = fork(env), pickle.dumps(game_of(env).P)
    twin.step("North")
    assert pickle.dumps(game_of(env).P) == before != pickle.dumps(game_of(twin).P)


def test_a_wrapper_or_a_subclass_of_the_adapter_may_hold_more_so_all_is_copied():
    class Diary(Taxi):
        def __init__(self, env):
            super().__init__(env)
            self.entries = []

        def step(self, action):
            self.entries.append(action)
            return super().step(action)

    wrapped = adapt(TransformReward(gymnasium.make(TAXI, render_mode="ansi"), float))
    diary = Diary(gymnasium.make(TAXI, render_mode="ansi"))
    for env in (wrapped, diary):
        env.reset(seed=0)
        assert fork_kind(env) == "deepcopy"
    twin = fork(diary)
    twin.step("North")
    assert (diary.entries, twin.entries) == ([], ["North"])


def test_a_game_that_draws_pictures_is_copied_as_a_whole():
    assert fork_kind(Taxi(gymnasium.make(TAXI, render_mode="rgb_array"))) == "deepcopy"
