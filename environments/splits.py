"""The puzzle seeds of each split. Splits never share a seed.

Training uses `training`, tuning uses `validation`, and reported figures come from `test`; the
bundled model was trained on `pretraining`.
"""

from ..configs.errors import SettingError
from .games.data_files import SPLITS

TRAINING_SEEDS_PER_RUN = 200_000
"""Number of puzzles before a run reaches those of the next run seed."""


def puzzle_seeds(split: str, count: int, start: int = 0) -> list[int]:
    """Return the seeds of `count` puzzles of a split, beginning with its puzzle `start`.

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
    """Return the puzzle seeds of one training step.

    No two steps of a run share a seed, and a run reaches the next run seed's puzzles only after
    `TRAINING_SEEDS_PER_RUN` of its own.
    """
    return puzzle_seeds("training", count, run_seed * TRAINING_SEEDS_PER_RUN + step * count)
