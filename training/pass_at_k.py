"""pass@k, and advantages for the best of k trajectories. Numpy only."""

from math import comb

import numpy as np

SAME = 1e-9
"""Standard deviations below this are rounding errors."""


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Estimate without bias the probability that at least one of k samples is correct.

    1 - C(n - c, k) / C(n, k) = 1 - prod_{i = n - c + 1}^{n} (1 - k / i), the mean over all subsets
    of k of the n samples (arXiv:2107.03374 Eq. 1; the product neither overflows nor cancels).

    Args:
        num_samples: n, samples of one puzzle.
        num_correct: c, how many of them are correct, from 0 to n.
        k: size of the subset, from 1 to n.

    Returns:
        A probability.

    Raises:
        ValueError: if an argument is outside its range.

    >>> round(pass_at_k(4, 1, 2), 6)
    0.5
    """
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct must be in [0, {num_samples}], got {num_correct}.")
    if not 1 <= k <= num_samples:
        raise ValueError(f"k must be from 1 to the number of samples ({num_samples}), got {k}.")
    if num_samples - num_correct < k:
        return 1.0
    terms = 1.0 - k / np.arange(num_samples - num_correct + 1, num_samples + 1)
    return float(1.0 - np.prod(terms))


def pass_at_k_advantages(
    returns: np.ndarray, k: int, normalize_std: bool = True, eps: float = 1e-6
) -> np.ndarray:
    """Credit each trajectory by how much better the subsets with it do than the average subset.

    The reward of a subset of k trajectories is its best return; all C(n, k) subsets are counted
    (Pass@k training, arXiv:2508.10751).

    A_i = (mean of the rewards of the subsets with i - mean of all) / (std of all + eps)

    With returns of 0 and 1 the means are pass@k: A = (1 - p) / s for a success and
    A = (1 - p - C(n_neg - 1, k - 1) / C(n - 1, k - 1)) / s for a failure, with n_neg failures,
    p = 1 - C(n_neg, k) / C(n, k) and s = sqrt(p (1 - p)). We: the same counting for returns of any
    value, because penalties make returns other than 0 and 1.

    Args:
        returns: episode returns of one group, shape (n,).
        k: size of the subsets, at least 1; 1 gives GRPO's advantages.
        normalize_std: whether to divide by the standard deviation.
        eps: added to the standard deviation.

    Returns:
        Advantages, shape (n,). All zeros if all subsets have equal rewards, as for k >= n.

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
    # The j-th worst (from 0) is the best of a subset whose other k - 1 are among the j below it.
    shares = np.array([comb(j, k - 1) / comb(num, k) for j in range(num)])
    mean = shares @ ascending
    std = np.sqrt(shares @ (ascending - mean) ** 2)
    if std < SAME:
        return np.zeros(num)
    # In a subset with i, i is the best if the other k - 1 are below it; a better j is the best if
    # the other k - 2 are among the j - 1 that are below j and not i.
    num_subsets = comb(num - 1, k - 1)
    as_best = [comb(i, k - 1) / num_subsets for i in range(num)]
    under = [comb(j - 1, k - 2) / num_subsets if j > 0 and k > 1 else 0.0 for j in range(num)]
    from_here = np.cumsum((under * ascending)[::-1])[::-1]  # sums over j >= i
    gains = as_best * ascending + np.append(from_here[1:], 0.0) - mean
    advantages = np.empty(num)
    advantages[order] = gains
    return advantages / (std + eps) if normalize_std else advantages
