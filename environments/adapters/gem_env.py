r"""GEM's text games (Apache-2.0): `sesa-agent train --env gem/GuessTheNumber-v0-easy`.

All games of its `game:` registry. A move without GEM's answer form, `\boxed{...}`, gets it. The
observation shows the rules, the game's reply to each move, and the current state.
"""

import inspect
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..text_env import TextSpec
from .collection_game import CollectionGame, GameNoise, Reply, needing_word_lists, one_line

PREFIX = "game:"
"""Start of the ids of the text games in GEM's registry."""
BOX = "\\boxed{"
"""Start of a move in GEM's form."""
WON = "Congratulations"
"""Start of every game's reply to the winning move; the reward alone does not show it."""
NOISY = ("Game2048", "Minesweeper")
"""Games with random events after the start."""
LEFT_OUT = ("FifteenPuzzle-v0-random", "Crosswords-v0-random")
"""Variants that this version of GEM cannot make."""
NUM_EXAMPLES = 8
"""Number of random moves that a game is asked for, as examples for the checks."""
MOVES: Mapping[str, Sequence[str]] = {
    "Sudoku": ("1 1 3", "2 3 4", "4 4 1"),
    "TowerofHanoi": ("A C", "A B", "B C", "C B"),
}
"""Moves of the games that give no example themselves."""
WORD_LISTS = "words"
"""NLTK's word lists that the word games need."""


def game_names() -> Sequence[str]:
    """Names of the text games.

    Raises:
        ModuleNotFoundError: if GEM is not installed.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from gem.envs.registration import ENV_REGISTRY  # pyright: ignore[reportMissingImports]

    root.handlers[:], root.level = handlers, level  # the import sets up logging for everybody
    names = [name.removeprefix(PREFIX) for name in ENV_REGISTRY if name.startswith(PREFIX)]
    return [name for name in names if name not in LEFT_OUT]


def make(name: str, max_steps: int = 200, **options: Any) -> "GemGame":
    """Make a game.

    Args:
        name: its id in GEM, without `game:`.
        max_steps: number of actions after which it is truncated, unless its own limit comes first.
        options: keyword arguments of the game.

    Raises:
        SettingError: if it needs word lists that are not installed.
        TypeError: if the game has no such option.
    """
    with needing_word_lists(f"gem/{name}", WORD_LISTS):
        return GemGame(name, max_steps, options)


class GemGame(CollectionGame):
    r"""A text game of GEM.

    Actions: the move, with or without `\boxed{...}` around it.
    Reward: the game's, at every step.
    Episode end: terminated by the game, also after a move in the wrong form; truncated at its own
    turn limit. Success: the game congratulates the player.

    Args:
        name: its id in GEM, without `game:`.
        max_steps: number of actions after which it is truncated.
        options: keyword arguments of the game.
    """

    def __init__(self, name: str, max_steps: int, options: dict[str, Any]):
        import gem  # pyright: ignore[reportMissingImports]

        with GameNoise(np.random.default_rng(0)).in_use():
            self.game = gem.make(f"{PREFIX}{name}", **options)
            moves = {_example_move(self.game, name) for _ in range(NUM_EXAMPLES)}
        known = inspect.signature(type(self.game)).parameters
        unknown = [option for option in options if option not in known]
        if unknown:  # GEM ignores them silently
            raise TypeError(f"gem/{name} has no option {unknown[0]!r}, only {', '.join(known)}")
        text_spec = TextSpec(
            instruction="Play the game that is described below.",
            legend="",
            actions="a move, in the form that the description asks for",
            examples=tuple(sorted(moves)),
        )
        super().__init__(text_spec, max_steps)
        self.is_deterministic = not name.startswith(NOISY)

    def open(self, seed: int) -> str:
        """Start a puzzle."""
        rules, info = self.game.reset(seed=seed)
        self.replies = [rules.strip()]
        return self._show(info)

    def play(self, action: str) -> Reply:
        """Make a move."""
        text, reward, terminated, truncated, info = self.game.step(action)
        self.replies = [*self.replies, text]
        return Reply(
            self._show(info),
            float(reward),
            terminated=bool(terminated and not truncated),  # GEM sets both at its limit
            truncated=bool(truncated),
            success=bool(terminated) and text.startswith(WON),
            legal=float(reward) >= 0,
        )

    def canonical_action(self, text: str) -> str | None:
        r"""Return the move in `\boxed{...}`, with single spaces between its parts."""
        move = one_line(text)
        return (move if BOX in move else f"{BOX}{move}}}") if move else None

    def _show(self, info: dict[str, Any]) -> str:
        """Show the rules, the reply to each move, and the current state."""
        return "\n".join([*self.replies, info.get("suffix", "")])


def _example_move(game: Any, name: str) -> str:
    """Draw a random move from the game itself if it gives one, else from `MOVES`."""
    try:
        return game.sample_random_action()
    except NotImplementedError:
        return random.choice(MOVES[name.partition("-")[0]])
