from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.wrappers import OrderEnforcing, TimeLimit, TransformReward

from sesa_agent.environments import fork
from sesa_agent.environments.copying import deep_copy, listed_parts


class Library(gymnasium.Env):
    """Has a catalogue that no step changes, and a list of loans that every step changes."""

    shared_on_fork = ("catalogue", "not_yet_loaded")

    def __init__(self):
        self.observation_space, self.action_space = Box(0, 9, (3,)), Discrete(3)
        self.catalogue = {number: [f"title {number}"] for number in range(100)}
        self.loans = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.loans = []
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.loans.append(int(self.np_random.integers(9)))
        return np.zeros(3, np.float32), 0.0, False, False, {}


def library(*wrappers) -> Any:
    env: Any = Library()
    for wrap in wrappers:
        env = wrap(env)
    env.reset(seed=0)
    env.step(0)
    return env


def unwrapped(env: Any) -> Any:
    return env.unwrapped


def test_only_what_is_listed_is_shared():
    env = library()
    twin = deep_copy(env)
    assert twin.catalogue is env.catalogue and twin.loans is not env.loans
    assert listed_parts(env) == {"catalogue": env.catalogue}


def test_a_wrapper_can_list_attributes_of_what_it_wraps():
    class Plain(Library):
        shared_on_fork = ()

    class Knowing(gymnasium.Wrapper):
        shared_on_fork = "catalogue"

    env = Knowing(OrderEnforcing(Plain()))
    env.reset(seed=0)
    assert unwrapped(deep_copy(env)).catalogue is unwrapped(env).catalogue
    assert unwrapped(deep_copy(env.env)).catalogue is not unwrapped(env).catalogue


WRAPPERS = {
    "none": (),
    "known": (OrderEnforcing, lambda env: TimeLimit(env, 9)),
    "other": (lambda env: TransformReward(env, float),),
    "known inside": (OrderEnforcing, lambda env: TransformReward(env, float)),
    "known outside": (lambda env: TransformReward(env, float), lambda env: TimeLimit(env, 9)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_of_every_kind_are_copied_with_what_they_wrap(name):
    env = library(*WRAPPERS[name])
    twin = fork(env)
    futures = []
    for one in (env, twin):
        one.step(0)
        futures.append(unwrapped(one).loans)
    assert futures[0] == futures[1] and futures[0] is not futures[1]
    while hasattr(env, "env"):
        assert type(twin) is type(env) and twin is not env
        env, twin = env.env, twin.env
    assert twin is not env


def test_the_steps_of_a_time_limit_are_each_forks_own():
    env = library(lambda env: TimeLimit(env, 3))
    twin = fork(env)
    assert [twin.step(0)[3] for _ in range(2)] == [False, True]
    assert [env.step(0)[3] for _ in range(2)] == [False, True]


def test_an_environment_that_refers_to_its_wrapper_is_copied_once():
    env = library(OrderEnforcing)
    env.unwrapped.outermost = env
    twin = deep_copy(env)
    assert twin.unwrapped.outermost is twin and twin is not env


def test_a_space_that_has_drawn_keeps_its_draws_to_itself():
    """A space has a random generator of its own, which an environment may use in its steps."""
    env = library()
    env.observation_space = Dict({"one": Discrete(1000), "two": Discrete(1000)})
    unused = deep_copy(env)
    unused.observation_space.seed(3)
    assert env.observation_space["one"]._np_random is None
    env.observation_space.seed(0)
    twin, other = deep_copy(env), deep_copy(env)
    expected = [other.observation_space.sample() for _ in range(3)]
    assert [twin.observation_space.sample() for _ in range(3)] == expected
    assert [env.observation_space.sample() for _ in range(3)] == expected


def test_the_bounds_of_a_space_are_shared_until_it_is_replaced():
    env = library()
    twin = deep_copy(env)
    assert twin.observation_space == env.observation_space
    assert twin.observation_space is not env.observation_space
    assert twin.observation_space.low is env.observation_space.low


def test_a_read_only_array_is_copied():
    """Its owner may make it writable for the time of a step."""
    env = library()
    env.board = np.zeros(4)
    env.board.flags.writeable = False
    twin = deep_copy(env)
    env.board.flags.writeable = True
    env.board[0] = 1
    assert twin.board.tolist() == [0, 0, 0, 0]
