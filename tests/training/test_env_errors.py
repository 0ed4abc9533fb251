"""Runs on environments of others: those that work, and those that fail."""

import json

import gymnasium
import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.setup import resolve_auto

from ..helpers.bad_games import ENV_ID
from ..helpers.runs import read_metrics, run
from ..helpers.tiny_models import SMALL_GROUPS
from ..helpers.toy_game import TAXI


def train(env, model, folder, *settings):
    """Train two steps; return the lines of metrics and what was told."""
    settings = (f"model.path={model}", "optim.steps=2", "eval.episodes=4", *settings)
    small = ("engine.max_new_tokens=2", "eval.every=2", "env.max_turns=3", *SMALL_GROUPS)
    cfg = resolve_auto(load_config(env, "sesa", [*small, *settings]))
    told = []
    run(cfg, folder, tell=told.append)
    return read_metrics(folder), told


@pytest.mark.parametrize("env_id", [TAXI, "CliffWalking-v1", "Blackjack-v1", "FrozenLake-v1"])
def test_games_of_gymnasium_are_trained_unmodified(env_id, llama, tmp_path):
    lines, told = train(env_id, llama, tmp_path)
    assert len(lines) == 2 and told == []
    for line in lines:
        assert line["rollout/env_errors"] == 0
        assert line["rollout/trajectories"] >= 1


def test_minigrid_is_trained_unmodified(llama, tmp_path):
    pytest.importorskip("minigrid", reason="needs pip install 'sesa-agent[minigrid]'")
    lines, told = train("minigrid:MiniGrid-Empty-5x5-v0", llama, tmp_path)
    assert len(lines) == 2 and told == []


@pytest.mark.parametrize(
    "setting", ["sampling.name=tree", "sampling.name=parallel", "env.options.noisy=true"]
)
def test_a_failing_environment_is_counted_and_told_of_once(setting, llama, tmp_path):
    settings = ("env.options.fault=raise", setting, "sampling.num_tasks=6")
    lines, told = train(ENV_ID, llama, tmp_path, *settings)
    assert len(lines) == 2 and all(line["rollout/env_errors"] > 0 for line in lines)
    assert [
        text.startswith("Warning: tests.helpers.bad_games:Bad-v0 failed on") for text in told
    ] == [True]
    assert "step('Left') raised ValueError: the board broke (bad_games.py:" in told[0]
    events = [json.loads(text) for text in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["env_error"]


def test_puzzles_that_do_not_open_are_left_out(llama, tmp_path):
    lines, told = train(ENV_ID, llama, tmp_path, "env.options.fault=odd_seeds")
    assert [line["rollout/env_errors"] for line in lines] == [1.0, 1.0]
    assert len(told) == 1 and "raised OSError: no such level" in told[0]


def test_a_run_that_can_open_no_puzzle_ends_with_a_line(llama, tmp_path):
    with pytest.raises(SettingError, match=r"opens none of the puzzles 0 to 2: reset\(seed=2\)"):
        train(ENV_ID, llama, tmp_path, "env.options.fault=every_seed")
    with pytest.raises(SettingError, match=r"opened none of 2 puzzles; seed \d+: reset\(seed="):
        train(ENV_ID, llama, tmp_path, "env.options.fault=training_seeds")


def test_an_unknown_id_says_how_to_name_a_package():
    with pytest.raises(SettingError, match="doesn't exist. Write module:Name-v0 if a package"):
        resolve_auto(load_config("NoSuch-v0"))


def test_an_environment_that_cannot_be_made_is_named_with_its_line():
    def make_broken(**_) -> gymnasium.Env:
        raise RuntimeError("no display")

    gymnasium.register("Broken-v0", make_broken)
    with pytest.raises(SettingError, match=r"Broken-v0 fails when made: RuntimeError: no display"):
        resolve_auto(load_config("Broken-v0"))
    gymnasium.registry.pop("Broken-v0")
