"""A corridor of eight rooms in which every step asks a slow service: `slow:Slow-v0`."""

import time

import gymnasium
from gymnasium.spaces import Discrete


class Slow(gymnasium.Env):
    """Walk to the last of eight rooms."""

    observation_space, action_space = Discrete(8), Discrete(2)
    action_names = ("Left", "Right")
    max_steps = 4
    is_deterministic = True

    def __init__(self, step_s: float = 0.5):
        self.step_s = step_s

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = int(self.np_random.integers(3, 6))
        return self.room, {}

    def step(self, action):
        time.sleep(self.step_s)
        self.room = max(0, min(7, self.room + (1 if action else -1)))
        is_over = self.room == 7
        return self.room, float(is_over), is_over, False, {"success": is_over}


gymnasium.register("Slow-v0", "slow:Slow")
