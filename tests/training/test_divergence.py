"""A run whose numbers are no longer finite ends in one line; its last good checkpoint stays."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.finite import all_finite
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.training.checkpoint_files import PARTS
from sesa_agent.training.damage import find_damage
from sesa_agent.training.trainer import open_session

from ..helpers.runs import (
    ONE_UPDATE,
    REPOSITORY,
    SMALL,
    TORCHRUN,
    make_config,
    newest,
    read_metrics,
    read_weights,
    run,
    run_python,
)

EVERY_STEP = ("optim.checkpoint_every=1", "sampling.num_tasks=6", "optim.warmup_steps=0")


def spoil(folder, source, value):
    """Copy a model folder; one of the copy's weights is `value`."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("words", [(), ONE_UPDATE])
def test_a_run_that_diverges_keeps_its_last_finite_checkpoint(llama, tmp_path, words):
    """It saved NaN, or weights of 1e10, as its newest checkpoint, and ended in an IndexError.

    With several optimizer steps an update notices by its gradients; with one, by the
    log-probabilities of the new policy, since weights of 1e10 are finite themselves.
    """
    good = make_config(llama, *EVERY_STEP, *words)
    run(good, tmp_path)
    before = read_weights(tmp_path)
    bad = replace(good, optim=replace(good.optim, steps=4, lr=1e10))
    with pytest.raises(SettingError) as caught:
        run(bad, tmp_path)
    message = str(caught.value)
    assert message.startswith("Step 2 made ") and "\n" not in message
    assert "optim.lr (1e+10)" in message and f"--resume {tmp_path}" in message
    assert read_weights(tmp_path) == before
    assert find_damage(newest(tmp_path), PARTS) == ""
    run(replace(good, optim=replace(good.optim, steps=4)), tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2, 3]


def test_moments_that_overflow_are_not_saved(llama, tmp_path):
    """Their weights stay finite, but no later step could move them."""
    session = open_session(make_config(llama, *EVERY_STEP), tmp_path)
    run(session.cfg, tmp_path)
    session = open_session(session.cfg, tmp_path)
    for state in session.learner.optimizer.state.values():
        state["exp_avg_sq"].fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="moments of the optimizer"):
        session.learner._check_finite(None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_weights_that_are_not_finite_is_refused(llama, tmp_path, value):
    """It was measured, or trained on, until an index was out of bounds."""
    folder = spoil(tmp_path / "model", llama, value)
    with pytest.raises(SettingError, match="is damaged: .* model.norm.weight"):
        Policy.load(str(folder))


def test_a_model_that_overflows_in_a_smaller_dtype_is_refused(llama, tmp_path):
    folder = str(spoil(tmp_path / "model", llama, 1e6))
    Policy.load(folder, "bfloat16")
    with pytest.raises(SettingError, match="not finite in float16"):
        Policy.load(folder, "float16")


@pytest.mark.parametrize(
    ("weight", "temperature"), [(1e38, 1.0), (float("nan"), 1.0), (1.0, 1e-320)]
)
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_probabilities_that_are_not_finite_are_one_line(llama, weight, temperature, top_p):
    """Sampling from them was `index 300 is out of bounds`, on a GPU an assertion of the device."""
    policy = Policy.load(str(llama))
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(weight)
    engine, params = HFEngine(policy), SamplingParams(temperature=temperature, top_p=top_p)
    with pytest.raises(SettingError, match=f"not finite at temperature {temperature:g}"):
        engine.generate([[1, 2], [3]], params)


def test_high_temperatures_are_no_trouble(llama):
    engine = HFEngine(Policy.load(str(llama)))
    (completion,) = engine.generate([[1, 2]], SamplingParams(temperature=1e38, max_new_tokens=3))
    assert len(completion.token_ids) <= 3


def test_every_kind_of_tensor_is_looked_at():
    fine = [torch.ones(2, dtype=torch.bfloat16), torch.arange(3), torch.ones(0), torch.ones(())]
    assert all_finite([]) and all_finite(fine)
    assert all_finite([torch.full((9,), 3e38)])  # whose squares are infinite
    for value in (float("nan"), float("inf"), -float("inf")):
        assert not all_finite([*fine, torch.tensor([[1.0, value]])])


@pytest.mark.parametrize("steps", [2, 10])
def test_a_learning_rate_that_rises_on_resume_is_told(llama, tmp_path, steps):
    """A finished run that went on with more steps tripled its learning rate without a word."""
    words = ("optim.cooldown=1.0", "optim.warmup_steps=0", "optim.lr=0.002")
    cfg = make_config(llama, *EVERY_STEP, *words)
    run(cfg, tmp_path)
    told = []
    longer = replace(cfg, optim=replace(cfg.optim, steps=steps))
    run(longer, tmp_path, lambda *_: True, told.append)
    rises = [text for text in told if text.startswith("The learning rate rises")]
    assert len(rises) == (steps > 2)
    for text in rises:
        assert "from 0.001 to 0.0016 at step 2: with optim.steps=10" in text


def test_a_run_that_was_stopped_goes_on_with_its_learning_rate(llama, tmp_path):
    words = ("optim.cooldown=1.0", "optim.warmup_steps=2", "optim.steps=4")
    cfg = make_config(llama, *EVERY_STEP, *words)
    told = []
    for stop in (1, 2, 3, 4):
        run(cfg, tmp_path, lambda progress, _, stop=stop: progress.step == stop, told.append)
    assert [text for text in told if "learning rate" in text] == []


@pytest.mark.slow
def test_all_processes_of_a_run_that_diverges_stop_alike(llama, tmp_path):
    words = (*SMALL, f"model.path={llama}", "optim.lr=1e10", "optim.warmup_steps=0")
    command = ("-m", "sesa_agent", "train", "--env", "frozen_lake", "--output", tmp_path / "run")
    done = run_python(*TORCHRUN, *command, *words, "eval.final_episodes=2", cwd=REPOSITORY)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("sesa-agent: ")]
    assert len(said) == 1 and "Step 0 made" in said[0]
    assert "sesa_agent/" not in done.stderr  # no traceback of ours
