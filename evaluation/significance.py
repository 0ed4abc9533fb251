"""Tests whether one method succeeds more often than another, and how large a test must be. Pure.

There are two claims. That these runs differ is tested over puzzles and holds for these weights.
Runs with several seeds play the same puzzles, so a puzzle is one observation, however many runs
play it. That the methods differ is tested over training seeds and generalizes to other seeds: two
runs with one seed each cannot show it, however many puzzles they play.
"""

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from .statistics import bootstrap_interval

ALPHA = 0.05
"""Significance level."""
POWER = 0.8
"""Power of a test with `episodes_needed` or `seeds_needed`."""
EQUAL = 1e-9
"""Rates closer than this are equal up to rounding."""
MOST = 10**7
"""Sample sizes above this are not reported."""
NUM_FLIPS = 9999
"""Random sign flips of `runs_test`, or permutations, unless there are fewer in total."""


def paired_difference(
    first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]
) -> tuple[float, float, float]:
    """Return the difference in success of two sets of runs on the same puzzles.

    The interval is a 95 % bootstrap over puzzles, each with all its runs: it is about these runs,
    not about other training seeds.

    Args:
        first: outcomes of one run per seed, 0 or 1 for each puzzle, shape (S, N).
        second: those of the other runs, with the same seeds and puzzles.

    Returns:
        Mean difference, first minus second, lower and upper end.

    Raises:
        ValueError: if the shapes differ.
    """
    differences = _paired(first, second).mean(axis=0)
    return float(differences.mean()), *bootstrap_interval([differences], np.mean)


def runs_test(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> float:
    """Test whether runs succeed equally often on the same puzzles; return the two-sided p value.

    With one run each, McNemar's exact test. With several, a sign-flip test of the mean difference
    at each puzzle (Fisher's permutation test for pairs), because runs on the same puzzle are not
    independent. The claim is about these runs.

    Args:
        first: outcomes of one run per seed, 0 or 1 for each puzzle, shape (S, N).
        second: those of the other runs, with the same seeds and puzzles.

    Raises:
        ValueError: if the shapes differ.
    """
    from scipy import stats

    differences = _paired(first, second).mean(axis=0)
    if len(first) == 1:
        return mcnemar_test(first, second)[2]
    if not differences.any():
        return 1.0
    found: Any = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_FLIPS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def mcnemar_test(
    first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]
) -> tuple[int, int, float]:
    """Count the puzzles that only one of two runs solves, and test them (McNemar's exact test).

    Puzzles that both or neither solve carry no information; under the null hypothesis each of the
    others is solved by either run with probability 1/2. The p value is valid for a single seed.

    Args:
        first: outcomes of one run per seed, 0 or 1 for each puzzle, shape (S, N).
        second: those of the other runs, with the same seeds and puzzles.

    Returns:
        Number of puzzles that only the first solved, that only the second solved, both summed over
        the seeds, and the two-sided p value; 1 if there is no such puzzle.

    Raises:
        ValueError: if the shapes differ.
    """
    from scipy import stats

    differences = _paired(first, second)
    only_first, only_second = int((differences > 0).sum()), int((differences < 0).sum())
    num_unlike = only_first + only_second
    p = float(stats.binomtest(only_first, num_unlike).pvalue) if num_unlike else 1.0
    return only_first, only_second, p


def welch_test(
    first: Sequence[float], second: Sequence[float]
) -> tuple[float, float, float] | None:
    """Test whether two methods succeed equally often, from one success rate per training seed.

    Welch's t-test, which does not assume equal variances. The claim is about the methods and
    generalizes to other training seeds.

    Args:
        first: success rates of one method.
        second: those of the other; the seeds need not be the same.

    Returns:
        Lower and upper end of the 95 % interval of the difference of the means, first minus second,
        and the two-sided p value; None with fewer than two seeds of either, or if neither varies.
    """
    from scipy import stats

    if min(len(first), len(second)) < 2 or not (stdev(first) or stdev(second)):
        return None
    with warnings.catch_warnings():  # one method may have no variance
        warnings.simplefilter("ignore", RuntimeWarning)
        found: Any = stats.ttest_ind(first, second, equal_var=False)
    low, high = found.confidence_interval(1 - ALPHA)
    return float(low), float(high), float(found.pvalue)


def permutation_test(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Test whether two methods succeed equally often, without assuming a distribution.

    The difference of the means under all ways of dealing the n + m seeds to the two methods; exact
    if there are at most `NUM_FLIPS` ways. With few seeds no p value can be small: with three of
    each the least is 2 / 20.

    Args:
        first: n success rates of one method, one per training seed.
        second: m of the other.

    Returns:
        The two-sided p value; None with fewer than two seeds of either.
    """
    from scipy import stats

    if min(len(first), len(second)) < 2:
        return None

    def difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        # Rounded, so that deals with equal differences count as equal.
        return np.round(np.mean(one, axis=axis) - np.mean(other, axis=axis), 9)

    found: Any = stats.permutation_test(
        (first, second),
        difference,
        vectorized=True,
        n_resamples=NUM_FLIPS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for the number of tests (Holm's step-down method).

    With all of them compared with `ALPHA`, the probability that any true null hypothesis is
    rejected is at most `ALPHA`, however the tests depend on one another.

    Args:
        p_values: of the tests that are shown together; None for one that was impossible.

    Returns:
        The corrected p values, in the same order.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests

    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    corrected = iter(np.asarray(multipletests(known, method="holm")[1]).tolist())
    return [None if p is None else float(next(corrected)) for p in p_values]


def episodes_needed(rate: float, other: float) -> int | None:
    """Return how many episodes each of two runs needs to show the difference of two rates.

    For two independent samples, two-sided at 5 % with a power of 80 %; an upper bound for runs on
    the same puzzles. None if the rates are equal.

    >>> episodes_needed(0.5, 0.55)
    1565
    """
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    effect = abs(proportion_effectsize(rate, other))
    if effect < EQUAL:
        return None
    return _size(lambda size: NormalIndPower().power(effect, size, ALPHA))


def seeds_needed(first: Sequence[float], second: Sequence[float]) -> int | None:
    """Return how many training seeds each of two methods needs to show their difference.

    Welch's t-test, two-sided at 5 % with a power of 80 %, assuming the measured difference and
    variances. None if either has fewer than two seeds, or if there is no difference or no variance.

    Args:
        first: success rates of one method, one per seed.
        second: those of the other.
    """
    from statsmodels.stats.power import TTestIndPower

    if min(len(first), len(second)) < 2 or abs(mean(first) - mean(second)) < EQUAL:
        return None
    one, other = stdev(first) ** 2, stdev(second) ** 2
    if not one + other:
        return None
    effect = abs(mean(first) - mean(second)) / math.sqrt((one + other) / 2)
    freedom = (one + other) ** 2 / (one**2 + other**2)  # Satterthwaite, per seed after the first

    def power(size: int) -> Any:
        return TTestIndPower().power(effect, size, ALPHA, df=freedom * (size - 1))

    return _size(power)


def _paired(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> np.ndarray:
    """Outcomes of the first minus those of the second, (S, N)."""
    outcomes = np.array(first), np.array(second)
    if outcomes[0].shape != outcomes[1].shape or outcomes[0].ndim != 2:
        raise ValueError(
            f"Paired runs must have the same seeds and puzzles, got shapes {outcomes[0].shape} and "
            f"{outcomes[1].shape}."
        )
    return outcomes[0] - outcomes[1]


def _size(power: Callable[[int], Any]) -> int | None:
    """Smallest size, at least 2, of each of two samples with enough power; None above `MOST`.

    By bisection: statsmodels' own solver leaves the range of valid sizes when effects are large,
    and its power is NaN when it is nearly 1.
    """

    def shows(size: int) -> bool:
        return not power(size) < POWER

    highest = 2
    while not shows(highest):
        if highest > MOST:
            return None
        highest *= 2
    return bisect_left(range(highest), True, lo=2, key=shows)
