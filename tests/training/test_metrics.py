from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.advantages import ADVANTAGES
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.metrics import gap_metrics, rollout_metrics, variety_metrics
from sesa_agent.training.tree_summary import summarize

from ..helpers.credits import credit_of
from ..helpers.strategies import make_tree, make_turn

CREDIT = LossConfig(credit="trajectory")


def group(*actions, parents=None):
    parents = [ROOT] * len(actions) if parents is None else parents
    return make_tree(parents, [make_turn(action=action) for action in actions])


def summaries(trees, format_penalty=0.0):
    return [summarize(tree, format_penalty, max_tokens=9) for tree in trees]


def describe(trees):
    return rollout_metrics(summaries(trees))


def test_distinct_answers_are_those_at_the_start():
    """a and b, without the unreadable ones; then one answer, below which others do not count."""
    trees = [group("a", "b", "a", None, None), group("a", "b", "c", parents=[ROOT, 0, 0])]
    metrics = describe(trees)
    assert metrics["rollout/distinct_answers"] == pytest.approx((2 + 1) / 2)


def test_groups_that_differ_in_format_alone_are_told_apart():
    trees = [group("a", None), group("a", "b"), group(None, None)]
    metrics = rollout_metrics(summaries(trees, format_penalty=0.1))
    assert metrics["rollout/signal_groups"] == pytest.approx(1 / 3)
    assert metrics["rollout/format_groups"] == pytest.approx(1 / 3)
    assert describe(trees)["rollout/format_groups"] == 0


def test_cut_prompts_are_counted_against_all_responses():
    """3 of 10 + 2 responses were drawn under prompts that left something out."""
    trees = [
        replace(group("a", "b"), num_calls=10, num_cut_prompts=3),
        replace(group("a"), num_calls=2, num_cut_prompts=0),
    ]
    assert describe(trees)["rollout/cut_prompts"] == pytest.approx(3 / 12)


def test_trees_made_without_calls_cut_nothing():
    assert describe([group("a")])["rollout/cut_prompts"] == 0


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
    batch = collate([tree], [credit_of(ADVANTAGES["trajectory"], tree, CREDIT)], 0)
    old = batch.sampling_logprobs.clone()
    for row, (_, gaps) in enumerate(turns):
        old[row, 2 : 2 + len(gaps)] += torch.tensor(gaps)
    return replace(batch, old_logprobs=old)


def proposal_gaps(batch):
    """Those of the method, without the engine's."""
    return {k: v for k, v in gap_metrics(batch).items() if not k.startswith("gap/engine")}


def test_gaps_are_means_by_place_and_ignored_ones_are_within_a_hundredth():
    """Of the four that were not drawn under x alone, the two with .005 and -.002 are ignored."""
    batch = scored_batch(
        (0, [0.0]), (1, [0.002, 0.003]), (1, [-0.5, -1.5]), (2, [-0.002]), (2, [0.3])
    )
    metrics = proposal_gaps(batch)
    assert metrics.pop("gap/ignored") == pytest.approx(2 / 4)
    expected = {"gap/proposal_1": 0.0, "gap/proposal_2": -0.9975, "gap/proposal_3": 0.149}
    assert metrics == pytest.approx(expected, abs=1e-5)


def test_tokens_that_move_apart_are_not_ignored_one_by_one():
    """Each of 8 tokens moves by .004 only, the turn by .032."""
    assert gap_metrics(scored_batch((0, [0.0]), (1, [0.004] * 8)))["gap/ignored"] == 0.0


def test_where_all_is_drawn_under_x_nothing_can_be_ignored():
    assert set(proposal_gaps(scored_batch((0, [0.0]), (0, [0.0])))) == {"gap/proposal_1"}


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=2, max_size=8))
def test_the_ignored_share_counts_turns_after_the_first_alone(turns):
    # On the bound itself, the rounding of single floats decides.
    turns = [(index, gap) for index, gap in turns if abs(abs(gap) - 0.01) > 1e-4]
    later = [abs(gap) < 0.01 for index, gap in turns if index > 0]
    assume(len(turns) >= 2 and later)
    metrics = proposal_gaps(scored_batch(*((index, [gap]) for index, gap in turns)))
    assert metrics["gap/ignored"] == pytest.approx(sum(later) / len(later))
    numbers = {f"gap/proposal_{index + 1}" for index, _ in turns}
    assert set(metrics) == numbers | {"gap/ignored"}


def attempts(*wins, prompt=(1, 2)):
    """A group of independent one-turn rollouts; losers say the same, winners too."""
    turns = [
        make_turn(success=bool(won), action="right" if won else "wrong", prompt_ids=prompt)
        for won in wins
    ]
    return make_tree([ROOT] * len(turns), turns)


def test_the_ratio_tells_what_further_attempts_find():
    """pass@1 = (1/4 + 0 + 4/4) / 3 = 5/12; of 4 attempts 2 of the 3 groups have one that wins."""
    trees = [attempts(0, 1, 0, 0), attempts(0, 0, 0, 0), attempts(1, 1, 1, 1)]
    assert variety_metrics(summaries(trees))["rollout/pass_ratio"] == pytest.approx(
        (2 / 3) / (5 / 12)
    )


def test_the_ratio_is_unbiased_beyond_16_attempts():
    """A group of 18 with one success: 16 of 18 hold it with chance 16 / 18, one with 1 / 18."""
    assert variety_metrics(summaries([attempts(1, *[0] * 17)]))[
        "rollout/pass_ratio"
    ] == pytest.approx(16)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_ratio_lies_between_1_and_its_bounds(groups):
    metrics = variety_metrics(summaries([attempts(*group) for group in groups]))
    rate = sum(map(sum, groups)) / (4 * len(groups))
    assert ("rollout/pass_ratio" in metrics) == (rate > 0)
    if rate:
        assert 1 - 1e-9 <= metrics["rollout/pass_ratio"] <= min(4, 1 / rate) + 1e-9


def test_groups_of_one_attempt_have_no_ratio():
    assert variety_metrics(summaries([attempts(1)])) == {}


def test_actions_are_compared_within_a_group_and_a_prompt():
    """First group: at the start a, a, b (pairs 1, 2, 2), then twice None (1); the rest met once.

    Second group: the same first prompt, with one action only: a mean of 1.
    """
    start, below, other = (1,), (1, 5), (1, 6)
    turns = [
        make_turn(action=action, prompt_ids=prompt)
        for action, prompt in (
            *(("a", start), ("a", start), ("b", start)),
            *((None, below), (None, below), ("c", other)),
        )
    ]
    first = make_tree([ROOT, ROOT, ROOT, 0, 1, 2], turns)
    second = make_tree([ROOT, ROOT], [make_turn(action="b", prompt_ids=start)] * 2)
    metrics = variety_metrics(summaries([first, second]))
    assert metrics == {"rollout/actions_per_state": pytest.approx((5 / 3 + 1 + 1) / 3)}


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=9))
def test_actions_of_two_do_not_depend_on_how_often_a_prompt_is_met(actions):
    """As the mean over all pairs, which any number of visits estimates without bias."""
    tree = make_tree([ROOT] * len(actions), [make_turn(action=action) for action in actions])
    pairs = [len({one, other}) for one, other in combinations(actions, 2)]
    found = variety_metrics(summaries([tree]))["rollout/actions_per_state"]
    assert found == pytest.approx(sum(pairs) / len(pairs))
