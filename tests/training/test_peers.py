"""Two training steps with the bundled model in games of other collections."""

import pytest

from sesa_agent.configs.load import load_config
from sesa_agent.training.setup import resolve_auto

from ..helpers.collections import ids, need
from ..helpers.runs import read_metrics, run
from ..helpers.tiny_models import SMALL_GROUPS

SHORT = ("optim.steps=2", "eval.every=2", "eval.episodes=2", "engine.max_new_tokens=8")


@pytest.mark.parametrize("env_id", ids("reasoning_gym", "textarena", "gem"))
def test_games_of_others_are_trained_by_their_id(env_id, tmp_path):
    need(env_id.partition("/")[0])
    settings = (*SMALL_GROUPS, *SHORT, "env.max_turns=2")
    cfg = resolve_auto(load_config(env_id, "sesa", settings))
    told = []
    run(cfg, tmp_path, tell=told.append)
    lines = read_metrics(tmp_path)
    told = [text for text in told if "engine.max_prompt_tokens" not in text]  # long puzzles are cut
    assert [line["step"] for line in lines] == [0, 1] and told == []
    assert all(line["rollout/env_errors"] == 0 for line in lines)
    assert all(line["rollout/trajectories"] >= 1 for line in lines)
