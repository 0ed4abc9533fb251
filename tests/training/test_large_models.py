"""What makes large models fit and train: each setting alone and all together, through the loop."""

import pytest
import torch
from safetensors.torch import load_file

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.commands.evaluate import evaluate_policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.setup import build_policy, build_reference

from ..helpers.model_families import (
    ARCHITECTURES,
    ROWS,
    logprobs_and_gradients,
    make_rows,
    random_policy,
)
from ..helpers.runs import make_config, newest, read_metrics, run

pytestmark = pytest.mark.usefixtures("one_thread")

LORA = "model.lora_rank=2"
BFLOAT16 = "model.dtype=bfloat16"
CHECKPOINTING = "model.gradient_checkpointing=true"
RUN = ("optim.checkpoint_every=1", "loss.kl_coef=0.01", "loss.entropy_coef=0.01")


def saved_tensors(folder):
    """The weights, the optimiser's state and torch's random state of the newest checkpoint."""
    paths = newest(folder).rglob("*.safetensors")
    return {(path.name, name): v for path in paths for name, v in load_file(path).items()}


@pytest.mark.parametrize(
    "settings",
    [(LORA,), (BFLOAT16,), (CHECKPOINTING,), (LORA, BFLOAT16, CHECKPOINTING)],
    ids=["lora", "bfloat16", "checkpointing", "all"],
)
def test_a_stopped_run_goes_on_bit_for_bit(llama, tmp_path, settings):
    cfg = make_config(llama, *RUN, *settings)
    run(cfg, tmp_path / "whole")
    run(cfg, tmp_path / "stopped", watch=lambda progress, _: progress.step == 1)
    assert newest(tmp_path / "stopped").name == "step-000001"
    run(cfg, tmp_path / "stopped")
    expected, tensors = saved_tensors(tmp_path / "whole"), saved_tensors(tmp_path / "stopped")
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    lines = read_metrics(tmp_path / "whole", times=False)
    assert read_metrics(tmp_path / "stopped", times=False) == lines
    assert any(line.get("train/grad_norm") for line in lines)


def test_a_checkpoint_of_lora_is_the_adapter_alone_and_can_be_evaluated(llama, tmp_path):
    cfg = make_config(llama, *RUN, LORA, "optim.lr=0.1")
    trained = run(cfg, tmp_path)
    model = newest(tmp_path) / "model"
    assert not (model / "model.safetensors").exists()
    again, merged = build_policy(cfg, str(model)), Policy.load(str(model))
    weights = list(zip(again.parameters(), trained.parameters(), strict=True))
    assert weights and all(torch.equal(*pair) for pair in weights)
    assert evaluate_policy(cfg, again, 4) == evaluate_policy(cfg, trained, 4)
    rows = make_rows(ROWS)
    torch.testing.assert_close(merged.logprobs(rows)[0], trained.logprobs(rows)[0])
    assert not torch.equal(build_policy(cfg).logprobs(rows)[0], trained.logprobs(rows)[0])


def test_the_reference_of_lora_is_no_second_copy(llama):
    cfg = make_config(llama, LORA)
    policy = build_policy(cfg)
    assert build_reference(cfg, policy).model is policy.model
    plain = make_config(llama)
    assert build_reference(plain, policy).model is not policy.model


def test_a_run_can_begin_with_an_adapter_of_another_run(llama, tmp_path):
    """Its effect is part of the base then, so the reference is the policy at the start."""
    run(make_config(llama, *RUN, LORA, "optim.lr=0.1"), tmp_path)
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    start = checkpoint / "model"
    cfg = make_config(start, LORA)
    policy, rows = build_policy(cfg), make_rows(ROWS)
    expected = Policy.load(str(start)).logprobs(rows)[0]
    assert torch.equal(policy.logprobs(rows)[0], expected)
    assert torch.equal(build_reference(cfg, policy).logprobs(rows)[0], expected)


# ---- gradient checkpointing ----


@pytest.mark.parametrize("name", [*ARCHITECTURES, "gpt2"])
@pytest.mark.parametrize("max_logits", [10**9, 700], ids=["logits at once", "logits in chunks"])
def test_computing_layers_again_changes_no_bit(name, max_logits):
    """GPT-2 has dropout in its configuration, which stays off."""
    policy = random_policy(name)
    expected = logprobs_and_gradients(policy, max_logits)
    policy.recompute_layers()
    assert all(map(torch.equal, logprobs_and_gradients(policy, max_logits), expected))
    assert not any(module.training for module in policy.model.modules())


def saved_numbers(policy):
    """How many numbers the backward pass is left to hold, parameters not counted."""
    storages = {weight.untyped_storage()._cdata for weight in policy.model.parameters()}
    held = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in storages:
            held[storage._cdata] = tensor  # keeps it alive, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        policy.logprobs(make_rows([(list(range(3, 200)), 190)]))
    return sum(tensor.numel() for tensor in held.values())


def test_only_the_inputs_of_the_layers_are_held():
    policy = random_policy("llama")
    before = saved_numbers(policy)
    policy.recompute_layers()
    assert saved_numbers(policy) < before / 4


def test_generation_uses_its_cache_as_before(llama):
    plain = build_policy(make_config(llama))
    policy = build_policy(make_config(llama, CHECKPOINTING))
    lengths = []
    policy.model.model.layers[0].register_forward_pre_hook(
        lambda layer, inputs: lengths.append(inputs[0].shape[1])
    )
    params, prompts = SamplingParams(max_new_tokens=4), [[5, 6, 7]]
    drawn = HFEngine(policy).generate(prompts, params)
    assert lengths == [3] + [1] * (len(drawn[0].token_ids) - 1)
    assert drawn == HFEngine(plain).generate(prompts, params)


def test_a_family_that_cannot_do_it_is_refused():
    policy = random_policy("llama")
    policy.model.supports_gradient_checkpointing = False
    with pytest.raises(SettingError, match="model.gradient_checkpointing must be false .* llama"):
        policy.recompute_layers()
