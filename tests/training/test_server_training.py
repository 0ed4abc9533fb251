"""Training with a server as the engine: the same loop, and likelihoods that agree."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from sesa_agent.agents.engines import server_client
from sesa_agent.agents.engines.base import EngineError

from ..helpers.generation_server import generating
from ..helpers.runs import TORCHRUN, make_config, read_metrics, run, run_python

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = (
    "engine.name=server",
    "engine.max_prompt_tokens=200",
    "engine.max_new_tokens=8",
    "model.device=cpu",
    "sampling.num_tasks=8",
    "sampling.num_proposals=3",
    "sampling.max_trajectories=8",
    "optim.lr=1e-3",
    "optim.warmup_steps=0",
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(server_client, "PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def check_agreement(folder, num_steps):
    lines = read_metrics(folder)
    assert len(lines) == num_steps
    assert sum(line["train/tokens"] for line in lines) > 0
    gaps = [line["gap/engine_max"] for line in lines if "gap/engine_max" in line]
    assert gaps
    assert max(gaps) < 1e-4


def test_trainer_and_server_agree_after_every_update(tmp_path):
    with generating("sesa-tiny") as server:
        words = (*WORDS, f"engine.urls={server.url}", "optim.steps=3")
        run(make_config(Path("sesa-tiny"), *words, env="sokoban"), tmp_path)
    check_agreement(tmp_path, 3)


def test_a_run_whose_servers_are_gone_goes_on_with_new_ones(tmp_path):
    with generating("sesa-tiny") as server:
        words = (*WORDS, "optim.steps=2", "optim.checkpoint_every=1", "eval.every=100")
        cfg = make_config(Path("sesa-tiny"), *words, f"engine.urls={server.url}", env="sokoban")

        def die_after_a_step(progress, _):
            server.dies_after = 0
            return False

        with pytest.raises(EngineError, match="No server of engine.urls can be used"):
            run(cfg, tmp_path, die_after_a_step)
    with generating("sesa-tiny") as server:
        words = (*words, f"engine.urls={server.url}")
        run(make_config(Path("sesa-tiny"), *words, env="sokoban"), tmp_path)
    check_agreement(tmp_path, 2)


@contextmanager
def vllm_server(folder):
    """A real server on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sesa_agent", "serve", "--model", "sesa-tiny"]
    command += ["--port", str(port), "--dtype", "float32", "--max-tokens", "512"]
    log = (folder / "server.log").open("w")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(400):
            assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except OSError:
                time.sleep(1)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed: make vllm")
def test_two_ranks_train_with_a_real_server(tmp_path):
    with vllm_server(tmp_path) as url:
        words = (*WORDS, f"engine.urls={url}", "optim.steps=3", "eval.episodes=4")
        words = (*words, "eval.final_episodes=4")
        train = (*TORCHRUN, "-m", "sesa_agent", "train")
        done = run_python(*train, "--env", "sokoban", "--output", "run", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        words = ("--resume", "run", "optim.steps=5", "engine.handover=network")
        done = run_python(*train, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        check_agreement(tmp_path / "run", 5)
        words = ("--resume", "run", "optim.steps=8", "optim.lag=1")
        done = run_python(*train, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    lags = [line["rollout/lag"] for line in read_metrics(tmp_path / "run")[5:]]
    assert lags == [0, 1, 1]
