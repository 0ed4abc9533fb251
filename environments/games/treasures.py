"""The rules of Path Exploration and Countries: one of many known names is to be guessed."""

import random
from collections.abc import Collection, Hashable, Sequence
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Discrete, Space

from ..text_env import TextGame, TextSpec
from .pixels import draw_text


class TreasureGame(TextGame[int]):
    """Name one place that holds a treasure, in one answer; a subclass reads the names.

    Every seed is the same puzzle, and its text does not say which places hold a treasure: they are
    found by trying.

    Args:
        names: the known places, as they are written in canonical actions.
        treasures: those of them that hold a treasure.
        text_spec: what a player is told.
        may_name_others: whether places that are not known are legal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        names: Sequence[str],
        treasures: Collection[str],
        text_spec: TextSpec,
        may_name_others: bool = False,
    ):
        self.render_mode = "rgb_array"
        self.names = names
        self.text_spec = text_spec
        self.num_targets = len(treasures)
        self.other = len(names)
        """The action that stands for every place that is not known."""
        self.answer: int | None = None
        self.observation_space = Discrete(1)
        self.action_space = cast(Space[int], Discrete(self.other + 1))
        self._treasures = frozenset(names.index(name) for name in treasures)
        self._may_name_others = may_name_others

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Start again; every seed is the same puzzle."""
        super().reset(seed=seed)
        puzzle_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.answer = None
        return 0, {"puzzle_seed": puzzle_seed, "optimal_length": 1}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Check whether the place holds a treasure."""
        self.answer = int(action)
        success = self.answer in self._treasures
        legal = self.answer != self.other or self._may_name_others
        return 0, float(success), True, False, {"success": success, "legal": legal}

    def state_key(self) -> Hashable:
        """Return the index of the answer, if one was given."""
        return self.answer

    def puzzle_content(self, seed: int) -> None:
        """Return None: there is one puzzle, so that no content can be held out."""

    def scripted_action(self, rng: random.Random) -> str:
        """Name any of the known places: the player knows no treasure."""
        return rng.choice(self.names)

    def render(self) -> np.ndarray:
        """Draw the index of the answer, uint8 of shape (height, width, 3)."""
        return draw_text("_" if self.answer is None else str(self.answer))
