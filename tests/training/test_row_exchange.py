"""Rows move between processes as tensors, each to one, and about as many tokens to each."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.training.micro_batches import RowCost, deal

from ..helpers.runs import REPOSITORY, run_python


def test_rows_of_three_processes_arrive_whole_and_once():
    """One has most of the trees and one none; the rows are those of a single process, bit for bit.

    So are the minibatches of a seed.
    """
    done = run_python("-m", "tests.helpers.exchanging", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def slowest(costs):
    """The largest of the sums of the rows, in units of their mean."""
    sums = costs.sum(axis=1)
    return sums.max() / sums.mean()


def test_64_processes_compute_alike_whatever_trees_they_have_sampled():
    """16 trees each; their tokens have a standard deviation of half their mean, as with `sesa`."""
    rng = np.random.default_rng(0)
    trees = rng.gamma(4, 2500, (64, 16))
    assert slowest(trees) > 1.25
    rows = np.ceil(rng.dirichlet([3] * 160, 64 * 16) * trees.reshape(-1, 1)).astype(int) + 1
    costs = rows.ravel().tolist()
    owners = deal([RowCost(str(row), str(row), cost, 1) for row, cost in enumerate(costs)], 64)
    shares = np.bincount([*owners.values()], weights=costs)
    assert slowest(shares[:, None]) < 1.01


def test_a_prompt_of_several_ranks_is_computed_by_one():
    """Costs: a 50, then 2 more for c, wherever it is; d 50, and 2 for e. The cut is at 52."""
    rows = [RowCost("a", "x", 50, 2), RowCost("d", "y", 50, 2)]
    rows += [RowCost("c", "x", 50, 2), RowCost("a", "x", 50, 2), RowCost("e", "y", 50, 2)]
    assert deal(rows, 2) == {"a": 0, "c": 0, "d": 1, "e": 1}


ROWS = st.builds(
    RowCost, st.text("abc", max_size=3), st.sampled_from("xy"), st.integers(1, 9), st.integers(1, 9)
)


@given(st.lists(ROWS, unique_by=lambda row: row.name), st.integers(1, 5))
def test_every_row_has_an_owner_and_no_share_is_larger_by_more_than_a_row(rows, num):
    owners = deal(rows, num)
    assert owners.keys() == {row.name for row in rows}
    assert [*owners.values()] == sorted(owners.values())
    prompts, costs = set(), {}
    for row in rows:
        costs[row.name] = min(row.first, row.later) if row.prompt in prompts else row.first
        prompts.add(row.prompt)
    for part in range(num):
        share = sum(cost for name, cost in costs.items() if owners[name] == part)
        assert share < sum(costs.values()) / num + 9
