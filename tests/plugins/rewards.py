"""Numeric games whose rewards say little about success, or say it elsewhere."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Walk(gymnasium.Env):
    """Walk along five rooms to the last one; the first one ends the game too."""

    observation_space, action_space = Discrete(5), Discrete(2)
    action_names = ("Left", "Right")
    max_steps = 12

    def __init__(self, step: float = 0.0, goal: float = 0.0, key: str = ""):
        self.step_reward, self.goal_reward, self.key = step, goal, key

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = 2
        return self.room, {}

    def step(self, action):
        self.room += 1 if action else -1
        is_won = self.room == 4
        reward = self.step_reward + is_won * self.goal_reward
        info = {self.key: np.float32(is_won)} if self.key else {}
        return self.room, reward, self.room in (0, 4), False, info


class VectorReward(Walk):
    """The same, with two rewards."""

    reward_space = Box(-1, 1, (2,))

    def step(self, action):
        room, reward, terminated, truncated, info = super().step(action)
        return room, np.array([reward, -1.0]), terminated, truncated, info


class UndeclaredVector(VectorReward):
    """The same, without saying so."""

    reward_space = property()  # pyright: ignore[reportAssignmentType]


REWARDS = {
    "AlwaysPositive-v0": {"step": 1.0},
    "CostsOnly-v0": {"step": -1.0},
    "SparseReward-v0": {"goal": 1.0},
    "StepCostsAndPrize-v0": {"step": -0.1, "goal": 1.0},
    "SaysSolved-v0": {"step": 1.0, "key": "solved"},
}
for env_id, options in REWARDS.items():
    gymnasium.register(env_id, Walk, kwargs=options)  # pyright: ignore
gymnasium.register("Threshold-v0", Walk, kwargs={"step": 1.0}, reward_threshold=3.0)  # pyright: ignore
gymnasium.register("VectorReward-v0", VectorReward)  # pyright: ignore
gymnasium.register("UndeclaredVector-v0", UndeclaredVector)  # pyright: ignore
