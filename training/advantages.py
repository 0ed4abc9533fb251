"""What each turn of a tree is to be taught: returns, group filters and the credit rules.

Numpy only, one tree at a time. What rules share is in `credit.py`; the rules of the literature's
rivals are in modules of their own (docs/rivals.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..configs.schema import LossConfig
from ..sampling.trajectory import ROOT, TrajectoryTree
from .action_values import action_advantages
from .anchor_credit import gigpo_credit, hgpo_credit
from .branch_credit import (
    spo_tree_credit,
    tree_grpo_credit,
    tree_po_credit,
    tree_rl_credit,
)
from .credit import (
    EPS,
    EQUAL_RETURNS,
    Credit,
    are_equal,
    group_advantages,
    leaf_credit,
    mean_values,
    rounding,
    standard_deviation,
    turn_credit,
    values_above,
)
from .max_rl import max_rl_advantages
from .pass_at_k import pass_at_k_advantages

FILTER_SLACK = 0.01
"""What the groups that `filter_top_p` keeps may miss of their share (RAGEN-2's code)."""


def punish_overlong(tree: TrajectoryTree, buffer: int, max_tokens: int) -> TrajectoryTree:
    """Lower the rewards of responses that nearly or wholly fill what they may take.

    The soft overlong punishment of DAPO (arXiv:2503.14476 section 3.4): a response of n tokens
    loses min(1, max(0, n - (max_tokens - buffer)) / buffer), nothing up to max_tokens - buffer and
    1 at max_tokens.

    Args:
        tree: one group; it is left as it is.
        buffer: length of the slope, in tokens; 0 for no punishment.
        max_tokens: the longest response, in tokens.

    Returns:
        The same tree with other rewards.
    """
    if buffer == 0:
        return tree
    turns = []
    for turn in tree.turns:
        excess = max(0, len(turn.response_ids) - (max_tokens - buffer))
        turns.append(replace(turn, reward=turn.reward - min(1.0, excess / buffer)))
    return replace(tree, turns=turns)


def leaf_returns(tree: TrajectoryTree, format_penalty: float) -> np.ndarray:
    """Return the return of every trajectory, less a penalty for each turn that could not be read.

    A trajectory that ended because its last response could not be read, or that never played
    anything, has at most the lowest return of the others: where rewards are negative, saying
    nothing would be the best answer.

    Args:
        tree: one group.
        format_penalty: subtracted per turn with `action` None.

    Returns:
        Shape (num_leaves,), in the order of `tree.leaves()`.

    Raises:
        ValueError: if a return is not finite. It would make every weight of the policy NaN.
    """
    totals, has_played = np.zeros(len(tree)), np.zeros(len(tree), dtype=bool)
    for node, (parent, turn) in enumerate(zip(tree.parents, tree.turns, strict=True)):
        above = 0.0 if parent == ROOT else totals[parent]
        totals[node] = above + turn.reward - format_penalty * (turn.action is None)
        has_played[node] = turn.action is not None or (parent != ROOT and has_played[parent])
    leaves = tree.leaves()
    returns = totals[leaves]
    if not np.isfinite(returns).all():
        task = tree.task
        raise ValueError(f"{task.env_id}, seed {task.seed}: returns must be finite, got {returns}.")
    is_merged = np.array([tree.turns[leaf].is_merged for leaf in leaves], dtype=bool)
    is_unread = np.array([tree.turns[leaf].action is None for leaf in leaves], dtype=bool)
    is_mute = is_unread & (is_merged | ~has_played[leaves])
    if is_mute.any() and not is_mute.all():
        lowest = returns[~is_mute].min() - format_penalty
        returns[is_mute] = returns[is_mute].clip(max=lowest)
    return returns


def has_signal(returns: np.ndarray) -> bool:
    """Return whether the trajectories of a group differ in their return.

    Args:
        returns: of `leaf_returns`, shape (num_leaves,), before `punish_overlong`: DAPO, too, asks
            for right and wrong answers in one group, whatever their lengths.
    """
    return not are_equal(returns)


def filter_groups(returns: Sequence[np.ndarray], ratio: float) -> list[int]:
    """Choose the groups whose returns spread most (the rollout filter of RAGEN, arXiv:2504.20073).

    Args:
        returns: of the groups of a step, one array of shape (num_leaves,) each.
        ratio: share of the groups to keep, in (0, 1]; at least one group is kept.

    Returns:
        Ascending indices of the chosen groups; of equal ones the earlier are chosen.
    """
    # Groups with the same returns in another order may differ in the last bit.
    unit = max((rounding(group) for group in returns), default=EQUAL_RETURNS)
    spreads = [round(group.std() / unit) for group in returns]
    ranking = sorted(range(len(returns)), key=lambda index: -spreads[index])
    return sorted(ranking[: max(1, round(ratio * len(returns)))])


def filter_top_p(returns: Sequence[np.ndarray], top_p: float, kind: str = "sample") -> list[int]:
    """Choose the fewest groups that hold most of the spread of a step (RAGEN-2's SNR filter).

    arXiv:2604.06268: groups of returns that spread little are noise. With s_i the standard
    deviation of group i, the groups of largest s are taken until their sum is at least
    top_p sum_i s_i - .01; groups without spread never are. So a step with nothing but noise, of a
    total below .01 / top_p, teaches nothing.

    Args:
        returns: of the groups of a step, one array of shape (num_leaves,) each.
        top_p: share of the total to hold, in (0, 1).
        kind: of standard deviation, as of `standard_deviation`.

    Returns:
        Ascending indices of the chosen groups, maybe none; of equal ones the earlier are chosen.

    >>> filter_top_p([np.array([0.0, 1.0]), np.zeros(2), np.array([0.0, 0.1])], 0.9)
    [0]
    """
    spreads = np.array([0.0 if are_equal(r) else standard_deviation(r, kind) for r in returns])
    threshold, held, chosen = top_p * spreads.sum() - FILTER_SLACK, 0.0, []
    for index in sorted(range(len(spreads)), key=lambda index: -round(spreads[index], 9)):
        if held >= threshold or spreads[index] == 0:
            break
        held += spreads[index]
        chosen.append(index)
    return sorted(chosen)


def choose_groups(returns: Sequence[np.ndarray], cfg: LossConfig) -> list[int]:
    """Choose the groups to learn from, by `loss.filter_top_p` or `loss.filter_ratio`."""
    if cfg.filter_top_p:
        return filter_top_p(returns, cfg.filter_top_p, cfg.group_std)
    return filter_groups(returns, cfg.filter_ratio)


def drop_if_flat(credit: Credit) -> Credit:
    """Train nothing of a group whose turns all have an advantage of 0, as with equal returns.

    Such a group would only carry the entropy bonus and the KL penalty. Its denominator stays, so
    what the other groups are taught is the same to the bit.
    """
    if credit.positive.any() or credit.negative.any():
        return credit
    return replace(credit, weight=np.zeros_like(credit.weight))


def trajectory_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """GRPO over the leaves: a turn collects the advantages of all trajectories through it.

    SESA, section 3.1. A trajectory is the unit. With `aggregate` "trajectory" each token of
    trajectory i weighs 1/|y_i| and the denominator is the number of trajectories (Eq. 1, but for
    trees of unequal size: `Credit.denominator`); with "token" each weighs 1 and the denominator
    counts the tokens of all trajectories, shared ones once per trajectory (DAPO, arXiv:2503.14476).
    """
    advantages = group_advantages(returns, cfg.baseline, cfg.normalize_std, cfg.group_std)
    return leaf_credit(tree, advantages, cfg)


def pass_at_k_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each leaf by what it adds to the best of `pass_k`, else as `trajectory_credit`.

    Pass@k training (arXiv:2508.10751): where successes are common in a group they teach little,
    a lone one much. A group of `pass_k` leaves or fewer teaches nothing.
    """
    return leaf_credit(tree, pass_at_k_advantages(returns, cfg.pass_k, cfg.normalize_std), cfg)


def max_rl_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each leaf by `max_rl_advantages` of what won, else as `trajectory_credit`.

    MaxRL (arXiv:2602.02710) is for rewards of 0 and 1, so a leaf counts as won or not, whatever
    `returns` say.
    """
    wins = np.array([tree.turns[leaf].success for leaf in tree.leaves()], dtype=np.float64)
    return leaf_credit(tree, max_rl_advantages(wins), cfg)


def tree_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each turn once, by the mean return below it.

    A(c) = [(V(c) - V(start)) + (V(c) - V(parent of c))] / (std(R) + eps), with V(.) the mean return
    of the leaves below: TreeRL's (arXiv:2506.11902) without its weight by the number of leaves
    (`tree_rl_credit`). Paper: a turn is credited through its trajectories. We: an alternative,
    because a successful trajectory of a forced tree carries useless turns that would all be
    rewarded. The unit is a turn.
    """
    if are_equal(returns):
        return turn_credit(tree, np.zeros(len(tree)), np.ones(len(tree), dtype=bool), cfg)
    values = mean_values(tree, returns)
    start = returns.mean()
    advantages = (values - start) + (values - values_above(tree, values, start))
    if cfg.normalize_std:
        advantages /= standard_deviation(returns, cfg.group_std) + EPS
    return turn_credit(tree, advantages, np.ones(len(tree), dtype=bool), cfg)


def best_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each turn once, by the shortest success below it.

    Only for deterministic worlds: luck is no merit. V(n) = discount^k, with k the turns from the
    start to the nearest success at or below n; 0 if there is none. A turn whose state already stood
    in the tree has no value: else detours and loops would be credited; one without a readable
    action has -`format_penalty`. A(c) = 2 (V(c) - mean of V over c and its siblings); A(c) = V(c)
    for an only child. Decisions whose children all have V = 0 teach nothing. The unit is a taught
    turn.
    """
    values = best_values(tree, cfg.discount)
    values -= cfg.format_penalty * np.array([turn.action is None for turn in tree.turns])
    advantages = np.zeros(len(tree))
    is_taught = np.zeros(len(tree), dtype=bool)
    for siblings in tree.children().values():
        value = values[siblings]
        advantage = 2 * (value - value.mean()) if len(siblings) > 1 else value
        if value.max() > 0 or advantage.any():
            is_taught[siblings] = True
            advantages[siblings] = advantage
    return turn_credit(tree, advantages, is_taught, cfg)


def expected_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each action once, by what it is worth on average: for noisy worlds.

    Needs merged states. A = `action_advantages`; a decision whose proposals are all worth the same
    teaches nothing. The unit is a taught action.
    """
    advantages = action_advantages(tree, cfg.discount, cfg.format_penalty)
    is_taught = np.abs(advantages) > EQUAL_RETURNS  # False for NaN
    return turn_credit(tree, np.where(is_taught, advantages, 0.0), is_taught, cfg)


def best_values(tree: TrajectoryTree, discount: float) -> np.ndarray:
    """Value of each turn for `best_credit`, (num_turns,)."""
    num_turns = np.ones(len(tree), dtype=int)  # from the start to the turn, itself included
    for node, parent in enumerate(tree.parents):
        num_turns[node] += 0 if parent == ROOT else num_turns[parent]
    wins = np.array([turn.success and not turn.is_merged for turn in tree.turns])
    values = np.where(wins, float(discount) ** num_turns, 0.0)
    for node in range(len(tree) - 1, -1, -1):
        parent = tree.parents[node]
        if parent != ROOT:
            values[parent] = max(values[parent], values[node])
    return values


CreditRule = Callable[[TrajectoryTree, np.ndarray, LossConfig], Credit]
"""From a group and the returns of its leaves, shape (num_leaves,), to what its turns are taught."""
ADVANTAGES: dict[str, CreditRule] = {
    "trajectory": trajectory_credit,
    "tree": tree_credit,
    "best": best_credit,
    "expected": expected_credit,
    "pass_at_k": pass_at_k_credit,
    "gigpo": gigpo_credit,
    "hgpo": hgpo_credit,
    "tree_grpo": tree_grpo_credit,
    "tree_po": tree_po_credit,
    "tree_rl": tree_rl_credit,
    "spo_tree": spo_tree_credit,
    "max_rl": max_rl_credit,
}
"""Credit rules by the name that `loss.credit` gives them."""
