import doctest
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training import advantages
from sesa_agent.training.advantages import (
    ADVANTAGES,
    best_credit,
    drop_if_flat,
    filter_groups,
    group_advantages,
    has_signal,
    leaf_returns,
    punish_overlong,
    standard_deviation,
    trajectory_credit,
    tree_credit,
)
from sesa_agent.training.batch import collate

from ..helpers.credits import credit_of
from ..helpers.strategies import make_tree, make_turn, trees

returns_G = st.lists(st.floats(-10, 10), min_size=1, max_size=8)


def approx(values):
    return pytest.approx(values, abs=1e-6)


def forked_tree():
    """Start -> a (2 tokens) -> {b wins (1 token), c fails (3 tokens)}; start -> d fails (2)."""
    lengths, rewards = [2, 1, 3, 2], [0.0, 1.0, 0.0, 0.0]
    turns = [
        make_turn(response_ids=(7,) * n, reward=r, success=r > 0)
        for n, r in zip(lengths, rewards, strict=True)
    ]
    return make_tree([ROOT, 0, 0, ROOT], turns)


def test_group_advantages_by_hand():
    # mean 1, deviations (2, 0, 0, -2), population variance (4 + 0 + 0 + 4) / 4 = 2
    assert group_advantages(np.array([3.0, 1.0, 1.0, -1.0])) == approx(
        np.array([2.0, 0.0, 0.0, -2.0]) / (np.sqrt(2) + 1e-6)
    )
    assert group_advantages(np.array([1.0, 0, 0, 0]), normalize_std=False) == approx(
        [0.75, -0.25, -0.25, -0.25]
    )
    assert group_advantages(np.array([1.0, 0, 0, 0]), "max", normalize_std=False) == approx(
        [0, -1, -1, -1]
    )


@pytest.mark.parametrize(
    ("returns", "kind", "expected"),
    [
        ([1.0, 0.0], "population", 0.5 / 0.5),  # squares (.25 + .25) / 2
        ([1.0, 0.0], "sample", 0.5 / 0.5**0.5),  # (.25 + .25) / 1: advantages 41 % smaller
        ([1.0] + [0.0] * 15, "population", 0.9375 / 0.2420615),  # 1/16 * 15/16
        ([1.0] + [0.0] * 15, "sample", 0.9375 / 0.25),  # 1/16
    ],
)
def test_standard_deviations_by_hand(returns, kind, expected):
    result = group_advantages(np.array(returns), kind=kind)
    assert result[0] == pytest.approx(expected, rel=1e-5)
    tree = make_tree([ROOT] * len(returns), [make_turn(reward=r) for r in returns])
    credit = credit_of(tree_credit, tree, LossConfig(aggregate="token", group_std=kind))
    assert credit.positive[0] == pytest.approx(2 * expected, rel=1e-5)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_the_sample_standard_deviation_is_that_of_torch(returns):
    values = np.array(returns)
    expected = torch.tensor(returns, dtype=torch.float64).std().item()
    assert standard_deviation(values, "sample") == approx(expected)
    assert standard_deviation(values, "population") == values.std()


@pytest.mark.parametrize("kind", ["population", "sample"])
def test_a_lone_return_teaches_nothing(kind):
    """Its sample standard deviation is 0 / 0."""
    assert group_advantages(np.array([3.0]), kind=kind).tolist() == [0.0]


@pytest.mark.parametrize("baseline", ["mean", "max"])
@given(st.floats(-10, 10), st.integers(1, 6))
def test_equal_returns_teach_nothing(baseline, value, num):
    assert (group_advantages(np.full(num, value), baseline) == 0).all()


@given(returns_G)
def test_advantages_are_finite_and_centred(returns_G):
    result = group_advantages(np.array(returns_G))
    assert np.isfinite(result).all()
    assert result.sum() == approx(0)


@given(returns_G)
def test_baseline_max_is_never_positive(returns_G):
    assert (group_advantages(np.array(returns_G), "max") <= 0).all()


def test_group_advantages_refuses_nonsense():
    with pytest.raises(ValueError, match="at least one"):
        group_advantages(np.array([]))
    with pytest.raises(ValueError, match=r"loss\.baseline .* 'median'"):
        group_advantages(np.array([1.0]), "median")
    with pytest.raises(ValueError, match=r"loss\.group_std .* 'unbiased'"):
        group_advantages(np.array([1.0, 0.0]), kind="unbiased")


def test_leaf_returns_subtract_a_penalty_for_unreadable_turns():
    turns = [
        make_turn(reward=-0.1, action=None),
        make_turn(reward=1.0),
        make_turn(reward=0.0, action=None),
    ]
    tree = make_tree([ROOT, 0, 0], turns)
    # leaf 1: -0.1 + 1 - 0.5; leaf 2: -0.1 + 0 - 2 * 0.5
    assert leaf_returns(tree, 0.5) == approx([0.4, -1.1])
    assert leaf_returns(tree, 0.0) == approx([0.9, -0.1])


def test_a_trajectory_without_an_action_is_never_better_than_the_others():
    turns = [
        make_turn(reward=-1.0),
        make_turn(action=None),  # an answer would have cost 1 or 2
        make_turn(reward=-2.0),
        make_turn(reward=-1.0),
        make_turn(action=None, merged_into=0),  # likewise, after a turn
    ]
    tree = make_tree([ROOT, ROOT, ROOT, 0, 0], turns)
    assert tree.leaves() == [1, 2, 3, 4]
    assert leaf_returns(tree, 0.0) == approx([-2.0, -2.0, -2.0, -2.0])
    assert leaf_returns(tree, 0.5) == approx([-2.5, -2.0, -2.0, -2.5])
    alone = make_tree([ROOT, ROOT], [make_turn(action=None)] * 2)
    assert leaf_returns(alone, 0.5) == approx([-0.5, -0.5])


@given(trees(), st.sampled_from([0.0, 0.1]))
def test_leaf_returns_agree_with_the_trajectories(tree, penalty):
    sums = [
        sum(turn.reward - penalty * (turn.action is None) for turn in trajectory.turns)
        for trajectory in tree.trajectories()
    ]
    mute = [
        path.turns[-1].action is None
        and (path.turns[-1].is_merged or {turn.action for turn in path.turns} == {None})
        for path in tree.trajectories()
    ]
    spoken = [total for total, is_mute in zip(sums, mute, strict=True) if not is_mute]
    worst = min(spoken, default=math.inf) - penalty
    expected = [
        min(total, worst) if is_mute else total for total, is_mute in zip(sums, mute, strict=True)
    ]
    assert leaf_returns(tree, penalty) == approx(expected)


def test_overlong_responses_are_punished_by_hand():
    # Limit 10, buffer 4: free up to 6 tokens, then a quarter more for each, 1 at the limit.
    lengths = [1, 6, 7, 8, 10, 12]
    tree = make_tree([ROOT] * 6, [make_turn(response_ids=(7,) * n, reward=0.5) for n in lengths])
    punished = punish_overlong(tree, 4, 10)
    assert [turn.reward for turn in punished.turns] == [0.5, 0.5, 0.25, 0, -0.5, -0.5]
    assert [turn.reward for turn in tree.turns] == [0.5] * 6
    assert not has_signal(leaf_returns(tree, 0.0))
    assert credit_of(trajectory_credit, punished, LossConfig()).negative[4] < 0


@given(trees(), st.integers(1, 4), st.integers(0, 4))
def test_a_punishment_is_between_0_and_1_and_changes_nothing_else(tree, max_tokens, buffer):
    buffer = min(buffer, max_tokens)
    punished = punish_overlong(tree, buffer, max_tokens)
    assert punished.parents == tree.parents
    for before, after in zip(tree.turns, punished.turns, strict=True):
        assert 0 <= before.reward - after.reward <= 1 + 1e-9
        assert replace(after, reward=before.reward) == before
        if len(before.response_ids) <= max_tokens - buffer:
            assert after == before
    assert buffer > 0 or punished is tree


def test_only_different_returns_are_a_signal():
    assert has_signal(leaf_returns(forked_tree(), 0.0))
    assert not has_signal(leaf_returns(make_tree([ROOT, ROOT]), 0.0))
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit.
    rewards = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]
    tree = make_tree([ROOT, 0, 1, ROOT, 3, 4], [make_turn(reward=r) for r in rewards])
    assert not has_signal(leaf_returns(tree, 0.0))


def test_rounding_of_large_returns_is_no_signal():
    """Sums of rewards of a million in another order differ by 1e-10 of it, more than 1e-9.

    Divided by their standard deviation they were advantages of full size.
    """
    rewards = [0.1e7, 0.2e7, 0.3e7, 0.3e7, 0.2e7, 0.1e7 + 1e-6]
    tree = make_tree([ROOT, 0, 1, ROOT, 3, 4], [make_turn(reward=r) for r in rewards])
    returns = leaf_returns(tree, 0.0)
    assert 1e-9 < np.ptp(returns) < 1e-5
    assert not has_signal(returns)
    assert not group_advantages(returns).any()
    assert has_signal(returns + [1.0, 0.0])
    assert filter_groups([returns - returns[0], returns], 0.5) == [0]


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_return_that_is_not_finite_is_refused(reward):
    """It passed for a signal, and one update made every weight NaN."""
    tree = make_tree([ROOT, ROOT], [make_turn(), make_turn(reward=reward)])
    with pytest.raises(ValueError, match=f"returns must be finite, got .*{reward}"):
        leaf_returns(tree, 0.0)


def test_filter_keeps_the_groups_that_spread_most():
    def group(*rewards):
        turns = [make_turn(reward=r) for r in rewards]
        return leaf_returns(make_tree([ROOT] * len(rewards), turns), 0.0)

    groups = [group(0, 0), group(0, 1), group(0, 5), group(0, 1)]
    assert filter_groups(groups, 0.5) == [1, 2]
    assert filter_groups(groups, 0.25) == [2]
    assert filter_groups(groups, 0.01) == [2]
    assert filter_groups(groups, 1.0) == [0, 1, 2, 3]
    # The same returns in another order: their spreads differ in the last bit.
    orders = [group(*rewards) for rewards in itertools.permutations((0.1, 0.2, 0.3, 0.7))]
    assert filter_groups(orders, 0.5) == list(range(12))
    assert filter_groups([], 0.5) == []


def test_trajectory_credit_by_hand():
    # Leaves b, c, d with returns 1, 0, 0: advantages 2/3, -1/3, -1/3; lengths 3, 5, 2.
    # a: S+ = 2/3 / 3, S- = -1/3 / 5, weight 1/3 + 1/5.
    credit = credit_of(trajectory_credit, forked_tree(), LossConfig(normalize_std=False))
    assert credit.positive == approx([2 / 9, 2 / 9, 0, 0])
    assert credit.negative == approx([-1 / 15, 0, -1 / 15, -1 / 6])
    assert credit.weight == approx([1 / 3 + 1 / 5, 1 / 3, 1 / 5, 1 / 2])
    assert credit.denominator == 3


def test_trajectory_credit_by_token_by_hand():
    # Every token weighs 1; 3 + 5 + 2 = 10 tokens, the two of a counted twice.
    credit = credit_of(
        trajectory_credit, forked_tree(), LossConfig(normalize_std=False, aggregate="token")
    )
    assert credit.positive == approx([2 / 3, 2 / 3, 0, 0])
    assert credit.negative == approx([-1 / 3, 0, -1 / 3, -1 / 3])
    assert credit.weight == approx([2, 1, 1, 1])
    assert credit.denominator == 10


def test_tree_credit_by_hand():
    # V(start) = 1/3; V(a) = 1/2, V(b) = 1, V(c) = 0, V(d) = 0; std of (1, 0, 0) = sqrt(2)/3.
    # A(a) = 2 (1/2 - 1/3) = 1/3; A(b) = (1 - 1/3) + (1 - 1/2) = 7/6;
    # A(c) = (0 - 1/3) + (0 - 1/2) = -5/6; A(d) = 2 (0 - 1/3) = -2/3.
    advantage = np.array([1 / 3, 7 / 6, -5 / 6, -2 / 3])
    lengths = np.array([2, 1, 3, 2])
    credit = credit_of(tree_credit, forked_tree(), LossConfig(normalize_std=False))
    assert credit.positive + credit.negative == approx(advantage / lengths)
    assert credit.weight == approx(1 / lengths)
    assert credit.denominator == 4
    credit = credit_of(tree_credit, forked_tree(), LossConfig(aggregate="token"))
    assert credit.positive + credit.negative == approx(advantage / (np.sqrt(2) / 3 + 1e-6))
    assert credit.weight == approx([1, 1, 1, 1])
    assert credit.denominator == 8


def test_best_credit_by_hand():
    # b wins at turn 2: V(b) = V(a) = .81, V(c) = V(d) = 0.
    # Siblings a, d: mean .405, so +-.81; the same for b, c.
    credit = credit_of(best_credit, forked_tree(), LossConfig(aggregate="token"))
    assert credit.positive == approx([0.81, 0.81, 0, 0])
    assert credit.negative == approx([0, 0, -0.81, -0.81])
    assert credit.denominator == 8
    credit = credit_of(best_credit, forked_tree(), LossConfig())
    assert credit.positive == approx([0.405, 0.81, 0, 0])
    assert credit.negative == approx([0, 0, -0.27, -0.405])
    assert credit.denominator == 4


def test_best_credit_teaches_against_unreadable_turns_with_and_without_a_success():
    cfg = LossConfig(aggregate="token", format_penalty=0.3)
    turns = [make_turn(action="a"), make_turn(action=None), make_turn(action="b")]
    credit = credit_of(best_credit, make_tree([ROOT] * 3, turns), cfg)
    assert credit.positive == approx([0.2, 0.0, 0.2])  # 2 (0 - -.1)
    assert credit.negative == approx([0.0, -0.4, 0.0])  # 2 (-.3 - -.1)
    turns[2] = make_turn(action="b", success=True)
    credit = credit_of(best_credit, make_tree([ROOT] * 3, turns), cfg)
    mean = (0 - 0.3 + 0.9) / 3
    assert credit.positive == approx([0.0, 0.0, 2 * (0.9 - mean)])
    assert credit.negative == approx([-2 * mean, -2 * (0.3 + mean), 0.0])
    alone = credit_of(best_credit, make_tree([ROOT], [make_turn(action=None)]), cfg)
    assert alone.negative == approx([-0.3])
    alike = credit_of(best_credit, make_tree([ROOT] * 2, [make_turn(action=None)] * 2), cfg)
    assert (alike.weight.any(), alike.denominator) == (False, 0.0)


def test_best_credit_of_an_only_child_is_its_value():
    turns = [make_turn(), make_turn(success=True)]
    credit = credit_of(best_credit, make_tree([ROOT, 0], turns), LossConfig())
    assert credit.positive == approx([0.81, 0.81])
    assert credit.negative == approx([0, 0])


def test_best_credit_prefers_the_shorter_way():
    # a wins at turn 1 (.9), b's child at turn 2 (.81): mean .855, advantages +-.09.
    turns = [make_turn(success=True), make_turn(), make_turn(success=True)]
    credit = credit_of(best_credit, make_tree([ROOT, ROOT, 1], turns), LossConfig())
    assert credit.positive + credit.negative == approx([0.09, -0.09, 0.81])


def test_best_credit_teaches_nothing_without_a_success_and_gives_repeats_no_value():
    turns = [make_turn(success=True), make_turn(), make_turn(), make_turn(merged_into=ROOT)]
    credit = credit_of(best_credit, make_tree([ROOT, ROOT, 1, 1], turns), LossConfig())
    assert credit.weight == approx([1, 1, 0, 0])
    assert credit.denominator == 2
    turns = [make_turn(success=True, merged_into=ROOT), make_turn(success=True)]
    credit = credit_of(best_credit, make_tree([ROOT, ROOT], turns), LossConfig())
    assert credit.positive + credit.negative == approx([-0.9, 0.9])
    credit = credit_of(best_credit, make_tree([ROOT]), LossConfig())
    assert credit.denominator == 0


@pytest.mark.parametrize("name", ["trajectory", "tree"])
def test_a_tree_of_one_trajectory_teaches_nothing(name):
    tree = make_tree([ROOT, 0, 1], [make_turn(reward=0.1) for _ in range(3)])
    credit = credit_of(ADVANTAGES[name], tree, LossConfig())
    assert not credit.positive.any()
    assert not credit.negative.any()
    assert credit.weight.all()


@pytest.mark.parametrize("name", list(ADVANTAGES))
@given(tree=trees(), aggregate=st.sampled_from(["trajectory", "token"]), std=st.booleans())
def test_credit_keeps_its_signs(name, tree, aggregate, std):
    credit = credit_of(ADVANTAGES[name], tree, LossConfig(aggregate=aggregate, normalize_std=std))
    for values in (credit.positive, credit.negative, credit.weight):
        assert values.shape == (len(tree),)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
    assert (credit.positive >= 0).all()
    assert (credit.negative <= 0).all()
    untaught = credit.weight == 0
    assert not credit.positive[untaught].any()
    assert not credit.negative[untaught].any()
    # In units of the denominator the token weights of all turns add up to 1, if any is taught.
    lengths = np.array([len(turn.response_ids) for turn in tree.turns])
    assert (credit.weight * lengths).sum() == approx(credit.denominator)


@pytest.mark.parametrize("name", list(ADVANTAGES))
@pytest.mark.parametrize("aggregate", ["trajectory", "token"])
def test_responses_without_a_token_leave_credit_finite(name, aggregate):
    turns = [make_turn(response_ids=(), reward=r, success=r > 0) for r in (1.0, 0.0)]
    credit = credit_of(
        ADVANTAGES[name], make_tree([ROOT, ROOT], turns), LossConfig(aggregate=aggregate, pass_k=1)
    )
    assert np.isfinite([credit.positive, credit.negative, credit.weight]).all()
    assert np.isfinite(credit.denominator)


@given(trees())
def test_tree_credit_of_independent_rollouts_is_twice_grpo(tree):
    """Where nothing branches below the start, V(c) is the return of c: A(c) = 2 (R - mean)."""
    flat = make_tree([ROOT] * len(tree), tree.turns)
    cfg = LossConfig(aggregate="token")
    grpo, doubled = credit_of(trajectory_credit, flat, cfg), credit_of(tree_credit, flat, cfg)
    assert doubled.positive == approx(2 * grpo.positive)
    assert doubled.negative == approx(2 * grpo.negative)


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(advantages).failed == 0


def test_a_flat_group_has_no_rows_and_the_others_are_taught_the_same():
    """Returns (1, 0) and (1, 1): 4 rows carry the bonus, then 2; a mean over 4 stays one over 4."""
    groups = [
        make_tree([ROOT, ROOT], [make_turn(reward=1.0), make_turn(reward=reward)])
        for reward in (0.0, 1.0)
    ]
    credits = [credit_of(trajectory_credit, group, LossConfig()) for group in groups]
    dropped = [drop_if_flat(credit) for credit in credits]
    whole = collate(groups, credits, 0, keep_zero_advantage=True)
    kept = collate(groups, dropped, 0, keep_zero_advantage=True)
    assert (len(whole), len(kept)) == (4, 2)
    for name in ("token_ids", "positive", "negative", "weight", "loss_mask"):
        assert torch.equal(getattr(kept, name), getattr(whole, name)[:2]), name
    # Advantages 1 and -1; each response of one token weighs 1, divided by 4 trajectories.
    assert kept.positive[kept.loss_mask].tolist() == approx([1 / 4, 0])
    assert kept.negative[kept.loss_mask].tolist() == approx([0, -1 / 4])
    assert len(collate(groups[1:], dropped[1:], 0, keep_zero_advantage=True)) == 0


def test_equal_returns_of_which_one_came_sooner_are_not_flat():
    turns = [make_turn(success=True), make_turn(), make_turn(success=True)]
    credit = credit_of(best_credit, make_tree([ROOT, ROOT, 1], turns), LossConfig())
    assert drop_if_flat(credit) is credit
