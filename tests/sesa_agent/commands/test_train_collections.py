"""Two training steps with trees, through the command line, in games by commands."""

import pytest

from tests.helpers.collections import ids, need
from tests.helpers.openenv_server import openenv_server
from tests.helpers.runs import SMALL_COMMAND, read_metrics

TREES = (
    *SMALL_COMMAND,
    "sampling.num_tasks=1",
    "engine.max_new_tokens=12",
    "env.max_turns=2",
    "eval.episodes=1",
    "eval.final_episodes=1",
    "eval.samples=1",
)
"""Settings of two steps with trees of three leaves."""


def train_trees(sesa_agent, env_id, folder):
    """Train two steps through the command line, without an error of the environment."""
    words = ("train", "--env", env_id, "--method", "sesa", "--steps", "2", "--output", str(folder))
    code, _, errors = sesa_agent(*words, *TREES)
    assert code == 0, errors
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == [0, 1]
    assert all(line["rollout/env_errors"] == 0 for line in lines), lines
    assert all(line["rollout/trajectories"] >= 1 for line in lines)  # the tiny model seldom answers


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ids("textworld", "textworld_express", "scienceworld", "babyai"))
def test_trees_grow_in_games_by_commands(env_id, sesa_agent, tmp_path):
    need(env_id.partition("/")[0])
    train_trees(sesa_agent, env_id, tmp_path / "run")


@pytest.mark.slow
def test_trees_grow_on_an_openenv_server(sesa_agent, tmp_path):
    need("openenv")
    with openenv_server(sessions=64) as (url, _):
        train_trees(sesa_agent, f"openenv:{url}", tmp_path / "run")
