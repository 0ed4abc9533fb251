"""Credit by turns that met in the same situation: GiGPO and HGPO."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.advantages import group_advantages, trajectory_credit
from sesa_agent.training.anchor_credit import gigpo_credit, hgpo_credit, step_advantages

from ..helpers.credits import credit_of
from ..helpers.runs import make_config, read_metrics, run
from ..helpers.strategies import make_tree, make_turn, trees

CENTRED = LossConfig(discount=0.5, normalize_std=False, aggregate="token")


def approx(values):
    return pytest.approx(values, abs=1e-9)


def net(credit):
    return credit.positive + credit.negative


def meeting_tree():
    """Two rollouts: start, door (wins) and start, wall, start (loses); the start is met thrice."""
    places = ["start", "door", "start", "wall", "start"]
    turns = [make_turn(observation=place) for place in places]
    turns[1] = make_turn(observation="door", reward=1.0)
    return make_tree([ROOT, 0, ROOT, 2, 3], turns)


def test_gigpo_by_hand():
    # Episodes 1 and 0, mean .5. From the start on: .5 (one turn before the win), 0 and 0, mean 1/6.
    credit = credit_of(gigpo_credit, meeting_tree(), CENTRED)
    assert net(credit) == approx([0.5 + 1 / 3, 0.5, -0.5 - 1 / 6, -0.5, -0.5 - 1 / 6])
    assert (credit.weight.tolist(), credit.denominator) == ([1.0] * 5, 5.0)


def test_gigpo_divides_both_comparisons_by_what_they_spread():
    cfg = LossConfig(discount=0.5, aggregate="token")
    episode = group_advantages(np.array([1.0, 0.0]))
    step = group_advantages(np.array([0.5, 0.0, 0.0]))
    expected = [episode[0] + step[0], episode[0], episode[1] + step[1], episode[1]]
    credit = credit_of(gigpo_credit, meeting_tree(), cfg)
    assert net(credit) == approx([*expected, expected[2]])


def test_an_unreadable_response_costs_at_its_own_turn():
    turns = [make_turn(observation=o, action=a) for o, a in [("a", "up"), ("b", None), ("b", "up")]]
    cfg = LossConfig(discount=1.0, normalize_std=False, aggregate="token", format_penalty=0.5)
    credit = credit_of(gigpo_credit, make_tree([ROOT, 0, ROOT], turns), cfg)
    # Episodes -.5 and 0, mean -.25; at b -.5 and 0, mean -.25; at a nothing to compare with.
    assert net(credit) == approx([-0.25, -0.5, 0.5])


def test_hgpo_by_hand():
    # From the third turn on: 1, 0 and 0. The last observation is c for all, mean 1/3; the last two
    # are b, c for the first two, mean 1/2; the last three nowhere equal. Weights 2 and 3.
    observations = [["a", "b", "c"], ["x", "b", "c"], ["a", "y", "c"]]
    to_go = [np.array([0.0, 0.0, value]) for value in (1.0, 0.0, 0.0)]
    result = step_advantages(observations, to_go, CENTRED, history_length=2)
    assert [turns[2] for turns in result] == approx(
        [(2 * 2 / 3 + 3 / 2) / 5, (-2 / 3 - 1.5) / 5, -1 / 3]
    )
    assert [turns[:2].tolist() for turns in result] == [[0.0, 0.0]] * 3


@st.composite
def rollouts(draw):
    """A group of independent rollouts, each a list of observations and rewards."""
    turn = st.tuples(st.sampled_from("abcd"), st.sampled_from([0.0, 1.0, -0.1]))
    tree = make_tree([], [])
    for episode in draw(st.lists(st.lists(turn, min_size=1, max_size=5), min_size=1, max_size=5)):
        node = ROOT
        for observation, reward in episode:
            node = tree.add(node, make_turn(observation=observation, reward=reward))
    return tree


@given(rollouts(), st.sampled_from(["token", "trajectory"]))
def test_where_no_situation_repeats_gigpo_is_grpo(tree, aggregate):
    turns = [replace(turn, observation=f"{node}") for node, turn in enumerate(tree.turns)]
    tree, cfg = replace(tree, turns=turns), LossConfig(format_penalty=0.1, aggregate=aggregate)
    gigpo, grpo = (credit_of(rule, tree, cfg) for rule in (gigpo_credit, trajectory_credit))
    assert net(gigpo) == approx(net(grpo)) and gigpo.weight == approx(grpo.weight)
    assert gigpo.denominator == grpo.denominator


@given(rollouts())
def test_without_history_hgpo_is_the_step_part_of_gigpo(tree):
    cfg = LossConfig(aggregate="token")
    gigpo, grpo = (credit_of(rule, tree, cfg) for rule in (gigpo_credit, trajectory_credit))
    observations = [[turn.observation for turn in t.turns] for t in tree.trajectories()]
    to_go = []
    for trajectory in tree.trajectories():
        rewards = [turn.reward for turn in trajectory.turns]
        powers = cfg.discount ** np.arange(len(rewards))
        to_go.append(
            np.array([rewards[t:] @ powers[: len(rewards) - t] for t in range(len(rewards))])
        )
    steps = np.zeros(len(tree))
    for leaf, along in zip(
        tree.leaves(), step_advantages(observations, to_go, cfg, history_length=0), strict=True
    ):
        steps[tree.path(leaf)] = along
    assert net(gigpo) - net(grpo) == approx(steps)


@given(trees())
def test_in_any_tree_a_turn_weighs_as_with_grpo(tree):
    """A turn that several trajectories share meets itself in each of them."""
    cfg = LossConfig(format_penalty=0.1)
    for rule in (gigpo_credit, hgpo_credit):
        credit, grpo = credit_of(rule, tree, cfg), credit_of(trajectory_credit, tree, cfg)
        assert credit.weight == approx(grpo.weight) and credit.denominator == grpo.denominator
        assert (credit.positive >= 0).all() and (credit.negative <= 0).all()
        assert np.isfinite(net(credit)).all()


def test_the_presets_are_those_of_the_sources():
    gigpo, hgpo = load_config("sokoban", "gigpo"), load_config("sokoban", "hgpo")
    assert (gigpo.loss.credit, gigpo.loss.discount, gigpo.loss.kl_coef) == ("gigpo", 0.95, 0.01)
    assert (gigpo.loss.normalize_std, hgpo.loss.normalize_std) == (False, True)
    assert gigpo.sampling.name == "parallel"


@pytest.mark.parametrize("method", ["gigpo", "hgpo"])
def test_two_steps_run(llama, tmp_path, method):
    run(make_config(llama, "sampling.num_tasks=6", "optim.lr=0.01", method=method), tmp_path)
    assert [line["train/tokens"] > 0 for line in read_metrics(tmp_path)] == [True, True]
