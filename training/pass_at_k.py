"""Advantages for the best of k trajectories (Pass@k training, arXiv:2508.10751). Numpy only."""

from math import comb

import numpy as np

SAME = 1e-9
"""Standard deviations below this are rounding."""


def pass_at_k_advantages(
    returns: np.ndarray, k: int, normalize_std: bool = True, eps: float = 1e-6
) -> np.ndarray:
    """Credit each trajectory by how much better the subsets with it do than subsets at large.

    All C(n, k) subsets of k trajectories are groups whose reward is the best return within.

    A_i = (mean of the rewards of the subsets with i - mean of all) / (std of all + eps)

    With returns of 0 and 1 the means are pass@k: A = (1 - p) / s for a success and
    A = (1 - p - C(n_neg - 1, k - 1) / C(n - 1, k - 1)) / s for a failure, with n_neg failures,
    p = 1 - C(n_neg, k) / C(n, k) and s = sqrt(p (1 - p)). We: the same counting for
    returns of any value, as penalties make them.

    Args:
        returns: episode returns of one group, shape (n,).
        k: size of the subsets, at least 1; 1 gives GRPO's advantages.
        normalize_std: whether to divide by the standard deviation.
        eps: added to the standard deviation.

    Returns:
        Advantages, shape (n,). All zeros if all subsets do equally well; so for k >= n.

    Raises:
        ValueError: if `returns` is empty or `k` is below 1.

    >>> pass_at_k_advantages(np.array([1.0, 0.0, 0.0, 0.0]), k=2).round(4).tolist()
    [1.0, -0.3333, -0.3333, -0.3333]
    """
    returns = np.asarray(returns, dtype=np.float64)
    if returns.size == 0:
        raise ValueError("A group needs at least one return.")
    if k < 1:
        raise ValueError(f"loss.pass_k must be at least 1, got {k}.")
    num = len(returns)
    if k >= num:
        return np.zeros(num)
    order = returns.argsort()
    ascending = returns[order]
    # The j-th worst is the best of those subsets that take their other k - 1 from the j below it.
    shares = np.array([comb(j, k - 1) / comb(num, k) for j in range(num)])
    mean = shares @ ascending
    std = np.sqrt(shares @ (ascending - mean) ** 2)
    if std < SAME:
        return np.zeros(num)
    # Of the subsets with i it is the best where all others are below it; a better j is, where the
    # other k - 2 are among the j - 1 that are below j and not i.
    num_subsets = comb(num - 1, k - 1)
    as_best = [comb(i, k - 1) / num_subsets for i in range(num)]
    under = [comb(j - 1, k - 2) / num_subsets if j > 0 and k > 1 else 0.0 for j in range(num)]
    from_here = np.cumsum((under * ascending)[::-1])[::-1]  # sums over j >= i
    gains = as_best * ascending + np.append(from_here[1:], 0.0) - mean
    advantages = np.empty(num)
    advantages[order] = gains
    return advantages / (std + eps) if normalize_std else advantages
