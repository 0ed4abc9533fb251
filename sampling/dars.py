"""More rollouts for puzzles that few rollouts solve: DARS."""

import math
from collections.abc import Sequence
from functools import partial

from ..configs.schema import SamplingConfig
from .forking import ForkedTree, sample_forked
from .player import Player
from .trajectory import ROOT, Task, TrajectoryTree

MAX_FACTOR = {False: 4, True: 8}
"""N_max / N, by whether hard puzzles weigh more than those of medium difficulty."""


async def sample_dars(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig, weighs_hard: bool = False
) -> list[TrajectoryTree]:
    """Play U independent rollouts of every puzzle, then more of those that fewer than half solved.

    DARS (arXiv:2508.13755): GRPO's advantages of a group add up to less, in absolute value, the
    further its success rate is from a half; more rollouts of hard puzzles make up for it. Here
    hard puzzles have larger trees, and as all trajectories of a step weigh alike, they weigh more.
    Paper: N = 8. We: N = U.

    Args:
        tasks: the puzzles.
        player: samples responses and plays them.
        cfg: U and `fork_noise`.
        weighs_hard: the variant in which hard puzzles weigh more (`dars_hw`).
    """
    return await sample_forked(tasks, player, cfg, partial(_grow, weighs_hard=weighs_hard))


async def _grow(forked: ForkedTree, player: Player, cfg: SamplingConfig, weighs_hard: bool) -> None:
    await forked.play([ROOT] * cfg.max_trajectories, player, cfg, is_last=True)
    tree = forked.tree
    num_wins = sum(tree.turns[leaf].success for leaf in tree.leaves())
    extra = extra_rollouts(num_wins, cfg.max_trajectories, weighs_hard)
    await forked.play([ROOT] * extra, player, cfg, is_last=True)


def extra_rollouts(num_wins: int, num_rollouts: int, weighs_hard: bool = False) -> int:
    """Count the further rollouts of a puzzle.

    min(ceil((A - N S(a)) / S(a)), N_max - N) for a success rate a below 1/2, else 0, with
    S(a) = 2 sqrt(a (1 - a)) the sum of GRPO's |advantages| per rollout, A = N S(1/2) = N, or with
    `weighs_hard` A = 2 (1 - a) N; a is at least 1 / (2 N).

    Args:
        num_wins: successes among the first rollouts.
        num_rollouts: N of them.
        weighs_hard: see `sample_dars`; N_max is 8 N then, else 4 N.

    >>> extra_rollouts(num_wins=2, num_rollouts=8)
    2
    """
    rate = max(num_wins, 0.5) / num_rollouts
    if num_wins * 2 >= num_rollouts:
        return 0
    size = 2 * math.sqrt(rate * (1 - rate))
    wanted = num_rollouts * (2 * (1 - rate) if weighs_hard else 1.0)
    missing = math.ceil((wanted - num_rollouts * size) / size - 1e-9)
    return min(max(missing, 0), (MAX_FACTOR[weighs_hard] - 1) * num_rollouts)
