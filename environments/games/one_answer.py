"""Text games that end with the first answer, readable or not."""

from typing import Any, SupportsFloat

from ..text_env import TextEnv


class OneAnswerEnv(TextEnv):
    """A `TextEnv` in which running out of answers loses the game.

    Episode end: terminated by a readable answer, or after `max_steps` unreadable ones; never
    truncated, because giving no answer counts as a wrong answer: the limit is part of the rules.
    """

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Judge the answer that the text gives."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, False, info
