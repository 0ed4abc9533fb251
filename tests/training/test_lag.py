"""`optim.lag=1`: the next rollout is drawn while the policy learns, each by one version of it."""

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from sesa_agent.agents.engines.base import EngineError
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.ahead import Ahead, Drawn

from ..helpers.generation_server import generating
from ..helpers.runs import make_config, read_metrics, run

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = (
    "engine.name=server",
    "engine.max_prompt_tokens=200",
    "engine.max_new_tokens=8",
    "sampling.num_tasks=2",
    "sampling.num_proposals=3",
    "sampling.max_trajectories=4",
    "env.max_turns=3",
    "optim.lag=1",
    "loss.credit=tree",
    "loss.entropy_coef=0.01",
    "optim.lr=1e-3",
    "optim.warmup_steps=0",
    "optim.steps=3",
    "optim.checkpoint_every=1",
    "eval.every=100",
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def config(server):
    words = (*WORDS, f"engine.urls={server.url}")
    return make_config(Path("sesa-tiny"), *words, env="sokoban")


def versions_noted(folder):
    """`num_updates` of the saved trees of each step."""
    texts = [path.read_text() for path in sorted((folder / "trees").iterdir())]
    return [{tree.get("num_updates") for tree in json.loads(text)} for text in texts]


def test_no_trajectory_spans_two_versions_of_the_weights(tmp_path):
    """The server counts its responses by the weights that gave them: whole rollouts of each."""
    with generating("sesa-tiny") as server:
        cfg = config(server)
        run(cfg, tmp_path)
    assert cfg.loss.engine_importance_cap == 2
    lines = read_metrics(tmp_path)
    assert [line["rollout/lag"] for line in lines] == [0, 1, 1]
    assert versions_noted(tmp_path) == [{None}, {0}, {1}]
    totals = [line["progress/policy_calls"] for line in lines]
    by_version = Counter(server.versions)
    assert len(by_version) == 2  # the first one has sampled two rollouts, the last one none
    assert by_version[server.versions[-1]] == totals[2] - totals[1]
    num_evaluated = len(server.versions) - totals[2]
    assert by_version[server.versions[0]] == totals[1] + num_evaluated
    assert sum(line["train/tokens"] for line in lines) > 0
    assert lines[1]["gap/engine_max"] > 1e-4 > lines[0]["gap/engine_max"]


def test_a_stopped_run_draws_the_rollout_in_flight_again(tmp_path):
    with generating("sesa-tiny") as server:
        cfg = config(server)
        run(cfg, tmp_path, lambda progress, _: progress.step == 2)
        assert len(read_metrics(tmp_path)) == 2
        run(cfg, tmp_path)
    assert [line["rollout/lag"] for line in read_metrics(tmp_path)] == [0, 1, 0]
    assert versions_noted(tmp_path) == [{None}, {0}, {None}]


def test_it_draws_while_the_caller_goes_on():
    """It waits for the caller here: if they took turns, this would never end."""
    ahead, goes_on = Ahead(), threading.Event()

    def draw():
        assert goes_on.wait(60)
        return Drawn([], 3)

    assert ahead.take() is None
    ahead.start(draw)
    goes_on.set()
    taken = ahead.take()
    assert taken is not None and taken().num_tokens == 3
    assert ahead.take() is None


def test_what_ends_the_rollout_is_raised_by_who_takes_it():
    def draw():
        raise EngineError("gone")

    ahead = Ahead()
    ahead.start(draw)
    taken = ahead.take()
    assert taken is not None
    with pytest.raises(EngineError, match="gone"):
        taken()


@pytest.mark.parametrize(
    ("method", "words", "line"),
    [
        ("sesa", ["optim.lag=2"], "optim.lag must be 0 or 1, got 2"),
        ("sesa", ["optim.lag=-1"], "optim.lag must be 0 or 1, got -1"),
        ("sesa", ["optim.lag=1"], "engine.name must be server with optim.lag=1, got 'hf'"),
        ("sesa", ["optim.lag=1", "engine.name=vllm"], "engine.name must be server .* got 'vllm'"),
        (
            "dapo",
            ["optim.lag=1", "engine.name=server"],
            "sampling.max_redraws must be 0 with optim.lag=1, got 4",
        ),
        (
            "ragen",
            ["optim.lag=1", "engine.name=server", "monitor.rescue=auto"],
            "monitor.rescue must be off with optim.lag=1, got 'auto'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(method, words, line):
    with pytest.raises(SettingError, match=line) as error:
        load_config("sokoban", method, words)
    assert "\n" not in str(error.value)
