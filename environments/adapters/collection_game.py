"""What the adapters of other collections share: text that is safe, and luck that can be copied.

A `CollectionGame` is an environment around a game that speaks text itself. Such games draw their
random numbers from the module `random` (some from `numpy.random`), which every other game in the
process shares. Here each game has a state of these generators of its own, put in place while it is
called and taken out again, so that a puzzle is its seed, and a fork has the original's luck.
"""

import random
import unicodedata
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from ...configs.errors import SettingError
from ..text_env import TextSpec
from .adapter import AnyText

MAX_MOVE = 500
"""Characters of a move; games stumble over what is much longer."""
MAX_SEED = 2**31
"""Seeds that games are started with are below it."""


@dataclass(frozen=True)
class Reply:
    """What a game says to a move."""

    text: str
    """All that the player is shown now."""
    reward: float
    terminated: bool = False
    truncated: bool = False
    success: bool = False
    legal: bool = True


class CollectionGame(gymnasium.Env[str, str]):
    """Plays a game of another collection.

    Observation: the game's own words, rules included.
    Actions: any text; an empty one, or one far too long, changes nothing.
    Reward: the game's. Episode end: the game's, or truncated after `max_steps` actions.
    Info: `success` (what the game counts as won) and `legal` (it took the move).

    Args:
        text_spec: what is told beside the game's own words.
        max_steps: actions after which an episode is truncated, at least 1.

    Raises:
        ValueError: if `max_steps` is below 1.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}
    is_deterministic = False

    def __init__(self, text_spec: TextSpec, max_steps: int):
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
        self.text_spec, self.max_steps, self.render_mode = text_spec, max_steps, "ansi"
        self.observation_space, self.action_space = AnyText(), AnyText()
        self.luck = Luck(np.random.default_rng(0))
        self.text, self.num_steps, self.is_over = "", 0, False

    @abstractmethod
    def open(self, seed: int) -> str:
        """Start the puzzle of a seed and return what the player is shown."""

    @abstractmethod
    def play(self, action: str) -> Reply:
        """Play an action in its canonical spelling."""

    @abstractmethod
    def canonical_action(self, text: str) -> str | None:
        """Return the one spelling of an action, or None if there is nothing to play."""

    @property
    def np_random(self) -> np.random.Generator:
        """The random generator that puzzles are drawn from."""
        return super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random = value
        self.luck = Luck(value)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the puzzle that belongs to `seed`."""
        super().reset(seed=seed)
        puzzle = int(self.np_random.integers(MAX_SEED))
        self.luck = Luck(self.np_random)
        self.num_steps, self.is_over = 0, False
        with self.luck.in_use():
            self.text = safe_text(self.open(puzzle))
        return self.text, {"success": False, "legal": True}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play an action; after the end nothing changes any more."""
        self.num_steps += 1
        canonical = self.canonical_action(action)
        if canonical is None or self.is_over:
            reply = Reply(self.text, 0.0, terminated=self.is_over, legal=False)
        else:
            with self.luck.in_use():
                reply = self.play(canonical)
        self.text = safe_text(reply.text) or self.text
        truncated = reply.truncated or self.num_steps >= self.max_steps
        self.is_over = reply.terminated or truncated
        info = {"success": reply.success, "legal": reply.legal}
        return self.text, reply.reward, reply.terminated, truncated and not reply.terminated, info

    def render(self) -> Any:
        """Return the observation's text."""
        return self.text


class Luck:
    """The random numbers of one game: its own state of `random` and `numpy.random`.

    Args:
        source: where the seeds of both come from.
    """

    def __init__(self, source: np.random.Generator):
        self.python = random.Random(int(source.integers(MAX_SEED))).getstate()
        self.numpy = np.random.RandomState(int(source.integers(MAX_SEED))).get_state()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let `random` and `numpy.random` draw from here, and leave them as they were."""
        outside = random.getstate(), np.random.get_state()
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        try:
            yield
        finally:
            self.python, self.numpy = random.getstate(), np.random.get_state()
            random.setstate(outside[0])
            np.random.set_state(outside[1])


def one_line(text: str) -> str:
    r"""The words of a move with one space between them; nothing if it is far too long for a move.

    >>> one_line(" 1  2\n 5 "), one_line("9" * 1000)
    ('1 2 5', '')
    """
    words = " ".join(text.split())
    return words if len(words) <= MAX_MOVE else ""


@contextmanager
def needing_word_lists(env_id: str, lists: str) -> Iterator[None]:
    """Say how word lists of NLTK are installed, if making a game misses them.

    Raises:
        SettingError: if it does.
    """
    try:
        yield
    except LookupError as error:
        if type(error) is not LookupError:  # a KeyError or an IndexError is something else
            raise
        raise SettingError(
            f"env.id {env_id} needs word lists of NLTK. Download them: "
            f"python -m nltk.downloader {lists}."
        ) from error


def safe_text(text: str) -> str:
    r"""Leave out control characters: a tab becomes four spaces, of the others lines stay.

    >>> safe_text("a\tb\r\n\x1b[1mc\n")
    'a    b\n[1mc'
    """
    text = text.replace("\t", "    ")
    kept = (c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept).strip("\n")
