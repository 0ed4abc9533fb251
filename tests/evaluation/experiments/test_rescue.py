"""Figures 5 and 6: equal calls, one start, and curves that continue where the start ends."""

import json

import pytest

from sesa_agent.commands.reproduce import write_experiment
from sesa_agent.evaluation.experiments.arms import resolve_arm
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS, QUICK_SHARE, experiment_arms
from sesa_agent.evaluation.experiments.runner import run_arms
from sesa_agent.plots import interval_band

from ...helpers.tiny_models import SMALL_GROUPS

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    *SMALL_GROUPS,
    "engine.max_new_tokens=5",
    "optim.max_policy_calls=8",
    "eval.every=1",
    "eval.episodes=2",
    "eval.final_episodes=2",
)
LABELS = ("ragen-entropy", "ragen-entropy, on", "ragen-entropy, then sesa", "sesa")


@pytest.mark.parametrize("quick", [False, True])
def test_all_runs_end_after_the_same_calls(quick):
    arms = {arm.label: arm for arm in experiment_arms("rescue", (0,), quick)}
    assert tuple(arms) == LABELS
    calls = {label: resolve_arm(arm).optim.max_policy_calls for label, arm in arms.items()}
    start, on, sesa, whole = calls.values()
    assert on == sesa
    assert start + on == whole
    plans = EXPERIMENTS["rescue"].plans
    assert list(calls.values()) == [p.calls // (QUICK_SHARE if quick else 1) for p in plans]


def test_arms_differ_only_in_the_method():
    arms = {arm.label: resolve_arm(arm) for arm in experiment_arms("rescue", (0,))}
    assert len({cfg.optim.lr for cfg in arms.values()}) == 1
    assert [cfg.sampling.name for cfg in arms.values()] == ["parallel", "parallel", "tree", "tree"]
    for cfg in arms.values():
        assert (cfg.eval.samples, cfg.eval.temperature) == (16, 1.0)


@pytest.mark.slow
def test_a_rescue_continues_where_the_stalled_run_ended(llama, tmp_path):
    words = (*SMALL, f"model.path={llama}")
    arms = experiment_arms("rescue", (0, 1), overrides=words)
    results = run_arms(arms, tmp_path / "runs", jobs=2)
    by_name = {(arm.label, arm.seed): result for arm, result in results.items()}
    for seed in (0, 1):
        stalled = by_name["ragen-entropy", seed]
        for label in LABELS[1:3]:
            result = by_name[label, seed]
            assert result["start_from"] == "ragen-entropy"
            assert result["policy_calls"] >= 8
            assert result["curve"][0] == stalled["curve"][-1]  # the policy that it starts from
            assert result["curve"][1]["policy_calls"] == stalled["policy_calls"]
    head = {"experiment": "rescue", "command": "sesa-agent reproduce rescue", "seeds": [0, 1]}
    configs = {arm: resolve_arm(arm) for arm in arms}
    write_experiment(
        head, EXPERIMENTS["rescue"], configs, [results[arm] for arm in arms], tmp_path / "out"
    )
    rows = json.loads((tmp_path / "out" / "rescue.json").read_text())["table"]
    assert [row["label"] for row in rows] == list(LABELS)
    assert all(row["values"]["success, T = 1"]["over"] == "seeds" for row in rows)
    assert "continue from its last checkpoint" in (tmp_path / "out" / "rescue.md").read_text()
    assert (tmp_path / "out" / "rescue.png").read_bytes().startswith(b"\x89PNG")


def test_a_band_is_the_t_interval_of_the_seeds_and_not_below_0():
    """At 1: .4 and .6, so .5 +- 12.706 * .1414 / sqrt(2) = .5 +- 1.2706; at 0 no spread."""
    places, low, high = interval_band([[(0, 0.2), (1, 0.4)], [(0, 0.2), (1, 0.6), (2, 0.6)]])
    assert places == [0, 1]
    assert low == pytest.approx([0.2, 0.0])
    assert high == pytest.approx([0.2, 1.7706], abs=1e-4)
