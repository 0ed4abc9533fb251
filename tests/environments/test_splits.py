from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments.splits import (
    SPLITS,
    TRAINING_SEEDS_PER_RUN,
    puzzle_seeds,
    training_seeds,
)


@pytest.mark.parametrize("one, other", list(combinations(SPLITS, 2)))
def test_no_seed_is_in_two_splits(one, other):
    one, other = SPLITS[one], SPLITS[other]
    assert one.stop <= other.start or other.stop <= one.start


@given(
    run_seed=st.integers(0, 9_999),
    steps=st.tuples(st.integers(0, 4_000), st.integers(0, 4_000)),
    count=st.integers(1, 50),
)
def test_training_puzzles_are_new_at_every_step_and_never_evaluated(run_seed, steps, count):
    first, second = (training_seeds(run_seed, step, count) for step in steps)
    assert len(set(first)) == count
    assert all(seed in SPLITS["training"] for seed in first)
    assert first == second if steps[0] == steps[1] else not set(first) & set(second)


def test_runs_train_on_puzzles_of_their_own():
    last = training_seeds(3, TRAINING_SEEDS_PER_RUN // 50 - 1, 50)[-1]
    assert training_seeds(4, 0, 50)[0] == last + 1


def test_puzzles_are_taken_in_order():
    assert puzzle_seeds("test", 3) == [0, 1, 2]
    assert puzzle_seeds("validation", 2, start=5) == [100_005, 100_006]


@pytest.mark.parametrize("count, start", [(100_001, 0), (2, 99_999)])
def test_more_puzzles_than_a_split_holds_are_refused(count, start):
    with pytest.raises(SettingError, match=f"at most {100_000 - start} of the test puzzles"):
        puzzle_seeds("test", count, start)
