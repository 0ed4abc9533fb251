"""Training with vLLM as the engine: the same loop, and likelihoods that agree."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from sesa_agent.agents.engines.base import EngineError

from ..helpers.runs import TORCHRUN, make_config, read_metrics, run, run_python

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed: make vllm"),
]
VLLM = (
    "engine.name=vllm",
    "engine.max_prompt_tokens=200",
    "engine.max_batch_tokens=1024",
    "model.device=cpu",
    "sampling.num_tasks=8",
    "sampling.num_proposals=3",
    "sampling.max_trajectories=8",
)


@pytest.mark.parametrize("method", ["sesa", "sesa-paper", "ragen"])
def test_trainer_and_engine_agree_after_every_update(tmp_path, method):
    words = (*VLLM, "engine.max_new_tokens=8", "optim.steps=3", "optim.lr=1e-3")
    words = (*words, "optim.warmup_steps=0", "loss.filter_ratio=1")
    run(make_config(Path("sesa-tiny"), *words, env="sokoban", method=method), tmp_path)
    lines = read_metrics(tmp_path)
    assert len(lines) == 3
    assert sum(line["train/tokens"] for line in lines) > 0
    gaps = [line["gap/engine_max"] for line in lines if "gap/engine_max" in line]
    assert gaps
    assert max(gaps) < 1e-4


def test_each_process_of_torchrun_has_an_engine_of_its_own(tmp_path):
    words = (*VLLM, "engine.max_new_tokens=8", "optim.steps=2", "optim.lr=1e-3", "eval.episodes=4")
    words = (*words, "optim.warmup_steps=0", "loss.filter_ratio=1", "eval.final_episodes=4")
    command = ("-m", "sesa_agent", "train", "--env", "sokoban", "--output", tmp_path / "run")
    done = run_python(*TORCHRUN, *command, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 2
    assert sum(line["train/tokens"] for line in lines) > 0
    assert max(line["gap/engine_max"] for line in lines if "gap/engine_max" in line) < 1e-4
    assert (tmp_path / "run" / "result.json").is_file()


def test_an_engine_that_dies_leaves_a_run_that_goes_on(llama, tmp_path, monkeypatch):
    from sesa_agent.agents.engines.vllm_engine import VLLMEngine

    words = (*VLLM, "optim.steps=4", "optim.checkpoint_every=1")
    cfg = make_config(llama, *words)
    step, calls = VLLMEngine.step, []

    def die_later(self):
        calls.append(1)
        if len(calls) > 12:
            raise EngineError("vLLM failed: no blocks left")
        return step(self)

    monkeypatch.setattr(VLLMEngine, "step", die_later)
    with pytest.raises(EngineError, match="no blocks left"):
        run(cfg, tmp_path)
    monkeypatch.setattr(VLLMEngine, "step", step)
    assert len(read_metrics(tmp_path)) < 4
    run(cfg, tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2, 3]
