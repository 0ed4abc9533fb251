"""Two training steps with the bundled model in games of other collections."""

import json
from functools import partial

import pytest

from sesa_agent.configs.load import load_config
from sesa_agent.evaluation.validation import validate
from sesa_agent.training.setup import resolve_auto
from sesa_agent.training.trainer import open_session, train
from tests.helpers.collections import ids, need
from tests.helpers.tiny_models import SMALL_GROUPS

SHORT = ("optim.steps=2", "eval.every=2", "eval.episodes=2", "engine.max_new_tokens=8")


@pytest.mark.parametrize("env_id", ids("reasoning_gym", "textarena", "gem"))
def test_games_of_others_are_trained_by_their_id(env_id, tmp_path):
    need(env_id.partition("/")[0])
    settings = (*SMALL_GROUPS, *SHORT, "env.max_turns=2")
    cfg = resolve_auto(load_config(env_id, "sesa", settings))
    told = []
    train(open_session(resolve_auto(cfg), tmp_path), partial(validate, cfg), tell=told.append)
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1] and told == []
    assert all(line["rollout/env_errors"] == 0 for line in lines)
    assert all(line["rollout/trajectories"] >= 1 for line in lines)
