"""The estimate of memory against what torch really holds, on small random models."""

from dataclasses import replace
from typing import Any

import huggingface_hub
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sesa_agent.agents.engines.vllm_engine import CPU_CACHE_GIB
from sesa_agent.agents.lora import add_adapter
from sesa_agent.agents.policy import Policy
from sesa_agent.commands.memory import (
    VLLM_ASLEEP,
    estimate_memory,
    fitting_changes,
    least_vllm_share,
    read_shape,
    shape_of,
    vllm_cache_tokens,
)
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.optimizer import MasterAdamW

from ...helpers.model_families import make_rows
from ...helpers.qwen import qwen_shape

N, T = 4, 96
QWEN_7B = qwen_shape("7b")
SIZES: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=64)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=500, n_embd=128, n_layer=4, n_head=4)),
}
SETTINGS = {
    "plain": (),
    "bfloat16": ("model.dtype=bfloat16",),
    "lora": ("model.lora_rank=8",),
    "lora in bfloat16": ("model.lora_rank=8", "model.dtype=bfloat16"),
    "checkpointing": ("model.gradient_checkpointing=true",),
}


def make_config(*settings):
    tokens = ("optim.max_batch_tokens=384", "engine.max_batch_tokens=384")  # N x T
    return load_config("sokoban", "sesa", [*tokens, *settings])


def make_policy(family, cfg):
    """The model as a run would set it up."""
    torch.manual_seed(0)
    policy = Policy(FAMILIES[family]().to(getattr(torch, cfg.model.dtype)), None)
    if cfg.model.lora_rank:
        add_adapter(policy.model, cfg.model.lora_rank, "base", seed=0)
    if cfg.model.gradient_checkpointing:
        policy.recompute_layers()
    return policy


def full_rows():
    ids = torch.randint(1, 500, (N, T), generator=torch.Generator().manual_seed(0)).tolist()
    return make_rows([(row, T - 1) for row in ids])


def num_bytes(tensors):
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_gradients_and_optimiser_are_counted_exactly(family, settings):
    cfg = make_config(*settings)
    estimate = estimate_memory(shape_of(FAMILIES[family]()), cfg)
    policy = make_policy(family, cfg)
    optimizer = MasterAdamW(policy.parameters(), lr=0.1)
    policy.logprobs(full_rows())[0].sum().backward()
    masters = [p for group in optimizer.param_groups for p in group["params"]]
    assert num_bytes(policy.model.parameters()) == estimate.weights
    assert num_bytes(master for master, _ in optimizer.copies.values()) == estimate.float32_copies
    assert sum(master.grad.nbytes for master in masters) == estimate.gradients
    if not optimizer.copies:
        assert all(p.grad is None for p in policy.model.parameters() if not p.requires_grad)
    optimizer.step()
    means = [v for s in optimizer.state.values() for n, v in s.items() if n.startswith("exp_avg")]
    assert sum(mean.nbytes for mean in means) == estimate.optimizer


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_estimated_within_a_factor_of_1_4(family, settings):
    """Against what autograd holds between the passes; checkpointing adds one layer later."""
    cfg = make_config(*settings)
    policy = make_policy(family, cfg)
    estimate = estimate_memory(shape_of(FAMILIES[family]()), cfg).activations
    if cfg.model.gradient_checkpointing:
        plain = replace(cfg, model=replace(cfg.model, gradient_checkpointing=False))
        whole = estimate_memory(shape_of(FAMILIES[family]()), plain).activations
        estimate -= whole / 4  # of the four layers
    parameters = {p.untyped_storage()._cdata for p in policy.model.parameters()}
    held = []

    def note(tensor):
        if tensor.untyped_storage()._cdata not in parameters:
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        policy.logprobs(full_rows())
    measured = num_bytes(held)
    assert measured / 1.4 < estimate < measured * 1.4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kv_cache_is_counted_exactly(family):
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        cache = model(input_ids=full_rows().token_ids, use_cache=True).past_key_values
    held = num_bytes(t for layer in cache.layers for t in (layer.keys, layer.values))
    assert held == estimate_memory(shape_of(model), make_config()).kv_cache


def test_a_penalty_needs_a_second_copy_except_with_lora():
    shape = shape_of(FAMILIES["llama"]())
    once = estimate_memory(shape, make_config()).weights
    assert estimate_memory(shape, make_config("loss.kl_coef=0.1")).weights == 2 * once
    lora = estimate_memory(shape, make_config("model.lora_rank=2")).weights
    assert (
        estimate_memory(shape, make_config("model.lora_rank=2", "loss.kl_coef=1")).weights == lora
    )


def test_a_model_is_measured_by_its_configuration_alone(llama, tmp_path):
    """No weights are read: there are none."""
    for name in ("config.json",):
        (tmp_path / name).write_bytes((llama / name).read_bytes())
    model = Policy.load(str(llama), device="cpu").model
    assert read_shape(str(tmp_path)) == shape_of(model)
    assert read_shape("sesa-tiny").num_weights == 166720


def test_a_model_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="model.path .* does not exist"):
        read_shape(str(tmp_path / "nowhere"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SettingError, match="model.path 'nobody/nothing' is not in the") as error:
        read_shape("nobody/nothing")
    assert "\n" not in str(error.value)


# ---- vLLM ----

VLLM = ("engine.name=vllm", "engine.memory_fraction=0.5")
GPU = 10**9


def test_on_a_gpu_vllm_takes_its_share_and_sleeps_while_the_trainer_learns():
    """The trainer's weights and optimiser are there all the time."""
    shape = shape_of(FAMILIES["qwen2"]())
    plain, shared = (estimate_memory(shape, make_config(*words), GPU) for words in ((), VLLM))
    lasting = plain.libraries + plain.weights + plain.optimizer
    assert shared.generating == lasting + GPU / 2
    assert shared.learning == plain.learning + VLLM_ASLEEP
    assert shared.total == max(shared.generating, shared.learning)


def test_on_the_cpu_vllm_keeps_a_copy_of_the_weights():
    shape = shape_of(FAMILIES["qwen2"]())
    plain, shared = (estimate_memory(shape, make_config(*words)) for words in ((), VLLM))
    assert shared.learning == plain.learning + plain.weights + CPU_CACHE_GIB * 2**30
    assert shared.generating == shared.learning - plain.learning + plain.generating - plain.kv_cache


def test_vllm_has_room_for_what_its_share_leaves():
    shape = shape_of(FAMILIES["qwen2"]())
    cfg = make_config(*VLLM)
    least, longest = least_vllm_share(shape, cfg), 4096 + 24
    per_token = 4 * 4 * 2 * 64  # bytes, layers, keys and values, their size
    assert vllm_cache_tokens(shape, cfg, 2 * least) == longest
    assert vllm_cache_tokens(shape, cfg, 2 * (least + 10 * per_token)) == longest + 10
    assert vllm_cache_tokens(shape, cfg, 0) == 0


def test_a_smaller_share_is_advised_where_generating_is_what_does_not_fit():
    cfg = load_config("sokoban", scale="7b-1gpu")
    gpu = 80 * 10**9
    changes, total = fitting_changes(QWEN_7B, cfg, 40 * 2**30, gpu)
    assert changes == ["engine.memory_fraction=0.25"]
    again = load_config("sokoban", "sesa", changes, "7b-1gpu")
    assert estimate_memory(QWEN_7B, again, gpu).total == total <= 40 * 2**30
    assert least_vllm_share(QWEN_7B, again) < 0.25 * gpu


def test_a_share_is_never_advised_that_vllm_cannot_start_with():
    cfg = load_config("sokoban", scale="7b-1gpu")
    changes, _ = fitting_changes(QWEN_7B, cfg, 2**30, 32 * 10**9)
    assert not any(change.startswith("engine.memory_fraction") for change in changes)


# ---- advice ----


def test_a_run_that_fits_is_left_as_it_is():
    cfg = load_config("sokoban")
    needed = estimate_memory(QWEN_7B, cfg).total
    assert fitting_changes(QWEN_7B, cfg, needed) == ([], needed)


def test_what_changes_speed_alone_comes_first():
    cfg = load_config("sokoban")
    needed = estimate_memory(QWEN_7B, cfg)
    changes, total = fitting_changes(QWEN_7B, cfg, int(needed.total * 0.8))
    assert changes == ["model.gradient_checkpointing=true"]
    assert total < needed.total * 0.8


def test_seven_billion_weights_go_onto_one_card_with_lora_in_bfloat16():
    cfg = load_config("sokoban")
    changes, total = fitting_changes(QWEN_7B, cfg, 24 * 2**30)
    assert {"model.dtype=bfloat16", "model.lora_rank=16"} <= set(changes)
    assert total <= 24 * 2**30
    again = load_config("sokoban", "sesa", changes)
    assert estimate_memory(QWEN_7B, again).total == total


def test_a_run_that_cannot_fit_gets_all_that_helps():
    changes, total = fitting_changes(QWEN_7B, load_config("sokoban"), 2**30)
    assert total > 2**30
    assert changes


def test_processes_divide_what_they_split_and_gather_the_rest():
    shape = shape_of(FAMILIES["llama"]())
    cfg = make_config("model.dtype=bfloat16", "engine.name=server")
    one, four = (estimate_memory(shape, cfg, 0, num) for num in (1, 4))
    # Split weights are float32 themselves: 4 bytes each, where one process has 2 and a copy of 4.
    assert four.weights == shape.num_weights and four.float32_copies == 0
    assert four.gradients == one.gradients / 4 and four.optimizer == one.optimizer / 4
    at_once = shape.num_weights - 2 * shape.layer_weights  # two of four layers
    assert (one.gathered, four.gathered) == (0, 8 * at_once)
    assert four.activations == one.activations and four.gathered_whole == 0
    assert four.learning - four.generating == four.gathered + four.gradients + four.activations + (
        four.logits
    )


def test_a_copy_in_every_process_is_a_whole_one():
    shape = shape_of(FAMILIES["llama"]())
    whole = estimate_memory(shape, make_config(), 0, 1)
    copies = estimate_memory(shape, make_config("optim.shard=1"), 0, 4)
    halves = estimate_memory(shape, make_config("optim.shard=2"), 0, 4)
    assert copies.optimizer == whole.optimizer == 2 * halves.optimizer


def test_a_model_that_generates_itself_is_gathered_whole_for_that_time():
    shape = shape_of(FAMILIES["llama"]())
    memory = estimate_memory(shape, make_config(), 0, 2)
    assert memory.gathered_whole == 4 * shape.num_weights


def test_a_reference_is_split_like_the_policy():
    shape = shape_of(FAMILIES["llama"]())
    words = ("model.dtype=bfloat16", "loss.kl_coef=0.1")
    assert estimate_memory(shape, make_config(*words), 0, 2).weights == 3 * shape.num_weights
