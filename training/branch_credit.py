"""Credit rules of other methods that branch, from the returns of a tree's leaves. Numpy only.

All work on any tree, whatever sampler grew it. Tree-GRPO and TreePO credit trajectories, TreeRL and
SPO-tree turns; `tree_credit` (`advantages.py`) is TreeRL's without the weight.
"""

import numpy as np

from ..configs.schema import LossConfig
from ..sampling.trajectory import TrajectoryTree
from .credit import (
    EPS,
    EQUAL_RETURNS,
    Credit,
    are_equal,
    group_advantages,
    leaf_credit,
    mean_values,
    num_leaves_below,
    standard_deviation,
    turn_credit,
    values_above,
)


def tree_grpo_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each trajectory within its tree and among all trees of its puzzle.

    A_i = A_intra + A_inter (Tree-GRPO, arXiv:2509.21240): GRPO's advantage among the
    leaves that share the first turn, plus that among all leaves of the puzzle. A lone leaf has no
    A_intra, so independent rollouts get GRPO's credit.

    Args:
        tree: one group; the source's trees are the branches below its start.
        returns: of its leaves, shape (num_leaves,).
        cfg: `normalize_std`, `group_std` and `aggregate`.
    """
    advantages = group_advantages(returns, "mean", cfg.normalize_std, cfg.group_std)
    firsts = np.array([tree.path(leaf)[0] for leaf in tree.leaves()])
    for first in np.unique(firsts):
        own = firsts == first
        advantages[own] += group_advantages(returns[own], "mean", cfg.normalize_std, cfg.group_std)
    return leaf_credit(tree, advantages, cfg)


def tree_po_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each trajectory by how it compares with those that share more and more of it.

    A_i is the mean over the depths of R_i minus the mean return of the trajectories with the same
    turns up to there (TreePO, arXiv:2508.17445 Eq. 5: the plain mean, which its ablation found
    better than one weighted by group size). The whole group always counts; deeper groups do while
    they have another member. Paper: divided by the standard
    deviation over the whole batch. We: by that of the group's returns, if `normalize_std` is set,
    so that a tree's credit does not depend on the others.

    Args:
        tree: one group.
        returns: of its leaves, shape (num_leaves,).
        cfg: `normalize_std`, `group_std` and `aggregate`.
    """
    if are_equal(returns):
        return leaf_credit(tree, np.zeros(len(returns)), cfg)
    values, counts = mean_values(tree, returns), num_leaves_below(tree)
    advantages = np.zeros(len(returns))
    for place, leaf in enumerate(tree.leaves()):
        above = [node for node in tree.path(leaf) if counts[node] > 1]
        advantages[place] = np.mean([returns[place] - v for v in (returns.mean(), *values[above])])
    if cfg.normalize_std:
        advantages /= standard_deviation(returns, cfg.group_std) + EPS
    return leaf_credit(tree, advantages, cfg)


def tree_rl_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each turn once, by the mean return below it; turns with many leaves count less each.

    A(c) = [(V(c) - V(start)) + (V(c) - V(parent of c))] / sqrt(number of leaves at or below c)
    (TreeRL, arXiv:2506.11902), where V(.) is the mean over the leaves below of each
    return less the mean of all others, which is n / (n - 1) times its distance from the mean. The
    weight keeps a turn from being taught too often, as its trajectories all contain it. A turn is a
    unit here; there, it stands in each of its sampled trajectories. `normalize_std` divides by the
    standard deviation of the returns as well, which the source does not.

    Args:
        tree: one group.
        returns: of its leaves, shape (num_leaves,).
        cfg: `normalize_std`, `group_std` and `aggregate`.
    """
    is_taught = np.ones(len(tree), dtype=bool)
    if are_equal(returns):
        return turn_credit(tree, np.zeros(len(tree)), is_taught, cfg)
    num = len(returns)
    centred = (returns - returns.mean()) * num / (num - 1)
    values, counts = mean_values(tree, centred), num_leaves_below(tree)
    advantages = (2 * values - values_above(tree, values, 0.0)) / np.sqrt(counts)
    if cfg.normalize_std:
        advantages /= standard_deviation(returns, cfg.group_std) + EPS
    return turn_credit(tree, advantages, is_taught, cfg)


def spo_tree_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each turn once, by how much it changes the mean return.

    A(c) = V(c) - V(parent of c) (SPO-tree, arXiv:2505.23564), V(n) the mean of V over
    the children of n and a leaf's return at a leaf. Turns without an advantage are not taught and
    do not count, as there; nor does a turn without siblings, whose advantage is 0 by definition.
    With `normalize_std` the difference is divided by the standard deviation among its siblings.

    Args:
        tree: one group, whose siblings should be independent samples.
        returns: of its leaves, shape (num_leaves,).
        cfg: `normalize_std`, `group_std` and `aggregate`.
    """
    values = np.zeros(len(tree))
    values[tree.leaves()] = returns
    children = tree.children()
    for node in range(len(tree) - 1, -1, -1):
        if node in children:
            values[node] = values[children[node]].mean()
    advantages = np.zeros(len(tree))
    for siblings in children.values():
        advantages[siblings] = group_advantages(
            values[siblings], "mean", cfg.normalize_std, cfg.group_std
        )
    is_taught = np.abs(advantages) > EQUAL_RETURNS
    return turn_credit(tree, advantages, is_taught, cfg)
