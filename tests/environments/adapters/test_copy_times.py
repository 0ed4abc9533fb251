"""Deep copies and replays of one environment, and which of them a guard chooses."""

import itertools
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Discrete

from sesa_agent.environments import TextAdapter, fork, fork_kind
from sesa_agent.environments.adapters.copy_times import CopyTimes
from sesa_agent.environments.adapters.guard import GuardedEnv

TABLE = {number: [number] for number in range(20_000)}
"""Of the module: fast to refer to, slow to copy."""
START = itertools.count()


class Maze(gymnasium.Env):
    """Walk through a large table."""

    observation_space, action_space = Discrete(30_000), Discrete(3)

    def __init__(self):
        self.table = TABLE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(1000))
        return self.place, {}

    def step(self, action):
        self.place = self.table[self.place + int(action)][0]
        return self.place, 0.0, False, False, {}


class Words(TextAdapter):
    """A maze that says what a replay needs."""

    is_deterministic = True

    def state_key(self):
        return self.env.unwrapped.place  # pyright: ignore[reportAttributeAccessIssue]


class MazeOfTheClock(Maze):
    """Walk through a large table, from a place that no seed decides."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = next(START)
        return self.place, {}


class HiddenDraws(Maze):
    """Walk through a large table; how many numbers were drawn depends on no seed."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.np_random.random(next(START))
        self.place = 0
        return self.place, {}


def after_forks(words, maze, can_replay=True) -> Any:
    env = GuardedEnv(lambda: words(maze()), 60.0, can_replay)
    env.reset(seed=0)
    env.step("1")
    for _ in range(3):
        twin = fork(env)
        assert twin.env is not env.env
        assert [fork(twin).step(text)[0] for text in "012"] == [
            fork(env).step(text)[0] for text in "012"
        ]
    return env


def test_what_is_slow_to_copy_and_quick_to_replay_is_replayed():
    env = after_forks(Words, Maze)
    assert fork_kind(env) == "replay"
    twin = fork(env)
    assert twin.unwrapped.env.table is TABLE  # pyright: ignore[reportAttributeAccessIssue]
    twin.step("2")
    assert fork(twin).step("1")[:4] == twin.step("1")[:4] != env.step("1")[:4]


@pytest.mark.parametrize("maze", [MazeOfTheClock, HiddenDraws])
def test_a_replay_that_leads_elsewhere_is_never_used(maze):
    env = after_forks(Words, maze)
    assert env.copy_times.is_wrong and fork_kind(env) == "deepcopy"
    twin = fork(env)
    assert twin.state_key() == env.state_key()
    assert twin.np_random.random() == env.np_random.random()


def test_without_a_proof_of_equality_a_copy_is_made():
    """No claim of determinism, no key, or only one environment to play in."""
    for words, can_replay in ((TextAdapter, True), (Words, False)):
        env = after_forks(words, Maze, can_replay)
        assert fork_kind(env) == "deepcopy" and env.copy_times.num_calls == 1


def test_a_replay_of_many_more_actions_is_expected_to_take_longer():
    times = CopyTimes(copy_s=0.010, replay_s=0.001, num_calls=5)
    assert times.prefers_replay(24) and not times.prefers_replay(25)
    assert not CopyTimes(copy_s=0.0019).prefers_replay(1)
    assert CopyTimes(copy_s=0.0021).prefers_replay(1)  # tried once, to be timed
