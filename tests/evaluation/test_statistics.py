import doctest
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.evaluation import statistics
from sesa_agent.evaluation.statistics import mean_pass_at_k, pass_at_k, wilson_interval


def test_wilson_interval_by_hand():
    # p = .5, n = 10, z = 1.959964, z^2 = 3.841459: centre (.5 + .1920729) / 1.3841459 = .5,
    # half width 1.959964 sqrt(.025 + .00960365) / 1.3841459 = .364596 / 1.3841459 = .263407
    assert wilson_interval(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    # p = 0: the lower end is 0, the upper z^2 / (n + z^2) = 3.841459 / 13.841459
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.277533), abs=1e-6)
    # 90 %: z = 1.644854, z^2 = 2.705543; p = 1: from n / (n + z^2) = 10 / 12.705543
    assert wilson_interval(10, 10, confidence=0.9) == pytest.approx((0.787058, 1.0), abs=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(3, 2), r"num_successes must be in \[0, 2\], got 3"),
        (lambda: wilson_interval(-1, 2), "num_successes"),
        (lambda: wilson_interval(1, 2, confidence=95), "confidence must be between 0 and 1"),
        (lambda: pass_at_k(4, 5, 1), r"num_correct must be in \[0, 4\], got 5"),
        (lambda: pass_at_k(4, 1, 5), r"k must be from 1 to the number of samples \(4\), got 5"),
        (lambda: pass_at_k(4, 1, 0), "k must be"),
        (lambda: mean_pass_at_k([], 4, 1), "at least one puzzle"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(statistics).failed == 0
