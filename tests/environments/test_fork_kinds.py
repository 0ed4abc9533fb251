import threading

import gymnasium
import pytest
from gymnasium.spaces import Discrete
from gymnasium.wrappers import TimeLimit

from sesa_agent.environments import check_text_env, fork, fork_kind, make_env


class Dice(gymnasium.Env):
    """Throw dice until twenty is reached."""

    observation_space = Discrete(100)
    action_space = Discrete(2)
    max_steps = 12

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total = int(self.np_random.integers(10))
        return self.total, {}

    def step(self, action):
        self.total += int(self.np_random.integers(6)) * int(action)
        return self.total, float(self.total == 20), self.total >= 20, False, {}


class LockedDice(Dice):
    """Dice that no deepcopy gets through."""

    def __init__(self):
        self.lock = threading.Lock()


class StatefulDice(LockedDice):
    """They return and accept their state."""

    def get_state(self):
        return {"total": [self.total]}

    def set_state(self, state):
        self.total = state["total"][0]


class ForkedDice(LockedDice):
    """They copy themselves."""

    def fork(self):
        twin = ForkedDice()
        twin.total, twin.np_random = self.total, self.np_random.spawn(1)[0]
        twin.np_random.bit_generator.state = self.np_random.bit_generator.state
        return twin


KINDS = {"deepcopy": Dice, "replay": LockedDice, "state": StatefulDice, "fork": ForkedDice}
for kind, dice in KINDS.items():
    gymnasium.register(f"Dice-{kind}-v0", dice)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_fork_is_reported_and_keeps_state_and_generator(kind):
    env = make_env(f"Dice-{kind}-v0")
    env.reset(seed=0)
    assert fork_kind(env) == kind
    check_text_env(env, num_episodes=3)
    env.reset(seed=4)
    env.step("1")
    twin, other = fork(env), fork(env, reseed=7)
    later = fork(other)
    futures = [[e.step("1")[:3] for _ in range(3)] for e in (env, twin, other, later)]
    assert futures[0] == futures[1] != futures[2] == futures[3]


@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_count_their_own_steps_with_every_kind_of_fork(kind):
    env = TimeLimit(make_env(f"Dice-{kind}-v0"), 2)
    env.reset(seed=0)
    env.step("0")
    twin = fork(env)
    assert twin.step("0")[3] and env.step("0")[3]


def test_a_puzzle_without_a_seed_can_be_replayed_too():
    env = make_env("Dice-replay-v0")
    env.reset()
    env.step("1")
    env.reset()
    assert fork(env).step("1")[:3] == env.step("1")[:3]
