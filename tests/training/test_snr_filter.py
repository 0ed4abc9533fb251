"""The filter of RAGEN-2: the fewest groups that hold most of a step's spread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.advantages import filter_top_p, has_signal

from ..helpers.runs import make_config, read_metrics, run

groups = st.lists(
    st.lists(st.sampled_from([0.0, 0.1, 1.0, -1.0]), min_size=1, max_size=6).map(np.array),
    min_size=1,
    max_size=8,
)


def spreads(*values):
    """Groups of two returns with these (population) standard deviations."""
    return [np.array([-value, value]) for value in values]


@pytest.mark.parametrize(
    ("top_p", "chosen"),
    # Sum 2, slack .01: .5 asks for .99, .75 for 1.49, .9 for 1.79, .99 for 1.97.
    [(0.5, [1]), (0.75, [1, 3]), (0.9, [0, 1, 3]), (0.99, [0, 1, 3, 4])],
)
def test_the_filter_by_hand(top_p, chosen):
    assert filter_top_p(spreads(0.3, 1.0, 0.0, 0.5, 0.2), top_p, "population") == chosen


def test_of_equal_groups_the_earlier_are_chosen():
    assert filter_top_p(spreads(0.5, 1.0, 0.5), 0.7, "population") == [0, 1]


def test_a_step_of_noise_teaches_nothing():
    assert filter_top_p(spreads(0.0, 0.0), 0.9) == []
    assert filter_top_p(spreads(0.001, 0.002), 0.9) == []


@given(groups)
def test_nearly_all_of_it_is_every_group_with_signal(returns):
    """In this limit the filter is DAPO's, as long as no group weighs less than the slack."""
    chosen = filter_top_p(returns, 1 - 1e-9)
    with_signal = [place for place, group in enumerate(returns) if has_signal(group)]
    assert set(chosen) <= set(with_signal)
    assert chosen == with_signal


@given(groups, st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_a_larger_share_keeps_what_a_smaller_one_keeps(returns, one, other):
    low, high = sorted((one, other))
    assert set(filter_top_p(returns, low)) <= set(filter_top_p(returns, high))


def test_one_filter_at_a_time():
    with pytest.raises(
        SettingError, match="loss.filter_top_p must be 0 with loss.filter_ratio=0.5"
    ):
        load_config("sudoku", "ragen", ["loss.filter_ratio=0.5", "loss.filter_top_p=0.9"])
    loss = load_config("sudoku", "ragen-2").loss
    assert (loss.filter_ratio, loss.filter_top_p, loss.aggregate) == (1.0, 0.9, "trajectory")


def test_two_steps_run(llama, tmp_path):
    run(make_config(llama, "sampling.num_tasks=6", "optim.lr=0.01", method="ragen-2"), tmp_path)
    lines = read_metrics(tmp_path)
    assert len(lines) == 2
    assert all(line["train/tokens"] > 0 for line in lines)
