"""Finds puzzles whose content belongs to their split, so that held-out puzzles are held out.

Different seeds may give equal puzzles. So a puzzle belongs to a split by a hash of its content: one
half to training and pretraining, a quarter each to validation and test. A seed of a split that
gives a puzzle of another one is replaced by the next of its substitutes that does not: the result
is a plain seed, with which `env.reset(seed=...)` gives the puzzle. Nothing is stored.

The content is what `puzzle_content(seed)` of the environment returns, or else the first
observation. Puzzles of data files have none: their rows are dealt to the splits by their content
(`deal_rows` in `data_files.py`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import gymnasium

from ..configs.errors import SettingError
from .adapters.guard import EnvError, close_env
from .games.data_files import split_of
from .text_env import Content, is_guarded, puzzle_content
from .workers.pool import WorkerPool

SHARES = {"training": range(128), "validation": range(128, 192), "test": range(192, 256)}
"""The first bytes of the hashes of each split's puzzles; pretraining has those of training."""
STRIDE = 2**22 - 3
"""Difference between a seed and its next substitute: a prime above every seed that is not for
training, so that the substitutes of two such seeds differ."""
NUM_SEEDS = 2**31
MAX_TRIES = 2000
"""Seeds tried for one puzzle before a game is said to be too small."""
MAX_RESETS = 200
"""Resets tried for one puzzle of an environment without `puzzle_content`."""
NUM_ALIKE = 32
"""Equal first observations after which they are taken not to tell puzzles apart."""

log = logging.getLogger(__name__)


def share_of(content: Content) -> str:
    """Return the split that a puzzle belongs to: "training" (pretraining too), or another.

    >>> share_of("P_OG"), share_of(b"P_OG"), share_of("OP_G")
    ('training', 'training', 'test')
    """
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    [byte] = blake2b(data, digest_size=1).digest()
    return next(split for split, bytes_of in SHARES.items() if byte in bytes_of)


def wanted_share(seed: int) -> str:
    """Return the key in `SHARES` of the split that a seed is for."""
    split = split_of(seed)
    return "training" if split == "pretraining" else split


def substitutes(seed: int, count: int) -> Iterator[int]:
    """Yield a seed, and then others to take in its place."""
    return ((seed + number * STRIDE) % NUM_SEEDS for number in range(count))


class TooFewPuzzles(Exception):
    """No seed that was tried gives a puzzle of the split."""


def find_seed(
    seed: int, read: Callable[[int], Content | None], max_tries: int = MAX_TRIES, num_alike: int = 0
) -> int:
    """Find the seed of a puzzle whose content belongs to the split of `seed`.

    Args:
        seed: a seed of the split (`SPLITS` in `data_files.py`).
        read: returns the content of a seed's puzzle; None if content is not to decide.
        max_tries: most seeds to try.
        num_alike: number of equal contents after which to give up; 0 for never.

    Returns:
        `seed` itself, or the first of its substitutes that does.

    Raises:
        TooFewPuzzles: if none of them does.
    """
    wanted, seen = wanted_share(seed), set[Content]()
    for number, candidate in enumerate(substitutes(seed, max_tries), 1):
        content = read(candidate)
        if content is None or share_of(content) == wanted:
            return candidate
        if num_alike and len(seen) < 2:
            seen.add(content)
            if number == num_alike and len(seen) == 1:
                break
    raise TooFewPuzzles


class PuzzleFinder:
    """Finds the puzzles of each split in one environment; what was found is remembered.

    Args:
        make: builds a fresh environment.
        pool: the worker processes in which it lives; None if it lives in this one.
    """

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]], pool: WorkerPool | None = None):
        self.make, self.pool = make, pool
        self._game: gymnasium.Env[Any, Any] | None = None
        self._found: dict[int, int] = {}
        self._by_seed: set[str] = set()
        """Splits that first observations cannot tell apart."""

    def find(self, seeds: Sequence[int]) -> list[int]:
        """Return the seeds of the puzzles to play in place of `seeds`.

        Raises:
            SettingError: if a game has too few puzzles for a split to have any.
        """
        missing = [seed for seed in seeds if seed not in self._found]
        found = dict(zip(missing, self._search(missing), strict=True))
        self._found |= {a: b for a, b in found.items() if split_of(a) != "training"}
        return [found[seed] if seed in found else self._found[seed] for seed in seeds]

    def _search(self, seeds: Sequence[int]) -> list[int]:
        if self.pool is not None:
            waiting = [
                self.pool.submit(lambda seed=seed: self._find(_Reader(self.make), seed))
                for seed in seeds
            ]
            return [future.result() for future in waiting]
        if not seeds:
            return []
        reader = _Reader(self.make, self._game)
        try:
            return [self._find(reader, seed) for seed in seeds]
        finally:
            self._game = reader.release()

    def _find(self, reader: "_Reader", seed: int) -> int:
        split = split_of(seed)
        if split in self._by_seed:
            return seed
        try:
            has_content = reader.has_content()
            if has_content:
                return find_seed(seed, reader.content)
            return find_seed(seed, reader.first_observation, MAX_RESETS, NUM_ALIKE)
        except EnvError:  # opening the puzzle says so
            reader.discard()
            return seed
        except TooFewPuzzles:
            if has_content:
                raise SettingError(
                    f"env.options leave {reader.name} too few different puzzles: none of "
                    f"{MAX_TRIES} seeds gives one of the {split} split. Set options with more "
                    "puzzles, such as a larger size."
                ) from None
        if split not in self._by_seed:
            self._by_seed.add(split)
            log.warning(
                f"Warning: the first observations of {reader.name} do not tell its puzzles apart, "
                f"so those of the {split} split differ by seed only and may be training puzzles. "
                "Give it a method puzzle_content(self, seed), which may return None if it has only "
                "one puzzle."
            )
        return seed


class _Reader:
    """Reads contents from one instance of an environment, which is made when it is needed.

    Args:
        make: builds it.
        env: an instance that is there already.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        env: gymnasium.Env[Any, Any] | None = None,
    ):
        self.make, self.env = make, env

    @property
    def name(self) -> str:
        """The environment, for messages."""
        env = self.live()
        return str(env) if is_guarded(env) or env.spec is None else env.spec.id

    def live(self) -> gymnasium.Env[Any, Any]:
        """The instance."""
        if self.env is None:
            self.env = self.make()
        return self.env

    def has_content(self) -> bool:
        """Whether the environment says what its puzzles are."""
        return puzzle_content(self.live()) is not None

    def content(self, seed: int) -> Content | None:
        """What the environment says of the puzzle of a seed."""
        read = puzzle_content(self.live())
        return None if read is None else read(seed)

    def first_observation(self, seed: int) -> str:
        """What a player sees first in the puzzle of a seed."""
        return str(self.live().reset(seed=seed)[0])

    def discard(self) -> None:
        """Close the instance, which has failed."""
        if self.env is not None:
            close_env(self.env)
        self.env = None

    def release(self) -> gymnasium.Env[Any, Any] | None:
        """Close the instance; one that needs no closing is returned instead."""
        if self.env is not None and is_guarded(self.env):
            self.discard()
        return self.env
