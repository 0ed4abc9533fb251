"""Success rates with their uncertainty. Pure functions on counts."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def wilson_interval(
    num_successes: float, num_trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate.

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with p = successes / n and z the
    normal quantile of (1 + confidence) / 2 (Wilson 1927). Unlike p +- z sqrt(p (1 - p)/n) it stays
    within [0, 1] and has a width where p is 0 or 1.

    Args:
        num_successes: from 0 to `num_trials`; may be fractional, as a sum of rates.
        num_trials: independent trials; with none the interval is (0, 1).
        confidence: share of such intervals that hold the true rate, between 0 and 1.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}.")
    if not 0 <= num_successes <= num_trials:
        raise ValueError(f"num_successes must be in [0, {num_trials}], got {num_successes}.")
    if num_trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, shrink = num_successes / num_trials, z * z / num_trials
    centre = rate + shrink / 2
    half_width = math.sqrt(shrink * (rate * (1 - rate) + shrink / 4))
    low, high = (centre - half_width) / (1 + shrink), (centre + half_width) / (1 + shrink)
    return max(low, 0.0), min(high, 1.0)


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Estimate without bias how likely one of k samples is correct.

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


def mean_pass_at_k(correct: Sequence[int] | np.ndarray, num_samples: int, k: int) -> float:
    """Average `pass_at_k` over puzzles.

    Args:
        correct: correct samples of each puzzle, shape (N,).
        num_samples: samples of each puzzle.
        k: size of the subset, from 1 to `num_samples`.

    Returns:
        A probability.

    Raises:
        ValueError: if there is no puzzle, or an argument is outside its range.
    """
    if len(correct) == 0:
        raise ValueError("pass@k needs at least one puzzle.")
    return float(np.mean([pass_at_k(num_samples, int(count), k) for count in correct]))
