from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.advantages import ADVANTAGES
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.metrics import gap_metrics, rollout_metrics

from ..strategies import make_tree, make_turn

CREDIT = LossConfig(credit="trajectory")


def group(*actions, parents=None):
    parents = [ROOT] * len(actions) if parents is None else parents
    return make_tree(parents, [make_turn(action=action) for action in actions])


def test_distinct_answers_are_those_at_the_start():
    """a, b and "unreadable"; then one answer, below which others do not count."""
    trees = [group("a", "b", "a", None, None), group("a", "b", "c", parents=[ROOT, 0, 0])]
    metrics = rollout_metrics(trees, CREDIT)
    assert metrics["rollout/distinct_answers"] == pytest.approx((3 + 1) / 2)


def test_cut_prompts_are_counted_against_all_responses():
    """3 of 10 + 2 responses were drawn under prompts that left something out."""
    trees = [
        replace(group("a", "b"), num_calls=10, num_cut_prompts=3),
        replace(group("a"), num_calls=2, num_cut_prompts=0),
    ]
    assert rollout_metrics(trees, CREDIT)["rollout/cut_prompts"] == pytest.approx(3 / 12)


def test_trees_made_without_calls_cut_nothing():
    assert rollout_metrics([group("a")], CREDIT)["rollout/cut_prompts"] == 0


def scored_batch(*turns: tuple[int, list[float]]) -> Batch:
    """A group of such turns: proposal index, and how much likelier x finds each of its tokens."""
    made = [
        make_turn(
            response_ids=tuple(range(10, 10 + len(gaps))),
            sampling_logprobs=(-1.0,) * len(gaps),
            proposal_index=index,
            reward=float(place == 0),
        )
        for place, (index, gaps) in enumerate(turns)
    ]
    tree = make_tree([ROOT] * len(made), made)
    batch = collate([tree], [ADVANTAGES["trajectory"](tree, CREDIT)], 0)
    old = batch.sampling_logprobs.clone()
    for row, (_, gaps) in enumerate(turns):
        old[row, 2 : 2 + len(gaps)] += torch.tensor(gaps)
    return replace(batch, old_logprobs=old)


def test_gaps_are_means_by_place_and_ignored_ones_are_within_a_hundredth():
    """Of the four that were not drawn under x alone, the two with .005 and -.002 are ignored."""
    batch = scored_batch(
        (0, [0.0]), (1, [0.002, 0.003]), (1, [-0.5, -1.5]), (2, [-0.002]), (2, [0.3])
    )
    metrics = gap_metrics(batch)
    assert metrics.pop("gap/ignored") == pytest.approx(2 / 4)
    expected = {"gap/proposal_1": 0.0, "gap/proposal_2": -0.9975, "gap/proposal_3": 0.149}
    assert metrics == pytest.approx(expected, abs=1e-5)


def test_tokens_that_move_apart_are_not_ignored_one_by_one():
    """Each of 8 tokens moves by .004 only, the turn by .032."""
    assert gap_metrics(scored_batch((0, [0.0]), (1, [0.004] * 8)))["gap/ignored"] == 0.0


def test_where_all_is_drawn_under_x_nothing_can_be_ignored():
    assert set(gap_metrics(scored_batch((0, [0.0]), (0, [0.0])))) == {"gap/proposal_1"}


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=2, max_size=8))
def test_the_ignored_share_counts_turns_after_the_first_alone(turns):
    # On the bound itself, the rounding of single floats decides.
    turns = [(index, gap) for index, gap in turns if abs(abs(gap) - 0.01) > 1e-4]
    later = [abs(gap) < 0.01 for index, gap in turns if index > 0]
    if len(turns) < 2 or not later:
        return
    metrics = gap_metrics(scored_batch(*((index, [gap]) for index, gap in turns)))
    assert metrics["gap/ignored"] == pytest.approx(sum(later) / len(later))
    numbers = {f"gap/proposal_{index + 1}" for index, _ in turns}
    assert set(metrics) == numbers | {"gap/ignored"}
