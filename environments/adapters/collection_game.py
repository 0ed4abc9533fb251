"""What the adapters of collections share: safe text, and noise that belongs to each game.

A `CollectionGame` wraps a game that speaks text itself. Such games draw from the modules `random`
and `numpy.random`, which all games in the process share. Here each game has its own state of these
generators, which is in place only while the game is called. So a seed determines the puzzle, and a
fork has the same noise as the original.
"""

import random
import unicodedata
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from ...configs.errors import SettingError
from ..text_env import TextSpec
from .adapter import AnyText

MAX_MOVE = 500
"""Length of the longest move that a game is given, in characters; much longer ones break some."""
MAX_SEED = 2**31
"""Games are started with seeds below this."""


@dataclass(frozen=True)
class Reply:
    """A game's reply to a move."""

    text: str
    """Everything the player sees now."""
    reward: float
    terminated: bool = False
    truncated: bool = False
    success: bool = False
    legal: bool = True


class CollectionGame(gymnasium.Env[str, str]):
    """Plays a game of a collection.

    Observation: the game's own text, including its rules.
    Actions: any text; an empty text, or one that is far too long, changes nothing.
    Reward: the game's. Episode end: the game's, or truncated after `max_steps` actions.
    Info: `success` (the game counts as won), `legal` (the game accepted the move), and
    `available_actions` (texts that the game accepts now), if it tells them.

    Args:
        text_spec: what a player is told in addition to the game's own text.
        max_steps: number of actions after which an episode is truncated, at least 1.

    Raises:
        ValueError: if `max_steps` is below 1.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}
    is_deterministic = False
    is_fully_observed = True
    """Whether its text has all that the next move needs; otherwise prompts show earlier turns."""
    is_reusable: bool = True
    """Whether `reset` gives a fresh episode, so that one instance can play many."""
    max_instances: int = 0
    """Most instances that may be open at once; 0 for no limit."""
    available_actions: Sequence[str] | None = None
    """Texts that the game accepts now; None if it does not tell."""

    def __init__(self, text_spec: TextSpec, max_steps: int):
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
        self.text_spec, self.max_steps, self.render_mode = text_spec, max_steps, "ansi"
        self.observation_space, self.action_space = AnyText(), AnyText()
        self.noise = GameNoise(np.random.default_rng(0))
        self.text, self.num_steps, self.is_over = "", 0, False

    @abstractmethod
    def open(self, seed: int) -> str:
        """Start the puzzle of a seed and return its first text."""

    @abstractmethod
    def play(self, action: str) -> Reply:
        """Play an action in its canonical spelling."""

    @abstractmethod
    def canonical_action(self, text: str) -> str | None:
        """Return the canonical spelling of an action, or None if there is nothing to play."""

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that puzzles and the game's own noise are seeded from."""
        return super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random = value
        self.noise = GameNoise(value)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the puzzle of `seed`."""
        super().reset(seed=seed)
        puzzle = int(self.np_random.integers(MAX_SEED))
        self.noise = GameNoise(self.np_random)
        self.num_steps, self.is_over = 0, False
        with self.noise.in_use():
            self.text = safe_text(self.open(puzzle))
        return self.text, self._with_actions({"success": False, "legal": True})

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play an action; once the episode is over, nothing changes any more."""
        self.num_steps += 1
        canonical = self.canonical_action(action)
        if canonical is None or self.is_over:
            reply = Reply(self.text, 0.0, terminated=self.is_over, legal=False)
        else:
            with self.noise.in_use():
                reply = self.play(canonical)
        self.text = safe_text(reply.text) or self.text
        truncated = reply.truncated or self.num_steps >= self.max_steps
        self.is_over = reply.terminated or truncated
        info = self._with_actions({"success": reply.success, "legal": reply.legal})
        return self.text, reply.reward, reply.terminated, truncated and not reply.terminated, info

    def render(self) -> Any:
        """Return the observation's text."""
        return self.text

    def _with_actions(self, info: dict[str, Any]) -> dict[str, Any]:
        if self.available_actions is not None:
            info["available_actions"] = list(self.available_actions)
        return info


class OutsideGame(CollectionGame):
    """Plays a game whose state is outside of this process, or cannot be copied.

    Its forks replay the seed and the actions.
    """

    is_fully_observed = False

    def __reduce__(self) -> Any:
        """Refuse to be copied.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} cannot be copied: its state is not in Python")

    def canonical_action(self, text: str) -> str | None:
        """Return the command in one line, spelled as in `available_actions` if it is there."""
        command = one_line(text)
        spelled = {known.casefold(): known for known in self.available_actions or ()}
        return spelled.get(command.casefold(), command) or None


class GameNoise:
    """The random numbers of one game: its own state of `random` and `numpy.random`.

    Args:
        source: the generator that seeds both.
    """

    def __init__(self, source: np.random.Generator):
        self.python = random.Random(int(source.integers(MAX_SEED))).getstate()
        self.numpy = np.random.RandomState(int(source.integers(MAX_SEED))).get_state()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Put this state into `random` and `numpy.random`, and restore theirs afterwards."""
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
    r"""Write a move in one line with single spaces; empty if it is no move.

    A move is short and has no control characters: games in C end a command at a NUL, and some
    never return from an empty one.

    >>> one_line(" 1  2\n 5 "), one_line("9" * 1000), one_line("look\0")
    ('1 2 5', '', '')
    """
    words = " ".join(text.split())
    return words if len(words) <= MAX_MOVE and words.isprintable() else ""


@contextmanager
def needing_word_lists(env_id: str, lists: str) -> Iterator[None]:
    """Explain how to install NLTK's word lists, if they are missing when a game is made.

    Raises:
        SettingError: if they are missing.
    """
    try:
        yield
    except LookupError as error:
        if type(error) is not LookupError:  # a KeyError or an IndexError has another cause
            raise
        raise SettingError(
            f"env.id {env_id} needs word lists of NLTK. Download them: "
            f"python -m nltk.downloader {lists}."
        ) from error


def safe_text(text: str) -> str:
    r"""Remove control characters except line breaks; a tab becomes four spaces.

    >>> safe_text("a\tb\r\n\x1b[1mc\n")
    'a    b\n[1mc'
    """
    text = text.replace("\t", "    ")
    kept = (c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept).strip("\n")
