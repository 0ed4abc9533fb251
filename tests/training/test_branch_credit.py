"""Credit rules of other methods that branch, and MaxRL's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.advantages import (
    ADVANTAGES,
    group_advantages,
    trajectory_credit,
    tree_credit,
)
from sesa_agent.training.branch_credit import (
    spo_tree_credit,
    tree_grpo_credit,
    tree_po_credit,
    tree_rl_credit,
)
from sesa_agent.training.credit import num_leaves_below
from sesa_agent.training.max_rl import max_rl_advantages

from ..helpers.credits import credit_of
from ..helpers.runs import make_config, read_metrics, run
from ..helpers.strategies import make_tree, make_turn, trees

CENTRED = LossConfig(normalize_std=False, aggregate="token")
NORMALISED = LossConfig(aggregate="token")
RIVALS = ("tree_grpo", "tree_po", "tree_rl", "spo_tree", "max_rl")


def approx(values):
    return pytest.approx(values, abs=1e-9)


def net(credit):
    return credit.positive + credit.negative


def forked_tree():
    """Start -> a -> {b wins, c fails}; start -> d fails. Returns 1, 0, 0: mean 1/3."""
    rewards = [0.0, 1.0, 0.0, 0.0]
    turns = [make_turn(reward=reward, success=reward > 0) for reward in rewards]
    return make_tree([ROOT, 0, 0, ROOT], turns)


def rollouts(returns):
    """Independent rollouts of one turn each."""
    turns = [make_turn(reward=value, success=value > 0.5) for value in returns]
    return make_tree([ROOT] * len(returns), turns)


def test_tree_grpo_by_hand():
    # Among all: 2/3, -1/3, -1/3. In the tree of a: b 1/2, c -1/2; d is alone in its own.
    credit = credit_of(tree_grpo_credit, forked_tree(), CENTRED)
    b, c, d = 2 / 3 + 1 / 2, -1 / 3 - 1 / 2, -1 / 3
    assert net(credit) == approx([b + c, b, c, d])
    assert (credit.positive[0], credit.negative[0]) == (approx(b), approx(c))


def test_tree_po_by_hand():
    # b: mean of 1 - 1/3 and 1 - 1/2; c: of -1/3 and -1/2; d: -1/3, as nothing else begins with d.
    credit = credit_of(tree_po_credit, forked_tree(), CENTRED)
    b, c, d = 7 / 12, -5 / 12, -1 / 3
    assert net(credit) == approx([b + c, b, c, d])


def test_tree_po_averages_as_its_figure_3():
    """Eight leaves, half of them won; c2 holds three of four, c22 both of its two."""
    wins = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0]
    tree = make_tree([ROOT, ROOT, 0, 0, 1, 1], [make_turn() for _ in range(6)])
    for place, win in enumerate(wins):
        tree.add(2 + place // 2, make_turn(reward=win))
    credit = credit_of(tree_po_credit, tree, CENTRED)
    # The third leaf: 1 - 0, 1 - 1/2 and 1 - 1.
    assert net(credit)[8] == approx((1 + 0.5 + 0) / 3)


def test_tree_rl_by_hand():
    # Leave-one-out: 1 - 0, 0 - 1/2, 0 - 1/2. V(a) = 1/4.
    credit = credit_of(tree_rl_credit, forked_tree(), CENTRED)
    a, b, c, d = 2 * 0.25 / 2**0.5, 2 * 1 - 0.25, 2 * -0.5 - 0.25, 2 * -0.5
    assert net(credit) == approx([a, b, c, d])


def test_spo_tree_by_hand():
    # V: a 1/2, start (1/2 + 0) / 2 = 1/4.
    credit = credit_of(spo_tree_credit, forked_tree(), CENTRED)
    assert net(credit) == approx([0.25, 0.5, -0.5, -0.25])
    assert credit.denominator == 4


def test_spo_tree_drops_turns_without_an_advantage():
    turns = [make_turn(reward=r) for r in (0.0, 1.0, 1.0, 0.0)]
    credit = credit_of(spo_tree_credit, make_tree([ROOT, 0, 0, ROOT], turns), CENTRED)
    assert net(credit) == approx([0.5, 0.0, 0.0, -0.5])
    assert (credit.weight.tolist(), credit.denominator) == ([1.0, 0.0, 0.0, 1.0], 2.0)


def test_max_rl_by_hand():
    credit = credit_of(ADVANTAGES["max_rl"], rollouts([1.0, 0.2, -0.1, -0.1]), CENTRED)
    assert net(credit) == approx([3.0, -1.0, -1.0, -1.0])  # a return of .2 is no success
    assert (max_rl_advantages(np.zeros(3)) == 0).all() and (
        max_rl_advantages(np.ones(3)) == 0
    ).all()
    with pytest.raises(ValueError, match="at least 0"):
        max_rl_advantages(np.array([-1.0, 1.0]))


@given(st.integers(1, 7), st.integers(2, 8))
def test_max_rl_times_the_success_rate_is_grpo_without_its_divisor(num_wins, num):
    wins = np.array([1.0] * min(num_wins, num) + [0.0] * max(0, num - num_wins))
    expected = group_advantages(wins, normalize_std=False)
    assert max_rl_advantages(wins) * wins.mean() == approx(expected)


@pytest.mark.parametrize("cfg", [CENTRED, NORMALISED], ids=["centred", "normalised"])
@given(st.lists(st.sampled_from([0.0, 1.0, -0.1]), min_size=1, max_size=6))
def test_for_independent_rollouts_all_are_grpo(cfg, returns):
    """TreeRL is twice that, for its two comparisons, times n / (n - 1)."""
    tree = rollouts(returns)
    expected = net(credit_of(trajectory_credit, tree, cfg))
    for rule in (tree_grpo_credit, tree_po_credit, spo_tree_credit):
        assert net(credit_of(rule, tree, cfg)) == pytest.approx(expected, abs=1e-5)
    num = len(returns)
    twice = 2 * expected * num / max(num - 1, 1)
    assert net(credit_of(tree_rl_credit, tree, cfg)) == pytest.approx(twice, abs=1e-5)


@given(trees())
def test_tree_credit_is_tree_rl_without_its_weight(tree):
    ours, theirs = (credit_of(rule, tree, NORMALISED) for rule in (tree_credit, tree_rl_credit))
    num = len(tree.leaves())
    factor = num / max(num - 1, 1) / np.sqrt(num_leaves_below(tree))
    assert net(theirs) == pytest.approx(net(ours) * factor, abs=1e-6)
    assert (ours.weight == theirs.weight).all()


@given(trees())
def test_sibling_advantages_of_spo_tree_cancel(tree):
    credit = credit_of(spo_tree_credit, tree, CENTRED)
    for siblings in tree.children().values():
        assert net(credit)[siblings].sum() == approx(0.0)


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "max_rl"])
@given(trees(), st.floats(-1, 1))
def test_equal_returns_teach_nothing(name, tree, value):
    returns = np.full(len(tree.leaves()), value)
    credit = ADVANTAGES[name](tree, returns, LossConfig())
    assert (net(credit) == 0).all()


@pytest.mark.parametrize("name", RIVALS)
def test_two_steps_run_with_our_tree(llama, tmp_path, name):
    words = (f"loss.credit={name}", "sampling.num_tasks=6", "optim.lr=0.01")
    run(make_config(llama, *words), tmp_path)
    assert max(line["train/tokens"] for line in read_metrics(tmp_path)) > 0


def test_two_steps_run_with_max_rl(llama, tmp_path):
    run(make_config(llama, "sampling.num_tasks=6", "optim.lr=0.01", method="maxrl"), tmp_path)
    assert len(read_metrics(tmp_path)) == 2
