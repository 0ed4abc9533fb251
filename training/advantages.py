"""What each turn of a tree is to be taught. Numpy only, one tree at a time.

A turn that several trajectories share is stored and computed once. With per-trajectory weights w_i
and advantages A_i its clipped surrogate is, exactly and for any likelihood ratio r (the context,
hence r, is the same for all of them),

    sum_i w_i min(r A_i, clip(r) A_i) = S+ min(r, 1 + clip_high) + S- max(r, 1 - clip_low),

with S+ and S- the sums of w_i max(A_i, 0) and w_i min(A_i, 0). So a `Credit` holds both sums per
turn, not their net.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..configs.schema import LossConfig
from ..sampling.trajectory import ROOT, TrajectoryTree
from .action_values import action_advantages
from .pass_at_k import pass_at_k_advantages

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
    if _are_equal(returns):
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
    return not _are_equal(returns)


def filter_groups(returns: Sequence[np.ndarray], ratio: float) -> list[int]:
    """Choose the groups whose returns spread most (the rollout filter of RAGEN, arXiv:2504.20073).

    Args:
        returns: of the groups of a step, one array of shape (num_leaves,) each.
        ratio: share of the groups to keep, in (0, 1]; at least one group is kept.

    Returns:
        Ascending indices of the chosen groups; of equal ones the earlier are chosen.
    """
    # Groups with the same returns in another order may differ in the last bit.
    unit = max((_rounding(group) for group in returns), default=EQUAL_RETURNS)
    spreads = [round(group.std() / unit) for group in returns]
    ranking = sorted(range(len(returns)), key=lambda index: -spreads[index])
    return sorted(ranking[: max(1, round(ratio * len(returns)))])


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
    return _leaf_credit(tree, advantages, cfg)


def pass_at_k_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each leaf by what it adds to the best of `pass_k`, else as `trajectory_credit`.

    Pass@k training (arXiv:2508.10751): where successes are common in a group they teach little,
    a lone one much. A group of `pass_k` leaves or fewer teaches nothing.
    """
    return _leaf_credit(tree, pass_at_k_advantages(returns, cfg.pass_k, cfg.normalize_std), cfg)


def tree_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each turn once, by the mean return below it.

    A(c) = [(V(c) - V(start)) + (V(c) - V(parent of c))] / (std(R) + eps), with V(.) the mean return
    of the leaves below. Paper: a turn is credited through its trajectories. We: an alternative,
    because a successful trajectory of a forced tree carries useless turns that would all be
    rewarded. The unit is a turn.
    """
    if _are_equal(returns):
        return _turn_credit(tree, np.zeros(len(tree)), np.ones(len(tree), dtype=bool), cfg)
    values = mean_values(tree, returns)
    start = returns.mean()
    above = np.array([start if parent == ROOT else values[parent] for parent in tree.parents])
    advantages = (values - start) + (values - above)
    if cfg.normalize_std:
        advantages /= standard_deviation(returns, cfg.group_std) + EPS
    return _turn_credit(tree, advantages, np.ones(len(tree), dtype=bool), cfg)


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
    return _turn_credit(tree, advantages, is_taught, cfg)


def expected_credit(tree: TrajectoryTree, returns: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit each action once, by what it is worth on average: for noisy worlds.

    Needs merged states. A = `action_advantages`; a decision whose proposals are all worth the same
    teaches nothing. The unit is a taught action.
    """
    advantages = action_advantages(tree, cfg.discount, cfg.format_penalty)
    is_taught = np.abs(advantages) > EQUAL_RETURNS  # False for NaN
    return _turn_credit(tree, np.where(is_taught, advantages, 0.0), is_taught, cfg)


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


def mean_values(tree: TrajectoryTree, returns: np.ndarray) -> np.ndarray:
    """Mean return of the trajectories through each turn, (num_turns,), as in `tree_credit`."""
    return _sum_below(tree, returns) / _sum_below(tree, np.ones(len(returns)))


CreditRule = Callable[[TrajectoryTree, np.ndarray, LossConfig], Credit]
"""From a group and the returns of its leaves, shape (num_leaves,), to what its turns are taught."""
ADVANTAGES: dict[str, CreditRule] = {
    "trajectory": trajectory_credit,
    "tree": tree_credit,
    "best": best_credit,
    "expected": expected_credit,
    "pass_at_k": pass_at_k_credit,
}
"""Credit rules by the name that `loss.credit` gives them."""


def _are_equal(returns: np.ndarray) -> bool:
    return bool(np.ptp(returns) < _rounding(returns))


def _rounding(returns: np.ndarray) -> float:
    """How much returns may differ by rounding alone."""
    return EQUAL_RETURNS * max(1.0, float(np.abs(returns).max()))


def _sum_below(tree: TrajectoryTree, leaf_values: np.ndarray) -> np.ndarray:
    """Sum a value of the leaves, (num_leaves,), over those at or below each turn, (num_turns,)."""
    sums = np.zeros(len(tree))
    sums[tree.leaves()] = leaf_values
    for node in range(len(tree) - 1, -1, -1):
        if tree.parents[node] != ROOT:
            sums[tree.parents[node]] += sums[node]
    return sums


def _leaf_credit(tree: TrajectoryTree, advantages: np.ndarray, cfg: LossConfig) -> Credit:
    """Credit with the trajectory as the unit, from the advantages of the leaves, (num_leaves,)."""
    leaves = tree.leaves()
    lengths = np.maximum([tree.trajectory(leaf).num_response_tokens for leaf in leaves], 1)
    per_trajectory = cfg.aggregate == "trajectory"
    weights = 1.0 / lengths if per_trajectory else np.ones(len(leaves))
    return Credit(
        positive=_sum_below(tree, weights * advantages.clip(min=0.0)),
        negative=_sum_below(tree, weights * advantages.clip(max=0.0)),
        weight=_sum_below(tree, weights),
        denominator=float(len(leaves) if per_trajectory else lengths.sum()),
    )


def _turn_credit(
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
