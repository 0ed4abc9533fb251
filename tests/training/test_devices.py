"""A policy on every device: rows, sampling and training steps (`pytest -m gpu` on a GPU)."""

import math

import pytest
import torch

from sesa_agent.agents import prefix_attention
from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy

from ..helpers.model_families import SHARING, make_rows, policy_of
from ..helpers.runs import make_config, read_metrics, run

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_gpu])]
every_device = pytest.mark.parametrize("device", DEVICES)


def branching_rows():
    """Rows that diverge after 20 and 60 tokens."""
    generator = torch.Generator().manual_seed(1)
    trunk = torch.randint(1, 60, (60,), generator=generator).tolist()
    ends = torch.randint(1, 60, (6, 12), generator=generator).tolist()
    rows = [trunk[: 20 if place % 2 else 60] + end for place, end in enumerate(ends)]
    return make_rows([(row, len(row) - 12) for row in rows])


@every_device
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_shared_prefix_rows_are_those_of_padded_rows(device, dtype, tolerance):
    policy = policy_of(SHARING["llama"], getattr(torch, dtype))
    policy.model.to(device)
    rows, found = branching_rows(), []
    for reason in ("", "a test says so"):
        policy.padding_reason = reason
        policy.model.zero_grad()
        logprobs, _ = policy.logprobs(rows)
        logprobs.sum().backward()
        gradients = [weight.grad for weight in policy.parameters() if weight.grad is not None]
        gradient = torch.cat([each.float().cpu().flatten() for each in gradients])
        found.append((logprobs.detach().float(), gradient))
    (shared, shared_gradient), (padded, padded_gradient) = found
    assert (shared - padded).abs().max() <= tolerance * padded.abs().max()
    off = (shared_gradient - padded_gradient).norm() / padded_gradient.norm()
    assert off <= tolerance and padded.std() > 0.1


@every_device
def test_what_is_sampled_has_the_probability_that_is_trained(device, llama):
    policy = Policy.load(str(llama), "float32", device)
    prompt = ChatFormat(policy.tokenizer).opening("the rules", "a state")
    engine = HFEngine(policy)
    completions = engine.generate([prompt] * 6, SamplingParams(max_new_tokens=4, seed=3))
    rows = make_rows([([*prompt, *c.token_ids], len(prompt)) for c in completions])
    with torch.no_grad():
        logprobs, _ = policy.logprobs(rows)
    for row, completion in zip(logprobs, completions, strict=True):
        sampled = torch.tensor(completion.logprobs)
        assert torch.allclose(row[row != 0], sampled[sampled != 0], atol=1e-4)


@every_device
def test_a_run_learns_and_is_resumed(device, llama, tmp_path):
    words = (f"model.device={device}", "optim.steps=3", "optim.checkpoint_every=1")
    cfg = make_config(llama, *words)
    run(cfg, tmp_path / "run", watch=lambda progress, _: progress.step == 2)
    assert len(read_metrics(tmp_path / "run")) == 2
    policy = run(cfg, tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 3 and all(math.isfinite(line["rollout/return"]) for line in lines)
    before = Policy.load(str(llama), device="cpu").model.state_dict()
    after = policy.model.state_dict()
    assert any(not torch.equal(before[name], after[name].cpu()) for name in before)


@pytest.mark.gpu
@on_gpu
def test_attention_is_one_call_of_the_kernel():
    """Without it the form for every device is taken: right, and slower."""
    assert prefix_attention.kernel_agrees(torch.device("cuda"), torch.bfloat16)
