"""Success rates with their uncertainty. Pure functions of numbers and counts.

The formulas are those of scipy and statsmodels, imported where they are used: the imports take a
second, too long for `--help`. pass@k and Coverage@k, which these libraries lack, are our own
(pass@k is in `training/pass_at_k.py`, since training uses it too).
"""

import math
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from ..training.pass_at_k import pass_at_k

NUM_RESAMPLES = 2000
"""Resamples of a bootstrap interval; its random numbers are fixed."""


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of a few values, such as one per seed, and its 95 % Student's t interval.

    mean +- t s / sqrt(n), with s the sample standard deviation and t the quantile of n - 1 degrees
    of freedom.

    Args:
        values: n independent measurements.

    Returns:
        Mean, lower and upper end; both ends are NaN for a single value, which has no spread.

    Raises:
        ValueError: if `values` is empty.

    >>> [round(number, 3) for number in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy import stats

    count = len(values)
    if count == 0:
        raise ValueError("An interval needs at least one value.")
    centre = mean(values)
    if count == 1:
        return centre, math.nan, math.nan
    half_width = stats.t.ppf(0.975, count - 1) * stdev(values) / math.sqrt(count)
    return centre, float(centre - half_width), float(centre + half_width)


def wilson_interval(
    num_successes: float, num_trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate (Wilson 1927).

    Unlike p +- z sqrt(p (1 - p)/n) it stays within [0, 1] and has a positive width at p = 0 and 1.

    Args:
        num_successes: from 0 to `num_trials`; may be fractional, as a sum of rates.
        num_trials: number of independent trials; with 0 the interval is (0, 1).
        confidence: confidence level, between 0 and 1.

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
    from statsmodels.stats.proportion import proportion_confint

    ends: Any = proportion_confint(num_successes, num_trials, 1 - confidence, method="wilson")
    return max(float(ends[0]), 0.0), min(float(ends[1]), 1.0)


def iqm_interval(*values: Sequence[float]) -> tuple[float, float, float]:
    """Return the interquartile mean of one value per seed, and its 95 % bootstrap interval.

    The mean without the lowest and the highest quarter, floor(n / 4) values each; with fewer than
    four values it is the plain mean. The interval resamples the seeds, of each game separately
    (percentiles; arXiv:2108.13264). With few seeds it is too narrow, since it never leaves the
    observed values.

    Args:
        values: independent measurements, one sequence per game; n in all.

    Returns:
        Interquartile mean, lower and upper end; both ends are NaN for a single value.

    Raises:
        ValueError: if `values` is empty.

    >>> iqm_interval([0.0, 0.5, 0.6, 0.7, 10.0])[0]
    0.6
    """
    from scipy import stats

    every = [value for game in values for value in game]
    if not every:
        raise ValueError("An interval needs at least one value.")
    centre = float(stats.trim_mean(every, 0.25))
    if min(map(len, values)) < 2:
        return centre, math.nan, math.nan

    def iqm(*samples: np.ndarray, axis: int) -> np.ndarray:
        return stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)

    return centre, *bootstrap_interval(values, iqm)


def improvement_interval(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[float, float, float]:
    """Return the probability that a run of one method is better than one of another.

    P(X > Y) + P(X = Y) / 2 over all pairs of runs, averaged over games, with a 95 % bootstrap over
    the seeds of each game and method (arXiv:2108.13264). It says how sure an improvement is, not
    how large.

    Args:
        pairs: for each game, the n success rates of the one and the m of the other.

    Returns:
        Probability, lower and upper end; both ends are NaN if a method has a single run somewhere.

    Raises:
        ValueError: if there is no game or a game has no run of a method.

    >>> improvement_interval([([0.2, 0.4], [0.1, 0.4])])[0]
    0.625
    """
    if not pairs or not all(len(first) and len(second) for first, second in pairs):
        raise ValueError("A probability of improvement needs a run of either method in every game.")

    def better(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        shares = []
        for first, second in zip(samples[::2], samples[1::2], strict=True):
            signs = np.sign(first[..., :, None] - second[..., None, :])
            shares.append((signs.mean(axis=(-2, -1)) + 1) / 2)
        return np.mean(shares, axis=0)

    samples = [np.asarray(rates, dtype=float) for pair in pairs for rates in pair]
    centre = float(better(*samples))
    if min(map(len, samples)) < 2:
        return centre, math.nan, math.nan
    return centre, *bootstrap_interval(samples, better)


def mean_pass_at_k(correct: Sequence[int] | np.ndarray, num_samples: int, k: int) -> float:
    """Average `pass_at_k` over puzzles.

    Args:
        correct: number of correct samples of each puzzle, shape (N,).
        num_samples: number of samples of each puzzle.
        k: size of the subset, from 1 to `num_samples`.

    Returns:
        A probability.

    Raises:
        ValueError: if there is no puzzle, or an argument is outside its range.
    """
    if len(correct) == 0:
        raise ValueError("pass@k needs at least one puzzle.")
    return float(np.mean([pass_at_k(num_samples, int(count), k) for count in correct]))


def coverage_at_k(counts: Sequence[int], num_samples: int, k: int, num_targets: int) -> float:
    """Unbiased estimate of the share of targets that k samples of one puzzle hit.

    Paper, section 2.1: Coverage@k = u / U, with u the number of distinct targets among k samples
    and U that of all targets. A subset of k of the n samples hits target t with probability
    1 - C(n - c_t, k) / C(n, k) = pass@k(n, c_t), where c_t samples give t. By linearity of
    expectation the mean of u / U over all subsets is sum_t pass@k(n, c_t) / U; with k = n it is the
    paper's u / U.

    Args:
        counts: number of samples that give each target, c_t; targets without any may be left out.
        num_samples: n, samples of one puzzle, at least the sum of `counts`.
        k: size of the subset, from 1 to n.
        num_targets: U, at least the number of `counts`.

    Returns:
        A share, at most min(k, U) / U.

    Raises:
        ValueError: if an argument is outside its range.

    >>> coverage_at_k([2, 1], num_samples=4, k=4, num_targets=20)
    0.1
    """
    if num_targets < max(len(counts), 1):
        raise ValueError(
            f"num_targets must be at least 1 and the number of targets that were hit "
            f"({len(counts)}), got {num_targets}."
        )
    if sum(counts) > num_samples:
        raise ValueError(
            f"counts must add up to at most num_samples ({num_samples}), got {sum(counts)}."
        )
    if not 1 <= k <= num_samples:
        raise ValueError(f"k must be from 1 to the number of samples ({num_samples}), got {k}.")
    return sum(pass_at_k(num_samples, count, k) for count in counts) / num_targets


def bootstrap_interval(
    samples: Sequence[Any], statistic: Callable[..., np.ndarray]
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a statistic (percentiles).

    Args:
        samples: one or more strata, each resampled separately.
        statistic: a function of all samples, vectorized over `axis` as for `scipy.stats.bootstrap`.
    """
    from scipy import stats

    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=NUM_RESAMPLES,
        batch=100,  # bounds the memory
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
