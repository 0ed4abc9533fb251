"""The experiments with a pre-trained model: equal budgets, a warm start for every seed."""

from itertools import groupby

import pytest

from sesa_agent.evaluation.experiments.arms import BASE, WARM_START, resolve_arm
from sesa_agent.evaluation.experiments.paper import ROLLOUT, Metric
from sesa_agent.evaluation.experiments.real_llm import (
    CALLS,
    GAMES,
    NUM_SEEDS,
    QUICK_SHARE,
    RIVALS,
    real_llm_arms,
)

LABELS = [BASE, WARM_START, "ragen", "ragen-entropy", "dapo", "maxrl", "sesa", "sesa, history"]


def labels(arms):
    return [label for label, _ in groupby(arm.label for arm in arms)]


def test_the_arms_of_a_game():
    assert labels(real_llm_arms("countries")) == labels(real_llm_arms("countdown")) == LABELS
    without_dapo = [*LABELS[:4], "gigpo", *LABELS[6:]]
    assert labels(real_llm_arms("sokoban")) == without_dapo


@pytest.mark.parametrize("env", GAMES)
def test_all_arms_of_a_game_have_equal_calls_and_every_seed_its_own_start(env):
    arms = real_llm_arms(env)
    trained = [arm for arm in arms if arm.is_trained]
    assert {arm.seed for arm in trained} == {*range(NUM_SEEDS)}
    configs = {arm: resolve_arm(arm) for arm in trained}
    assert {cfg.optim.max_policy_calls for cfg in configs.values()} == {CALLS}
    groups = {(c.sampling.num_tasks, c.sampling.max_trajectories) for c in configs.values()}
    assert len(groups) == 1
    assert {cfg.optim.lr for cfg in configs.values()} == {2e-5}
    starts = {arm.seed: {a.warm_start for a in arms if a.seed == arm.seed} for arm in trained}
    assert all(len(found - {None}) == 1 for found in starts.values())
    assert len({start for found in starts.values() for start in found} - {None}) == NUM_SEEDS
    assert [arm.seed for arm in arms if arm.warm_start is None] == [0]  # the base, as it is
    for arm, cfg in configs.items():
        assert cfg.eval.samples >= max(k for how in arm.measurements for k in how.ks)
        assert (cfg.model.path, arm.left_over) == ("smollm2", "weights")


@pytest.mark.parametrize("env", GAMES)
def test_what_a_run_learns_of_the_game_is_what_its_start_was_taught(env):
    for arm in real_llm_arms(env, seeds=(0,)):
        cfg = resolve_arm(arm)
        if arm.warm_start:
            assert (arm.warm_start.cfg.env, arm.warm_start.cfg.model) == (cfg.env, cfg.model)


def test_tuned_settings_replace_those_of_the_game_and_what_is_typed_replaces_them():
    best = {"sesa": ("sampling.num_tasks=2", "optim.lr=1e-5"), "ragen": ("optim.lr=4e-5",)}
    arms = real_llm_arms("countries", (5,), True, ("sampling.num_proposals=3",), tuned=best)
    found = {arm.label: resolve_arm(arm) for arm in arms}
    for label in ("sesa", "sesa, history"):  # the same method, asked in another way
        assert (found[label].sampling.num_tasks, found[label].optim.lr) == (2, 1e-5)
    assert found["sesa, history"].sampling.proposer == "history"
    assert found["sesa"].sampling.proposer == "without_replacement"
    assert (found["ragen"].optim.lr, found["dapo"].optim.lr) == (4e-5, 2e-5)
    assert found["ragen"].sampling.num_tasks == 4
    assert {cfg.sampling.num_proposals for cfg in found.values()} == {3}
    assert found["dapo"].optim.max_policy_calls == CALLS // QUICK_SHARE


def test_quick_measures_fewer_puzzles_with_as_many_attempts():
    (how,) = real_llm_arms("countdown", is_quick=True)[0].measurements
    assert (how.num_puzzles, how.num_samples) == (3, 8)
    (how,) = real_llm_arms("countries", is_quick=True)[0].measurements
    assert (how.num_puzzles, how.num_samples) == (1, 128)


def test_a_number_of_rollouts_is_looked_up_where_they_are():
    metric = Metric("signal", ROLLOUT, "signal_groups")
    assert metric.value({"rollout": {"signal_groups": 0.25}, "measured": {}}) == 0.25
    assert metric.value({"measured": {}}) is None and metric.puzzle_interval({}) is None


def test_every_game_has_a_rival():
    assert set(RIVALS) == set(GAMES)
