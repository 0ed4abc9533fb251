"""A game of one corridor, as a user would write it: `--env tests.helpers.toy_game:Corridor-v0`."""

from typing import Any

import gymnasium
from gymnasium.spaces import Discrete

from sesa_agent.environments import TextEnv, TextGame, TextSpec

MOVE_NAMES = ("Left", "Right", "Up", "Down")


class CorridorGame(TextGame[int]):
    """Two steps to the right win, one step off the left end loses, Up and Down are not allowed."""

    text_spec = TextSpec("Walk to the right end.", "P is you, G the goal", ", ".join(MOVE_NAMES))
    observation_space = Discrete(3)
    action_space = Discrete(4)  # pyright: ignore[reportAssignmentType]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.place, {}

    def step(self, action):
        legal = action < 2
        self.place += (-1, 1, 0, 0)[action]
        won = self.place == 2
        info = {"success": won, "legal": legal}
        return max(self.place, 0), float(won), won or self.place < 0, False, info

    def to_text(self):
        return "".join("P" if cell == self.place else "_" for cell in range(2)) + "G"

    def read_action(self, text):
        name = text.strip().capitalize()
        return (name, MOVE_NAMES.index(name)) if name in MOVE_NAMES else None

    def state_key(self):
        return self.place

    def puzzle_content(self, seed):
        """Return None: there is one puzzle."""

    def fork(self):
        twin = CorridorGame()
        twin.place = self.place
        return twin


def make_corridor(max_steps: int = 4, num_targets: int = 0, **_: Any) -> TextEnv:
    """Build the text environment; `num_targets` is the number of winning answers it reports."""
    game = CorridorGame()
    game.num_targets = num_targets
    return TextEnv(game, max_steps)


TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
"""Gymnasium 1.3 replaced Taxi-v3 by Taxi-v4."""
ENV_ID = "tests.helpers.toy_game:Corridor-v0"
if "Corridor-v0" not in gymnasium.registry:
    gymnasium.register("Corridor-v0", make_corridor, order_enforce=False, disable_env_checker=True)
