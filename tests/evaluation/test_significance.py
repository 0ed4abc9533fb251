"""Tests between runs: published values, hand computations, no difference where there is none."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar

from sesa_agent.evaluation.significance import (
    ALPHA,
    episodes_needed,
    holm,
    mcnemar_test,
    paired_difference,
    permutation_test,
    runs_test,
    seeds_needed,
    welch_test,
)

SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
"""Student 1908: hours of sleep gained by ten patients on either of two drugs."""
NUM_SIMULATIONS = 2000


def outcomes(*counts: int) -> tuple[list[list[int]], list[list[int]]]:
    """Runs of one seed with so many puzzles won by both, by the first, by the second, by none."""
    pairs = [(1, 1), (1, 0), (0, 1), (0, 0)]
    played = [pair for pair, count in zip(pairs, counts, strict=True) for _ in range(count)]
    return [[first for first, _ in played]], [[second for _, second in played]]


def test_mcnemar_by_hand():
    # 12 puzzles that one run alone won, 10 and 2: 2 (C(12,0) + C(12,1) + C(12,2)) / 2^12
    assert mcnemar_test(*outcomes(5, 10, 2, 3)) == (10, 2, pytest.approx(2 * 79 / 4096))
    assert mcnemar_test(*outcomes(5, 1, 0, 3)) == (1, 0, 1.0)
    assert mcnemar_test(*outcomes(5, 0, 0, 3)) == (0, 0, 1.0)


def test_mcnemar_of_a_textbook():
    """Agresti, Categorical Data Analysis, Table 10.1: 150 and 86 of 1600 changed their mind.

    The chi-square of the book is (86 - 150)^2 / 236 = 17.36, p = .00003; the exact p is near.
    """
    only_first, only_second, p = mcnemar_test(*outcomes(794, 150, 86, 570))
    assert (only_first, only_second) == (150, 86)
    library: Any = mcnemar([[794, 150], [86, 570]], exact=True)
    assert p == pytest.approx(library.pvalue)
    assert p == pytest.approx(0.00003, abs=1e-5)


def test_pairs_are_those_of_the_same_seed_and_puzzle():
    """Each run wins half; seed by seed they disagree everywhere, puzzle by puzzle they cancel."""
    first, second = [[1, 1, 0, 0], [0, 0, 1, 1]], [[0, 0, 1, 1], [1, 1, 0, 0]]
    assert mcnemar_test(first, second)[:2] == (4, 4)
    assert mcnemar_test(first, second[::-1])[:2] == (0, 0)
    with pytest.raises(ValueError, match=r"puzzles, got shapes \(2, 4\) and \(1, 4\)"):
        mcnemar_test(first, second[:1])
    with pytest.raises(ValueError, match="same seeds and puzzles"):
        paired_difference(first, [[0, 0, 1]] * 2)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40))
def test_exchanging_the_runs_only_changes_the_sign(pairs):
    runs = [[first for first, _ in pairs]], [[second for _, second in pairs]]
    only_first, only_second, p = mcnemar_test(*runs)
    assert mcnemar_test(*runs[::-1]) == (only_second, only_first, p)
    difference, low, high = paired_difference(*runs)
    assert difference == pytest.approx((only_first - only_second) / len(pairs))
    assert -1 <= low <= high <= 1
    assert paired_difference(*runs[::-1])[0] == -difference


def test_the_paired_bootstrap_is_that_of_the_theory():
    # 100 puzzles of 400 differ by 1, all for the first: d = .25, sd sqrt(.25 * .75), / sqrt(400)
    difference, low, high = paired_difference(*outcomes(100, 100, 0, 200))
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert difference == 0.25
    assert (low, high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.006)
    # Resampled within seeds, a difference between seeds is no uncertainty.
    assert paired_difference([[1] * 9, [0] * 9], [[0] * 9, [0] * 9]) == (0.5, 0.5, 0.5)


def test_welch_is_the_published_one():
    """R's help page of t.test: p = .07939, interval -3.3654832 to .2054832."""
    low, high, p = welch_test(*SLEEP) or (0, 0, 0)
    assert (low, high) == pytest.approx((-3.3654832, 0.2054832), abs=1e-6)
    assert p == pytest.approx(0.07939, abs=5e-6)


def test_without_spread_or_a_second_seed_there_is_nothing_to_test():
    assert welch_test([0.5], [0.1, 0.2]) is None
    assert welch_test([0.5, 0.5], [0.1, 0.1]) is None
    assert welch_test([0.5, 0.5], [0.1, 0.2]) is not None
    assert seeds_needed([0.5], [0.1, 0.2]) is None
    assert seeds_needed([0.5, 0.5], [0.1, 0.1]) is None
    assert seeds_needed([0.5, 0.6], [0.5, 0.6]) is None
    assert episodes_needed(0.3, 0.3) is None


@pytest.mark.parametrize(("h", "size"), [(0.2, 393), (0.5, 63), (0.8, 25)])
def test_episodes_are_those_of_cohens_table(h, size):
    """Cohen 1988, Table 6.4.1 (two-sided 5 %, power .80): 392, 63, 25; ours are rounded up."""
    other = math.sin(math.asin(math.sqrt(0.5)) + h / 2) ** 2
    assert episodes_needed(0.5, other) == episodes_needed(other, 0.5) == size


@pytest.mark.parametrize(("d", "size"), [(0.5, 64), (0.8, 26)])
def test_seeds_are_those_of_cohens_table(d, size):
    """Cohen 1988, Table 2.4.1 (two-sided 5 %, power .80)."""
    ones = [-1.0, 0.0, 1.0]  # standard deviation 1
    assert seeds_needed(ones, [value + d for value in ones]) == size


def test_seeds_that_did_not_show_a_difference_are_too_few():
    """Equal numbers of seeds, unequal spreads: the usual t-test would have asked for the same 3."""
    first, second = [0.467, 0.423, 0.257], [0.13, 0.135, 0.14]
    found = welch_test(first, second)
    assert found is not None
    assert found[2] > ALPHA
    size = seeds_needed(first, second)
    assert size is not None
    assert size > 3


@given(st.lists(st.integers(0, 100), min_size=6, max_size=6, unique=True))
def test_more_seeds_are_needed_wherever_the_difference_was_not_significant(counts):
    first, second = [n / 100 for n in counts[:3]], [n / 100 for n in counts[3:]]
    found, size = welch_test(first, second), seeds_needed(first, second)
    if found and found[2] > ALPHA and size is not None:
        assert size > 3


@pytest.mark.parametrize("rates", [(0, 1), (0.1, 0.9), (0.5, 0.501), (0, 0.001)])
def test_large_and_tiny_differences_have_a_size_too(rates):
    size = episodes_needed(*rates)
    assert size is not None
    assert size >= 2
    assert seeds_needed([0.1, 0.1001], [0.9, 0.9001]) == 2


def test_sizes_beyond_the_maximum_are_none():
    assert episodes_needed(0.5, 0.500001) is None
    assert episodes_needed(0.1 + 0.2, 0.3) is None
    assert seeds_needed([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]) is None


def assert_at_most_5_percent(ps: list[float]) -> None:
    """More than ALPHA of them may be below ALPHA by chance alone; not by much."""
    num_seen = sum(p < ALPHA for p in ps)
    assert binomtest(num_seen, len(ps), ALPHA, alternative="greater").pvalue > 0.01, num_seen


def test_equal_runs_differ_at_most_one_time_in_twenty():
    """Two runs with the same chance at each puzzle, which are easy and hard ones."""
    rng = np.random.default_rng(0)
    ps = []
    for _ in range(NUM_SIMULATIONS):
        chances = rng.beta(0.5, 1, size=(2, 60))
        runs = [(rng.random((2, 60)) < chances).astype(int).tolist() for _ in range(2)]
        ps.append(runs_test(*[run[:1] for run in runs]))
    assert_at_most_5_percent(ps)
    assert min(ps) < ALPHA  # the simulation is able to fail


@pytest.mark.slow
def test_equal_runs_of_several_seeds_are_good_at_other_puzzles():
    """Five seeds of an arm are good at the same puzzles, two arms at different ones, equally many.

    To count every run of a puzzle as an observation calls a third of such pairs different."""
    rng = np.random.default_rng(0)
    ps, pooled = [], []
    for _ in range(300):
        runs = []
        for _ in range(2):
            chances = rng.beta(0.3, 0.6, size=40)
            runs.append((rng.random((5, 40)) < chances).astype(int).tolist())
        ps.append(runs_test(*runs))
        pooled.append(mcnemar_test(*runs)[2])
    assert_at_most_5_percent(ps)
    assert min(ps) < ALPHA
    assert np.mean(np.array(pooled) < ALPHA) > 0.15


def test_sign_flips_by_hand():
    """Differences 1, 1/2, 1/2 and 0: of 16 signs 2 x 2 are as far from zero as these."""
    first, second = [[1, 1, 1, 0], [1, 0, 0, 1]], [[0, 0, 0, 0], [0, 0, 0, 1]]
    assert runs_test(first, second) == pytest.approx(4 / 16)
    assert runs_test(first, first) == 1.0
    assert runs_test(first[:1], second[:1]) == mcnemar_test(first[:1], second[:1])[2]


@pytest.mark.parametrize("seed_spread", [0.0, 0.1])
def test_equal_methods_differ_at_most_one_time_in_twenty(seed_spread):
    """Five seeds of each method, 200 puzzles a run; seeds of a method differ or do not."""
    rng = np.random.default_rng(0)
    ps = []
    for _ in range(NUM_SIMULATIONS):
        chances = np.clip(rng.normal(0.4, seed_spread, (2, 5)), 0, 1)
        rates = (rng.binomial(200, chances) / 200).tolist()
        found = welch_test(*rates)
        ps.append(found[2] if found else 1.0)
    assert_at_most_5_percent(ps)
    assert min(ps) < ALPHA


def test_the_needed_sizes_have_a_power_of_four_in_five():
    rng = np.random.default_rng(0)
    size = episodes_needed(0.3, 0.45)
    assert size is not None
    seen = 0
    for _ in range(500):
        runs = [(rng.random((1, size)) < rate).astype(int).tolist() for rate in (0.3, 0.45)]
        seen += mcnemar_test(*runs)[2] < ALPHA
    assert seen / 500 == pytest.approx(0.8, abs=0.06)


def test_the_permutation_test_counts_ways_of_dealing_seeds():
    assert permutation_test([4, 5, 6], [1, 2, 3]) == pytest.approx(2 / 20)
    # (3, 4) of 1, 2, 3, 4: 4 of the 6 deals differ less in the mean
    assert permutation_test([3, 4], [1, 2]) == pytest.approx(2 / 6)
    assert permutation_test([2, 2], [2, 2]) == 1
    assert permutation_test([1], [2, 3]) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_holm_lies_between_no_correction_and_bonferroni(values):
    corrected = [p for p in holm(values) if p is not None]
    for p, found in zip(values, corrected, strict=True):
        assert p - 1e-12 <= found <= 1
    # The smallest is multiplied by the number of tests, and the order stays.
    assert min(corrected) == pytest.approx(min(1, min(values) * len(values)))
    ranked = sorted(zip(values, corrected, strict=True))
    assert all(a[1] <= b[1] + 1e-12 for a, b in zip(ranked, ranked[1:], strict=False))
