import doctest
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training import pass_at_k
from sesa_agent.training.advantages import ADVANTAGES, group_advantages, trajectory_credit
from sesa_agent.training.pass_at_k import pass_at_k_advantages

from ..helpers.credits import credit_of
from ..helpers.strategies import make_tree, make_turn, trees

returns_G = st.lists(st.sampled_from([0.0, 1.0, 0.5, -0.1, -0.2]), min_size=1, max_size=7)


def approx(values):
    return pytest.approx(values, abs=1e-5)


@pytest.mark.parametrize(
    ("num_wins", "win", "failure"),
    [
        # Of the C(4, 2) = 6 pairs 3 hold the lone success: p = 1/2, s = 1/2. All pairs with it win:
        # (1 - 1/2) / s = 1. Of a failure's 3 pairs one does: (1/3 - 1/2) / s = -1/3.
        (1, 1.0, -1 / 3),
        # 5 of 6 pairs win: p = 5/6, s = sqrt(5)/6. (1/6) / s = 1/sqrt(5); a failure's pairs win in
        # 2 cases of 3: (2/3 - 5/6) / s = -1/sqrt(5).
        (2, 5**-0.5, -(5**-0.5)),
        (3, 0.0, 0.0),  # every pair wins
        (0, 0.0, 0.0),
    ],
)
def test_pass_at_2_of_four_by_hand(num_wins, win, failure):
    returns = np.array([1.0] * num_wins + [0.0] * (4 - num_wins))
    expected = [win] * num_wins + [failure] * (4 - num_wins)
    assert pass_at_k_advantages(returns, 2) == approx(expected)


@given(returns_G, st.integers(1, 8), st.booleans())
def test_advantages_are_those_of_all_subsets_counted_one_by_one(returns, k, normalize_std):
    result = pass_at_k_advantages(np.array(returns), k, normalize_std)
    if k >= len(returns):
        assert (result == 0).all()
        return
    subsets = list(combinations(range(len(returns)), k))
    rewards = np.array([max(returns[i] for i in subset) for subset in subsets])
    with_i = [
        np.mean([r for r, subset in zip(rewards, subsets, strict=True) if i in subset])
        for i in range(len(returns))
    ]
    expected = (np.array(with_i) - rewards.mean()) / (rewards.std() + 1e-6 if normalize_std else 1)
    assert result == pytest.approx(expected, abs=1e-6)


@given(returns_G.filter(lambda returns: len(returns) > 1))
def test_the_best_of_one_is_grpo(returns):
    expected = group_advantages(np.array(returns))
    assert pass_at_k_advantages(np.array(returns), 1) == pytest.approx(expected, abs=1e-6)


@given(returns_G, st.integers(1, 8))
def test_advantages_are_centred_and_the_better_return_is_never_worse_off(returns, k):
    result = pass_at_k_advantages(np.array(returns), k)
    assert result.sum() == approx(0)
    assert (np.diff(result[np.argsort(returns)]) >= -1e-9).all()


def test_a_lone_success_counts_more_than_one_of_many():
    lone, common = ([1.0] * num + [0.0] * (16 - num) for num in (1, 8))
    for returns in (lone, common):
        grpo = group_advantages(np.array(returns))[0]
        assert pass_at_k_advantages(np.array(returns), 4)[0] < grpo
    by_k = [pass_at_k_advantages(np.array(lone), k)[0] for k in (1, 4, 12)]
    assert by_k == sorted(by_k, reverse=True)
    share = pass_at_k_advantages(np.array(common), 4)[0] / group_advantages(np.array(common))[0]
    assert share < 0.25 < by_k[1] / by_k[0]


def test_the_credit_of_four_rollouts_by_hand():
    """Wins 1 and failures -1/3 of the first case above, each token 1/4 (one token a rollout)."""
    tree = make_tree([ROOT] * 4, [make_turn(reward=r) for r in (1, 0, 0, 0)])
    cfg = LossConfig(credit="pass_at_k", pass_k=2, aggregate="token")
    credit = credit_of(ADVANTAGES[cfg.credit], tree, cfg)
    assert credit.positive == approx([1, 0, 0, 0])
    assert credit.negative == approx([0, -1 / 3, -1 / 3, -1 / 3])
    assert (credit.weight.tolist(), credit.denominator) == ([1, 1, 1, 1], 4)


@given(trees(), st.sampled_from(["trajectory", "token"]))
def test_pass_at_1_credits_a_tree_as_grpo_does(tree, aggregate):
    cfg = LossConfig(credit="pass_at_k", pass_k=1, aggregate=aggregate)
    credit, expected = (
        credit_of(ADVANTAGES["pass_at_k"], tree, cfg),
        credit_of(trajectory_credit, tree, cfg),
    )
    assert credit.positive == pytest.approx(expected.positive, abs=1e-6)
    assert credit.negative == pytest.approx(expected.negative, abs=1e-6)
    assert credit.weight.tolist() == expected.weight.tolist()
    assert credit.denominator == expected.denominator


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least one return"):
        pass_at_k_advantages(np.array([]), 1)
    with pytest.raises(ValueError, match=r"loss\.pass_k must be at least 1, got 0"):
        pass_at_k_advantages(np.array([1.0, 0.0]), 0)
    with pytest.raises(SettingError, match=r"loss\.pass_k must be below sampling.max_trajectories"):
        load_config("sokoban", "ragen-pass-at-k", ["loss.pass_k=16"])


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(pass_at_k).failed == 0
