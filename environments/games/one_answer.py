"""Text games that are settled by one answer: the answer ends the game, readable or not."""

from typing import Any, SupportsFloat

from ..text_env import TextEnv


class OneAnswerEnv(TextEnv):
    """A `TextEnv` whose last permitted answer loses the game if it cannot be read.

    Episode end: terminated by a readable answer, or after `max_steps` unreadable ones; never
    truncated. No answer is a wrong answer here, so the limit belongs to the rules.
    """

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Judge the answer that the text gives."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, False, info
