import doctest
import math
from itertools import combinations
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.evaluation import statistics
from sesa_agent.evaluation.statistics import (
    coverage_at_k,
    iqm_interval,
    mean_pass_at_k,
    t_interval,
    wilson_interval,
)
from sesa_agent.training.pass_at_k import pass_at_k


def test_t_interval_by_hand():
    # 2, 4, 6: mean 4, s = 2, t = 4.302653 with 2 degrees of freedom: 4 +- 4.302653 * 2 / sqrt(3)
    half = 4.302653 * 2 / math.sqrt(3)
    assert t_interval([2, 4, 6]) == pytest.approx((4, 4 - half, 4 + half))
    assert t_interval([0.5] * 4) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("count", "quantile"), [(10, 2.262), (11, 2.228), (21, 2.086), (61, 2.0)])
def test_t_quantiles_of_many_values_are_those_of_the_tables(count, quantile):
    values = [0.0, 1.0] * (count // 2) + [0.5] * (count % 2)
    centre, low, high = t_interval(values)
    half = quantile * stdev(values) / math.sqrt(count)
    assert centre == 0.5
    assert (high - centre, centre - low) == pytest.approx((half, half), rel=3e-4)


def test_a_single_value_has_no_interval_and_none_has_no_mean():
    centre, low, high = t_interval([0.3])
    assert centre == 0.3
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([])


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20), st.floats(-100, 100))
def test_a_t_interval_moves_with_its_values_and_holds_their_mean(values, shift):
    centre, low, high = t_interval(values)
    assert low <= centre <= high
    moved = t_interval([value + shift for value in values])
    assert moved == pytest.approx((centre + shift, low + shift, high + shift), abs=1e-6)


def test_wilson_interval_by_hand():
    # p = .5, n = 10, z = 1.959964, z^2 = 3.841459: centre (.5 + .1920729) / 1.3841459 = .5,
    # half width 1.959964 sqrt(.025 + .00960365) / 1.3841459 = .364596 / 1.3841459 = .263407
    assert wilson_interval(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    # p = 0: the lower end is 0, the upper z^2 / (n + z^2) = 3.841459 / 13.841459
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.277533), abs=1e-6)
    # 90 %: z = 1.644854, z^2 = 2.705543; p = 1: from n / (n + z^2) = 10 / 12.705543
    assert wilson_interval(10, 10, confidence=0.9) == pytest.approx((0.787058, 1.0), abs=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("counts", "ends"),
    [
        ((81, 263), (0.2553, 0.3662)),
        ((15, 148), (0.0624, 0.1605)),
        ((0, 20), (0.0, 0.1611)),
        ((1, 29), (0.0061, 0.1718)),
    ],
)
def test_wilson_intervals_are_the_published_ones(counts, ends):
    """Newcombe 1998 (Statistics in Medicine 17:857), Table I, method 3."""
    assert wilson_interval(*counts) == pytest.approx(ends, abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n))))
def test_wilson_interval_holds_the_rate_and_mirrors(counts):
    num_successes, num_trials = counts
    low, high = wilson_interval(num_successes, num_trials)
    assert 0 <= low <= num_successes / num_trials + 1e-12
    assert num_successes / num_trials - 1e-12 <= high <= 1
    mirrored = wilson_interval(num_trials - num_successes, num_trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(st.integers(1, 1000))
def test_wilson_interval_narrows_with_more_trials(num_trials):
    low, high = wilson_interval(num_trials / 2, num_trials)
    lower, higher = wilson_interval(num_trials, 2 * num_trials)
    assert higher - lower < high - low


def test_interquartile_mean_by_hand():
    # 8 values lose two at each end: (3 + 4 + 5 + 6) / 4; 5 lose one; 3 none: their plain mean
    assert iqm_interval([8, 7, 6, 5, 4, 3, 2, -99])[0] == 4.5
    assert iqm_interval([0.0, 0.1, 0.2, 0.3, 9.0])[0] == pytest.approx(0.2)
    assert iqm_interval([0.0, 0.0, 0.9])[0] == pytest.approx(0.3)
    assert iqm_interval([0.2, 0.2])[1:] == (0.2, 0.2)
    assert all(map(math.isnan, iqm_interval([0.2])[1:]))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_a_bootstrap_interval_stays_within_the_values_and_is_always_the_same(values):
    centre, low, high = iqm_interval(values)
    assert low <= high + 1e-9  # equal values may give means that differ by rounding
    assert min(values) - 1e-9 <= low and high <= max(values) + 1e-9
    assert min(values) - 1e-9 <= centre <= max(values) + 1e-9
    assert iqm_interval(values) == (centre, low, high)


def test_pass_at_k_by_hand():
    # 1 - C(3, 2) / C(5, 2) = 1 - 3/10
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7, abs=1e-6)
    assert pass_at_k(16, 4, 1) == pytest.approx(0.25, abs=1e-6)
    assert pass_at_k(5, 0, 3) == 0
    assert pass_at_k(5, 3, 3) == 1
    # 1 - (1 - 1/2) (1 - 500/999): no factorial overflows
    assert pass_at_k(1000, 2, 500) == pytest.approx(1 - 0.5 * (1 - 500 / 999), abs=1e-6)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_average_over_all_subsets(num_samples, data):
    num_correct = data.draw(st.integers(0, num_samples))
    k = data.draw(st.integers(1, num_samples))
    samples = [index < num_correct for index in range(num_samples)]
    hits = [any(subset) for subset in combinations(samples, k)]
    assert pass_at_k(num_samples, num_correct, k) == pytest.approx(sum(hits) / len(hits), abs=1e-9)


def test_mean_pass_at_k_averages_over_puzzles():
    # .7 (above), 0 and 1
    assert mean_pass_at_k([2, 0, 5], num_samples=5, k=2) == pytest.approx(1.7 / 3, abs=1e-6)


def test_coverage_by_hand():
    # Pairs of A A B -, 6 of them: AA covers 1, AB 2 (twice), A- 1 (twice), B- 1; mean 8/6 of U = 4
    assert coverage_at_k([2, 1], num_samples=4, k=2, num_targets=4) == pytest.approx(
        1 / 3, abs=1e-9
    )
    # One sample hits a target or none: 3 of 4 hit, each 1/4 of the targets
    assert coverage_at_k([2, 1], num_samples=4, k=1, num_targets=4) == pytest.approx(3 / 16)
    assert coverage_at_k([], num_samples=32, k=32, num_targets=20) == 0


@st.composite
def samples_of_targets(draw):
    """Samples of a puzzle, each one of some targets or (-1) none, and the number of targets."""
    num_targets = draw(st.integers(1, 4))
    return draw(st.lists(st.integers(-1, num_targets - 1), min_size=1, max_size=7)), num_targets


@given(samples_of_targets(), st.data())
def test_coverage_is_the_average_over_all_subsets(puzzle, data):
    samples, num_targets = puzzle
    k = data.draw(st.integers(1, len(samples)))
    counts = [samples.count(target) for target in range(num_targets)]
    shares = [len(set(subset) - {-1}) / num_targets for subset in combinations(samples, k)]
    expected = sum(shares) / len(shares)
    assert coverage_at_k(counts, len(samples), k, num_targets) == pytest.approx(expected, abs=1e-9)
    hits = [count for count in counts if count]  # targets that nobody hit may be left out
    assert coverage_at_k(hits, len(samples), k, num_targets) == pytest.approx(expected, abs=1e-9)


@given(samples_of_targets())
def test_coverage_of_all_samples_is_the_papers_and_with_one_target_it_is_pass_at_k(puzzle):
    samples, num_targets = puzzle
    n, counts = len(samples), [samples.count(target) for target in range(num_targets)]
    papers = len(set(samples) - {-1}) / num_targets
    assert coverage_at_k(counts, n, n, num_targets) == pytest.approx(papers, abs=1e-9)
    for k in range(1, n + 1):
        assert coverage_at_k(counts[:1], n, k, 1) == pass_at_k(n, counts[0], k)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm_interval([]), "at least one value"),
        (lambda: wilson_interval(3, 2), r"num_successes must be in \[0, 2\], got 3"),
        (lambda: wilson_interval(-1, 2), "num_successes"),
        (lambda: wilson_interval(1, 2, confidence=95), "confidence must be between 0 and 1"),
        (lambda: pass_at_k(4, 5, 1), r"num_correct must be in \[0, 4\], got 5"),
        (lambda: pass_at_k(4, 1, 5), r"k must be from 1 to the number of samples \(4\), got 5"),
        (lambda: pass_at_k(4, 1, 0), "k must be"),
        (lambda: mean_pass_at_k([], 4, 1), "at least one puzzle"),
        (lambda: coverage_at_k([1, 1], 4, 1, 1), r"number of targets that were hit \(2\), got 1"),
        (lambda: coverage_at_k([], 4, 1, 0), "num_targets must be at least 1"),
        (lambda: coverage_at_k([3, 2], 4, 1, 9), r"at most num_samples \(4\), got 5"),
        (lambda: coverage_at_k([1], 4, 5, 9), r"k must be from 1 to the number of samples \(4\)"),
        (lambda: coverage_at_k([], 4, 0, 9), "k must be"),
        (lambda: coverage_at_k([-1], 4, 1, 9), "num_correct"),
    ],
)
def test_arguments_out_of_range_are_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(statistics).failed == 0
