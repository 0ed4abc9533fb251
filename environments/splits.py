"""Which puzzles are for what. The splits never share a seed.

Training and tuning see `training` and `validation`; `test` is for the figures that are reported;
the bundled model was made on `pretraining`.
"""

from ..configs.errors import SettingError
from .games.data_files import SPLITS

TRAINING_SEEDS_PER_RUN = 200_000
"""Puzzles of a run before it meets those of the next run's seed."""


def puzzle_seeds(split: str, count: int, start: int = 0) -> list[int]:
    """The seeds of `count` puzzles of a split, from its puzzle `start` on.

    Raises:
        SettingError: if the split does not hold that many.
    """
    seeds = SPLITS[split][start : start + count]
    if len(seeds) < count:
        raise SettingError(
            f"episodes must be at most {len(SPLITS[split]) - start} of the {split} puzzles, "
            f"got {count}."
        )
    return list(seeds)


def training_seeds(run_seed: int, step: int, count: int) -> list[int]:
    """The seeds of the puzzles of one training step.

    Every step has its own; those of a run meet the next run seed's after `TRAINING_SEEDS_PER_RUN`.
    """
    return puzzle_seeds("training", count, run_seed * TRAINING_SEEDS_PER_RUN + step * count)
