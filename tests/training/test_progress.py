"""How far a run is: budgets end it and set its learning rate, whatever they count."""

from typing import Any

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.schema import OptimConfig
from sesa_agent.training.checkpoint_files import read_state
from sesa_agent.training.progress import BUDGETS, Progress

from ..helpers.runs import ONE_UPDATE, make_config, newest, read_metrics, read_weights, run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_budget_of_calls_is_never_exceeded_and_resumable(llama, tmp_path):
    words = ("sampling.num_tasks=6", "optim.checkpoint_every=1")
    run(make_config(llama, *words, "optim.steps=2"), tmp_path / "steps")
    spent = [line["progress/policy_calls"] for line in read_metrics(tmp_path / "steps")]
    budget = spent[1] - 1  # one call too few for the last puzzle of the second step
    cfg = make_config(llama, *words, "optim.steps=50", f"optim.max_policy_calls={budget:.0f}")
    run(cfg, tmp_path / "calls")
    first, last = read_metrics(tmp_path / "calls")
    assert first["rollout/left_out"] == 0 and first["progress/policy_calls"] == spent[0]
    assert last["rollout/left_out"] == 1
    most_calls_of_a_puzzle = 3 * 3 * 10  # trajectories, tries and turns
    assert budget - most_calls_of_a_puzzle < last["progress/policy_calls"] <= budget
    assert (
        last["progress/response_tokens"]
        < read_metrics(tmp_path / "steps")[1]["progress/response_tokens"]
    )

    run(cfg, tmp_path / "stopped", lambda progress, _: progress.step == 1)
    run(cfg, tmp_path / "stopped")
    assert read_weights(tmp_path / "stopped") == read_weights(tmp_path / "calls")
    expected = read_metrics(tmp_path / "calls", times=False)
    assert read_metrics(tmp_path / "stopped", times=False) == expected

    more = make_config(llama, *words, "optim.steps=3", f"optim.max_policy_calls={2 * budget:.0f}")
    run(more, tmp_path / "calls")  # it goes on with a larger budget
    assert len(read_metrics(tmp_path / "calls")) == 3


def test_a_budget_below_one_puzzle_is_refused(llama, tmp_path):
    with pytest.raises(SettingError, match="optim.max_policy_calls must be at least [0-9]+, the"):
        run(make_config(llama, "optim.max_policy_calls=1"), tmp_path)


@pytest.mark.parametrize("name", ["response_tokens", "env_steps"])
def test_a_budget_stops_the_run_after_the_step_that_reaches_it(llama, tmp_path, name):
    run(make_config(llama, "optim.steps=50", f"optim.max_{name}=20"), tmp_path)
    counts = [line[f"progress/{name}"] for line in read_metrics(tmp_path)]
    assert counts[-1] >= 20
    assert len(counts) < 50
    assert all(count < 20 for count in counts[:-1])
    assert read_state(newest(tmp_path))[f"num_{name}"] == counts[-1]


def test_repetitions_that_are_dropped_cost_tokens(llama, tmp_path):
    """A move is one token here, so tokens are calls."""
    words = ("sampling.proposer=history", "sampling.num_proposals=3", "sampling.max_retries=0")
    run(make_config(llama, "optim.steps=1", "engine.temperature=0.01", *words), tmp_path)
    (line,) = read_metrics(tmp_path)
    assert line["rollout/duplicate_rate"] > 0
    assert line["rollout/response_tokens"] == 1
    assert line["progress/response_tokens"] == line["progress/policy_calls"]


def test_a_budget_of_seconds_counts_rollouts_and_updates_across_a_stop(llama, tmp_path):
    cfg = make_config(llama, "optim.steps=5000", "optim.max_seconds=0.5", "eval.every=1")
    run(cfg, tmp_path, lambda progress, _: progress.step == 1)
    run(cfg, tmp_path)
    lines = read_metrics(tmp_path)
    times = [line["time/rollout_s"] + line["time/learn_s"] for line in lines]
    assert lines[-1]["progress/seconds"] == pytest.approx(sum(times))
    assert sum(times) >= 0.5 > sum(times[:-1])


@pytest.mark.parametrize("shares", [(0.5, 0.0), (0.5, 0.75), (0.5, 1.0), (0.5, 2.0)])
def test_a_run_is_as_far_as_the_budget_that_is_nearest_to_its_end(shares):
    # Steps, half done, and one other budget; those of 0 do not count. All limits are alike.
    for budget in BUDGETS:
        limits: dict[str, Any] = {budget.limit: 100}
        optim = OptimConfig(steps=100, **limits)
        progress = Progress(step=50, **{budget.count: shares[1] * 100})
        assert progress.share_done(optim) == max(shares)
        assert progress.share_done(OptimConfig(steps=100)) == 0.5


def test_the_learning_rate_cools_down_by_the_budget_that_ends_the_run(llama, tmp_path):
    words = (*ONE_UPDATE, "sampling.num_tasks=6", "optim.cooldown=0.5", "optim.lr=0.01")
    run(make_config(llama, *words, "optim.steps=4"), tmp_path / "steps")
    rates = [line["train/learning_rate"] for line in read_metrics(tmp_path / "steps")]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005])
    spent = [line["progress/policy_calls"] for line in read_metrics(tmp_path / "steps")]
    calls = f"optim.max_policy_calls={spent[3]:.0f}"
    run(make_config(llama, *words, "optim.steps=100", calls), tmp_path / "calls")
    lines = read_metrics(tmp_path / "calls")
    left = [1 - share / spent[3] for share in (0, *spent[:3])]
    expected = [0.01 * min(1, share / 0.5) for share in left]
    assert [line["train/learning_rate"] for line in lines] == pytest.approx(expected)
    assert expected[-1] < 0.01
