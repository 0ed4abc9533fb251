"""What a credit rule returns, and the arithmetic that credit rules share. Numpy only.

A turn that several trajectories share is stored and computed once. With per-trajectory weights w_i
and advantages A_i its clipped surrogate is, exactly and for any likelihood ratio r (the context,
hence r, is the same for all of them),

    sum_i w_i min(r A_i, clip(r) A_i) = S+ min(r, 1 + clip_high) + S- max(r, 1 - clip_low),

with S+ and S- the sums of w_i max(A_i, 0) and w_i min(A_i, 0). So a `Credit` holds both sums per
turn, not their net.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..configs.schema import LossConfig
from ..sampling.trajectory import ROOT, TrajectoryTree

EQUAL_RETURNS = 1e-9
"""Returns that are closer than this are equal, relative to the largest if that is above 1: sums of
the same rewards in another order differ by about 1e-16 of it."""

EPS = 1e-6
"""Added to the standard deviation of a group's returns."""


@dataclass(frozen=True)
class Credit:
    """What each turn of one tree is to be taught. Arrays have shape (num_turns,), float64."""

    positive: np.ndarray
    """Weighted sum of the positive advantages through the turn."""
    negative: np.ndarray
    """Weighted sum of the negative advantages through the turn, never above 0."""
    weight: np.ndarray
    """Sum of the weights, for entropy and KL; 0 where the turn is not trained."""
    denominator: float
    """This tree's part of the common denominator of a batch: the number of its units (trajectories
    or taught turns), or of their tokens. Paper: a mean over puzzles of means over the trajectories
    of each, 1 / (B G) in Eq. 1. We: all units of a step weigh alike, so a tree weighs as many as it
    has; the same where all trees have G. With equal shares a turn of a small tree, which is easy or
    hardly explored, weighs most, and `sesa` learnt less (docs/method.md)."""


def group_advantages(
    returns: np.ndarray,
    baseline: str = "mean",
    normalize_std: bool = True,
    kind: str = "population",
    eps: float = EPS,
) -> np.ndarray:
    """Credit each trajectory by how much better it did than its group.

    A_i = (R_i - b(R)) / (std(R) + eps), b = mean (GRPO, arXiv:2402.03300 section 4.1.2) or max
    (SESA Eq. 1 as printed; no advantage is ever positive then).

    Args:
        returns: episode returns of one group, shape (G,).
        baseline: "mean" or "max".
        normalize_std: whether to divide by the standard deviation.
        kind: of standard deviation, as of `standard_deviation`.
        eps: added to the standard deviation.

    Returns:
        Advantages, shape (G,). All zeros if the returns are equal: such a group has nothing to
        teach.

    Raises:
        ValueError: if `returns` is empty or `baseline` is unknown.

    >>> group_advantages(np.array([1.0, 0.0]), normalize_std=False).tolist()
    [0.5, -0.5]
    """
    returns = np.asarray(returns, dtype=np.float64)
    if returns.size == 0:
        raise ValueError("A group needs at least one return.")
    if baseline not in ("mean", "max"):
        raise ValueError(f"loss.baseline must be mean or max, got {baseline!r}.")
    if are_equal(returns):
        return np.zeros_like(returns)
    centred = returns - (returns.mean() if baseline == "mean" else returns.max())
    return centred / (standard_deviation(returns, kind) + eps) if normalize_std else centred


def standard_deviation(returns: np.ndarray, kind: str) -> float:
    """Standard deviation of at least two returns, shape (G,).

    Args:
        returns: episode returns of one group.
        kind: "population" divides the squares by G, "sample" by G - 1, as torch, and so RAGEN, verl
            and TRL do. At G = 16 it is 3 % larger, at G = 2 41 %, and advantages are as much
            smaller.

    >>> standard_deviation(np.array([1.0, -1.0]), "population")
    1.0
    """
    if kind not in ("population", "sample"):
        raise ValueError(f"loss.group_std must be population or sample, got {kind!r}.")
    return float(returns.std(ddof=kind == "sample"))


def mean_values(tree: TrajectoryTree, returns: np.ndarray) -> np.ndarray:
    """Mean return of the trajectories through each turn, (num_turns,), as in `tree_credit`."""
    return sum_below(tree, returns) / num_leaves_below(tree)


def num_leaves_below(tree: TrajectoryTree) -> np.ndarray:
    """Number of leaves at or below each turn, (num_turns,)."""
    return sum_below(tree, np.ones(len(tree.leaves())))


def values_above(tree: TrajectoryTree, values: np.ndarray, start: float) -> np.ndarray:
    """Value of the turn before each turn, (num_turns,); `start` before a first one."""
    return np.array([start if parent == ROOT else values[parent] for parent in tree.parents])


def are_equal(returns: np.ndarray) -> bool:
    """Whether the returns of a group, shape (G,), are equal up to rounding."""
    return bool(np.ptp(returns) < rounding(returns))


def rounding(returns: np.ndarray) -> float:
    """How much returns may differ by rounding alone."""
    return EQUAL_RETURNS * max(1.0, float(np.abs(returns).max()))


def sum_below(tree: TrajectoryTree, leaf_values: np.ndarray) -> np.ndarray:
    """Sum a value of the leaves, (num_leaves,), over those at or below each turn, (num_turns,)."""
    sums = np.zeros(len(tree))
    sums[tree.leaves()] = leaf_values
    for node in range(len(tree) - 1, -1, -1):
        if tree.parents[node] != ROOT:
            sums[tree.parents[node]] += sums[node]
    return sums


def leaf_credit(tree: TrajectoryTree, advantages: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit with the trajectory as the unit, from the advantages of the leaves, (num_leaves,)."""
    leaves = tree.leaves()
    lengths = np.maximum([tree.trajectory(leaf).num_response_tokens for leaf in leaves], 1)
    per_trajectory = cfg.aggregate == "trajectory"
    weights = 1.0 / lengths if per_trajectory else np.ones(len(leaves))
    return Credit(
        positive=sum_below(tree, weights * advantages.clip(min=0.0)),
        negative=sum_below(tree, weights * advantages.clip(max=0.0)),
        weight=sum_below(tree, weights),
        denominator=float(len(leaves) if per_trajectory else lengths.sum()),
    )


def path_credit(
    tree: TrajectoryTree, advantages: Sequence[Sequence[float] | np.ndarray], cfg: LossConfig
) -> Credit:
    """Credit with the trajectory as the unit, where an advantage may differ along a trajectory.

    Args:
        tree: one group.
        advantages: of the turns from the first one to the leaf, for every leaf in the order of
            `tree.leaves()`. A turn collects those of all trajectories through it.
        cfg: `aggregate`.
    """
    credit = leaf_credit(tree, np.zeros(len(advantages)), cfg)
    positive, negative = np.zeros((2, len(tree)))
    for leaf, along in zip(tree.leaves(), advantages, strict=True):
        path = tree.path(leaf)
        weight = 1.0
        if cfg.aggregate == "trajectory":
            weight /= max(tree.trajectory(leaf).num_response_tokens, 1)
        positive[path] += weight * np.maximum(along, 0.0)
        negative[path] += weight * np.minimum(along, 0.0)
    return replace(credit, positive=positive, negative=negative)


def turn_credit(
    tree: TrajectoryTree, advantages: np.ndarray, is_taught: np.ndarray, cfg: LossConfig
) -> Credit:
    """Credit with the turn as the unit: turns count alike ("trajectory") or tokens do ("token")."""
    lengths = np.maximum([len(turn.response_ids) for turn in tree.turns], 1)
    per_turn = cfg.aggregate == "trajectory"
    weight = np.where(is_taught, 1.0 / lengths if per_turn else 1.0, 0.0)
    return Credit(
        positive=weight * advantages.clip(min=0.0),
        negative=weight * advantages.clip(max=0.0),
        weight=weight,
        denominator=float(is_taught.sum() if per_turn else lengths[is_taught].sum()),
    )
