"""The suite passes a sound environment and names what is wrong with a broken one."""

import copy
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete, Text

from sesa_agent.environments import TextEnv, TextGame, TextSpec
from sesa_agent.environments.checks import check_text_env


class CoinGame(TextGame[int]):
    """Call the coin: three right calls win, and the coin is thrown anew after every call."""

    text_spec = TextSpec(instruction="Call the coin.", legend="", actions="heads, tails")

    def __init__(self):
        self.observation_space = Discrete(4)
        self.action_space = Discrete(2)  # pyright: ignore[reportAttributeAccessIssue]
        self.num_right = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.num_right = int(self.np_random.integers(2))
        return self.num_right, {}

    def step(self, action):
        self.num_right += int(self.np_random.integers(2) == action)
        is_won = self.num_right == 3
        return self.num_right, float(is_won), is_won, False, {"success": is_won, "legal": True}

    def render(self):
        return np.full((4, 4, 3), self.num_right, np.uint8)

    def to_text(self):
        return f"{self.num_right} right so far"

    def read_action(self, text):
        word = text.strip().lower()
        return (word, ("heads", "tails").index(word)) if word in ("heads", "tails") else None

    def fork(self):
        return copy.deepcopy(self)

    def state_key(self):
        return self.num_right


def test_a_sound_environment_passes():
    check_text_env(TextEnv(CoinGame(), max_steps=6))


def test_a_sound_environment_passes_in_wrappers_and_with_given_actions():
    env = gymnasium.wrappers.TimeLimit(TextEnv(CoinGame(), 6), max_episode_steps=4)
    check_text_env(env, num_episodes=2, seed=5, actions=["HEADS"])


class Broken(TextEnv):
    """Overridden one method at a time below."""

    def __init__(self):
        super().__init__(CoinGame(), max_steps=6)


class NumericSpace(Broken):
    def __init__(self):
        super().__init__()
        self.action_space = Discrete(2)  # pyright: ignore[reportAttributeAccessIssue]


class NoWords(Broken):
    def __init__(self):
        super().__init__()
        del self.text_spec


class NarrowSpace(Broken):
    def __init__(self):
        super().__init__()
        self.observation_space = Text(5)


class UnreadableActions(Broken):
    def __init__(self):
        super().__init__()
        self.text_spec = replace(self.text_spec, actions="either side")


class OwnDice(Broken):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None, options=options)


class Raises(Broken):
    def step(self, action):
        return super().step(["heads", "tails"][["heads", "tails"].index(action)])


class BadTextCounts(Broken):
    def step(self, action):
        if self.canonical_action(action) is None:
            self.game.num_right = 2  # pyright: ignore[reportAttributeAccessIssue]
        return super().step(action)


class BadTextIsLegal(Broken):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "legal": True}


class NoSuccess(Broken):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {"legal": info["legal"]}


class WonButNotOver(Broken):
    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, False, truncated, info


class InfiniteReward(Broken):
    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float("nan"), terminated, truncated, info


class Endless(Broken):
    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, {**info, "success": False}


class SharedGame(Broken):
    def fork(self):
        return copy.copy(self)


class SharedGenerator(Broken):
    def fork(self):
        twin = copy.copy(self)
        twin.game = copy.copy(self.game)
        return twin


class UnhashableKey(Broken):
    def state_key(self):
        return [self.game.state_key()]  # pyright: ignore[reportReturnType]


class KeyOfTheObject(Broken):
    def state_key(self):
        return id(self)


class DriftingCanonicalText(Broken):
    def canonical_action(self, text):
        canonical = super().canonical_action(text)
        return None if canonical is None else canonical + "!"


class NoPicture(Broken):
    def render(self):
        return self.game.to_text()


COMPLAINTS = {
    NumericSpace: "action_space must be a gymnasium.spaces.Text",
    NoWords: "text_spec.instruction must be a str",
    NarrowSpace: "outside",
    UnreadableActions: "must be readable",
    OwnDice: "two different episodes",
    Raises: "raised ValueError",
    BadTextCounts: "changed the state",
    BadTextIsLegal: "is no action, but step",
    NoSuccess: r"info\['success'\] as a bool",
    WonButNotOver: "success without terminated",
    InfiniteReward: "finite number",
    Endless: "did not end",
    SharedGame: "fork",
    SharedGenerator: "fork",
    UnhashableKey: "must be hashable",
    KeyOfTheObject: "state_key",
    DriftingCanonicalText: "canonical",
    NoPicture: "rgb_array must be uint8",
}


@pytest.mark.parametrize("broken", COMPLAINTS, ids=lambda broken: broken.__name__)
def test_a_broken_environment_is_told_what_is_wrong(broken):
    with pytest.raises(AssertionError, match=COMPLAINTS[broken]):
        check_text_env(broken())
