"""A game in which any text is an action, for benchmarks that train on free-form answers.

The reward grows with the number of given words that a text uses, so that the answers of a small
model get different rewards without any training.
"""

import string
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.spaces import Text

from sesa_agent.environments import TextSpec

ENV_ID = "UseTheWords-v0"
WORDS = (
    "river stone lamp garden winter letter bridge silver horse window market cloud paper forest "
    "kitchen mountain island music shadow candle harbour feather mirror thunder village blanket "
    "orchard copper lantern meadow"
).split()
NUM_WORDS = 10


class UseTheWords(gymnasium.Env[str, str]):
    """Write a text that uses as many of the given words as possible.

    Observation: the words. Actions: any text. Reward: `points`. Episode end: terminated after one
    text.
    """

    is_deterministic = True

    def __init__(self) -> None:
        self.text_spec = TextSpec(
            "Write one sentence that uses as many of these words as you can.",
            legend="",
            actions="any text",
        )
        self.observation_space = Text(10_000, min_length=0, charset=string.printable)
        self.action_space = Text(10_000, min_length=0, charset=string.printable)
        self.words: list[str] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Choose the words for a seed."""
        super().reset(seed=seed)
        self.words = self.np_random.permutation(WORDS)[:NUM_WORDS].tolist()
        return ", ".join(self.words), {"success": False, "legal": True}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Count the words that were used."""
        reward = points(action, self.words)
        return "", reward, True, False, {"success": reward >= 1, "legal": True}


gymnasium.register(
    ENV_ID, "use_the_words:UseTheWords", order_enforce=False, disable_env_checker=True
)


def points(text: str, words: Sequence[str]) -> float:
    """Number of words used, plus a term for the length, so that rewards differ.

    >>> round(points("A river of stone", ["river", "stone", "lamp"]), 3)
    2.016
    """
    return sum(word in text.lower() for word in words) + len(text) / 1000
