"""Credit by comparing what trajectories of a group did in the same situation. Numpy only.

GiGPO (arXiv:2505.10978) and HGPO (arXiv:2602.22817) sample independent rollouts and look afterwards
where they met: turns with the same observation, the anchor state, form a group of their own, in
which the returns from there on are compared. No further call is needed. Both rules work on any
tree; a turn that several trajectories share is met once per trajectory.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from ..configs.schema import LossConfig
from ..sampling.trajectory import TrajectoryTree
from .credit import Credit, group_advantages, path_credit

STEP_WEIGHT = 1.0
"""w, weight of the step advantages beside the episode's (arXiv:2505.10978)."""
HISTORY_LENGTH = 2
"""K of HGPO: earlier observations that a situation includes; the source has 2 and 4."""
LENGTH_POWER = 1.0
"""alpha of HGPO: a situation of k observations weighs (k + 1)^alpha."""


def gigpo_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each turn by its episode and by the other turns with its observation.

    A = A_episode + w A_step (GiGPO, arXiv:2505.10978 Eq. 8), w = 1. A_episode is GRPO's advantage
    of the trajectory; A_step compares the discounted returns from the turn on (Eq. 5) of all turns
    of the group with the same observation (Eq. 6, 7), and is 0 where no other turn has it. Both are
    divided by the standard deviation of what they compare if `normalize_std` is set.

    Args:
        tree: one group.
        returns: of its leaves, shape (num_leaves,), for the episode advantages.
        cfg: `discount`, `format_penalty`, `normalize_std`, `group_std` and `aggregate`.
    """
    episode = group_advantages(returns, "mean", cfg.normalize_std, cfg.group_std)
    steps = step_advantages(*_meetings(tree, cfg), cfg, history_length=0)
    pairs = zip(episode, steps, strict=True)
    return path_credit(tree, [whole + STEP_WEIGHT * step for whole, step in pairs], cfg)


def hgpo_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each turn by the other turns with its last 1, 2 and 3 observations.

    HGPO (arXiv:2602.22817): an observation alone mixes turns whose prompts differ in their history;
    a longer history compares fewer, more similar turns. The advantages of all lengths are averaged
    with weights that grow with the length. As in its released scripts, the episode's advantage has
    no part in it; `returns` are only what the filter sees.

    Args:
        tree: one group.
        returns: unused.
        cfg: as of `gigpo_credit`.
    """
    return path_credit(tree, step_advantages(*_meetings(tree, cfg), cfg, HISTORY_LENGTH), cfg)


def step_advantages(
    observations: Sequence[Sequence[Hashable]],
    returns_to_go: Sequence[np.ndarray],
    cfg: LossConfig,
    history_length: int,
) -> list[np.ndarray]:
    """Compare every turn with those of its group that have the same latest observations.

    A(t) = sum_k w_k A_k(t) / sum_k w_k over k = 1, ..., K + 1, w_k = (k + 1)^alpha, with A_k the
    advantage among the turns with the same last k observations. As in HGPO's code, lengths whose
    A_k is 0 are left out, as where no other turn has these observations.

    Args:
        observations: of the turns of every trajectory, in order.
        returns_to_go: of the same turns, one array per trajectory.
        cfg: `normalize_std` and `group_std`.
        history_length: K; 0 compares turns with the same observation, as GiGPO does.

    Returns:
        Advantages of the turns of every trajectory.
    """
    sums = [np.zeros(len(turns)) for turns in observations]
    weights = [np.zeros(len(turns)) for turns in observations]
    for length in range(1, history_length + 2):
        groups: dict[tuple[Hashable, ...], list[tuple[int, int]]] = {}
        for row, turns in enumerate(observations):
            for end in range(length, len(turns) + 1):
                groups.setdefault(tuple(turns[end - length : end]), []).append((row, end - 1))
        for members in groups.values():
            values = np.array([returns_to_go[row][turn] for row, turn in members])
            advantages = group_advantages(values, "mean", cfg.normalize_std, cfg.group_std)
            for (row, turn), advantage in zip(members, advantages, strict=True):
                weight = (length + 1) ** LENGTH_POWER if advantage else 0.0
                sums[row][turn] += weight * advantage
                weights[row][turn] += weight
    pairs = zip(sums, weights, strict=True)
    return [total / np.where(weight > 0, weight, 1.0) for total, weight in pairs]


def _meetings(
    tree: TrajectoryTree, cfg: LossConfig
) -> tuple[list[list[Hashable]], list[np.ndarray]]:
    """The observations and the discounted returns-to-go of every trajectory.

    An unreadable response costs `format_penalty` at its own turn alone, as in the source's code.
    """
    observations: list[list[Hashable]] = []
    returns_to_go: list[np.ndarray] = []
    for trajectory in tree.trajectories():
        values, value = np.zeros(len(trajectory.turns)), 0.0
        for place in range(len(trajectory.turns) - 1, -1, -1):
            turn = trajectory.turns[place]
            value = turn.reward + cfg.discount * value
            values[place] = value - cfg.format_penalty * (turn.action is None)
        observations.append([turn.observation for turn in trajectory.turns])
        returns_to_go.append(values)
    return observations, returns_to_go
