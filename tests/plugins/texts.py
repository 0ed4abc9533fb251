"""Games of other packages whose texts are peculiar, or that are not for us to play."""

import time

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Text

from sesa_agent.environments import TextSpec


class Still(gymnasium.Env):
    """Nothing changes; the second step ends it."""

    observation_space, action_space = Box(-1, 1, (2,)), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.num_steps = 0
        return self.show(), {}

    def step(self, action):
        self.num_steps += 1
        return self.show(), float(action in (1, "yes")), self.num_steps == 2, False, {}

    def show(self):
        return np.zeros(2)


class NaNObservation(Still):
    def show(self):
        return np.array([0.5, np.nan])


class NoneRendering(Still):
    """Prints its picture instead of returning it."""

    metadata = {"render_modes": ["ansi"]}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return None


class Pixels(Still):
    observation_space = Box(0, 255, (40, 40, 3), np.uint8)


class Continuous(Still):
    action_space = Box(-1, 1, (1,))


class TypedText(Still):
    """Its action space has Gymnasium's default charset, which has no space."""

    action_space = Text(500)


class FreeText(Still):
    """Takes any text; it has its own words and no `canonical_action`."""

    text_spec = TextSpec("Ask for a row.", "", "a query", examples=("select 1", "select 2"))
    observation_space = action_space = Text(500, charset="".join(map(chr, range(32, 127))))
    max_steps = 2

    def show(self):
        return "0 rows"

    def step(self, action):
        observation, reward, terminated, _, _ = super().step(action)
        return observation, reward, terminated, False, {"success": False, "legal": True}


class NoExamples(FreeText):
    text_spec = TextSpec("Ask for a row.", "", "a query")


class SlowText(FreeText):
    def step(self, action):
        time.sleep(0.1)
        return super().step(action)


class OldStep(Still):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info  # pyright: ignore[reportReturnType]


class TwoPlayers:
    """As PettingZoo has them: no environment of Gymnasium."""

    metadata = {"render_modes": []}
    possible_agents = ("white", "black")


KINDS = (NaNObservation, NoneRendering, Pixels, Continuous, TypedText, FreeText, NoExamples)
for kind in (*KINDS, SlowText, OldStep):
    gymnasium.register(f"{kind.__name__}-v0", kind, disable_env_checker=True)  # pyright: ignore
gymnasium.register("TwoPlayers-v0", TwoPlayers)  # pyright: ignore[reportArgumentType]
