"""A conversation: questions in free words; each observation shows the last answer alone."""

import string

import gymnasium
from gymnasium.spaces import Text

from sesa_agent import TextSpec

ANIMALS = {"bat": {"fly", "fur"}, "eagle": {"fly"}, "mole": {"fur"}, "snake": set()}


class AnimalTalk(gymnasium.Env):
    """Find out which animal is meant."""

    text_spec = TextSpec(
        "I think of a bat, an eagle, a mole or a snake. Find out which.",
        legend="",
        actions="a question such as: can it fly? or the name of the animal",
        examples=("Can it fly?", "Has it fur?", "bat"),
    )
    observation_space = action_space = Text(2000, charset=string.printable)
    max_steps = 4

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.animal = list(ANIMALS)[int(self.np_random.integers(len(ANIMALS)))]
        return "Ask me.", {}

    def step(self, action):
        words = {word.strip("?.!,").lower() for word in action.split()}
        if words & set(ANIMALS):
            won = self.animal in words
            return "Yes!" if won else "No.", float(won), True, False, {"success": won}
        asked = words & {"fly", "fur"}
        return "Yes." if asked & ANIMALS[self.animal] else "No.", 0.0, False, False, {}


gymnasium.register("AnimalTalk-v0", "dialogue_game:AnimalTalk")
