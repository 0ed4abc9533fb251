"""Generation gives the same with shared prefixes, preallocated buffers, or no KV cache at all."""

from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.engines.hf_batch import common_prefix_length
from sesa_agent.agents.engines.kv_cache import (
    KVCache,
    NoKVCache,
    PreallocatedLayer,
    open_kv_cache,
)
from sesa_agent.agents.policy import Policy
from sesa_agent.training.pretraining.tiny_model import build_tokenizer

from ...helpers.model_families import make_rows, random_policy

TOKENIZER = build_tokenizer(["Up", "Down"])
SIZES: dict[str, Any] = {
    "vocab_size": len(TOKENIZER),
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": TOKENIZER.eos_token_id,
    "pad_token_id": TOKENIZER.pad_token_id,
}
WIDE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
SMALL: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **WIDE, **HEADS)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, **WIDE, **HEADS)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**SIZES, **SMALL)),
    "sliding": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, **WIDE, **HEADS, sliding_window=8)
    ),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, **WIDE, **HEADS, sliding_window=8)),
    "first gpt": lambda: OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SIZES, **SMALL)),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(**SIZES, hidden_size=32, num_hidden_layers=2, state_size=4)
    ),
}
PREALLOCATED = {"llama", "qwen3", "gpt2"}
RULES = list(range(100, 180)) * 2
"""A prefix that is long enough to be computed separately."""
PROMPTS = [[*RULES, 5], [*RULES, 6, 7, 8, 9], [*RULES, 6, 7], [*RULES, 5], [*RULES, 9] * 1]


@pytest.fixture(scope="module", params=MODELS)
def policy(request):
    torch.manual_seed(0)
    return Policy(MODELS[request.param](), TOKENIZER)


def short(policy, prompts):
    """Prompts that fit the positions of every model here."""
    return [prompt[-100:] for prompt in prompts]


def test_every_kind_of_model_samples_with_the_logprobs_that_training_computes(policy):
    prompts = short(policy, PROMPTS)
    completions = HFEngine(policy).generate(prompts, SamplingParams(max_new_tokens=12))
    rows = [
        ([*prompt, *completion.token_ids], len(prompt))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    with torch.no_grad():
        logprobs, _ = policy.logprobs(make_rows(rows, TOKENIZER.pad_token_id))
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        trained = logprobs[row, len(prompt) : len(prompt) + len(completion.token_ids)]
        assert completion.logprobs == pytest.approx(trained.tolist(), abs=1e-4)


def test_a_row_generated_alone_equals_the_row_generated_with_others(policy):
    prompts = short(policy, PROMPTS)
    params = SamplingParams(max_new_tokens=8, seed=1)
    together = HFEngine(policy).generate(prompts, params)
    apart = HFEngine(policy, max_batch_tokens=1).generate(prompts, params)
    assert [c.token_ids for c in apart] == [c.token_ids for c in together]


def test_models_that_attend_to_all_tokens_share_prefixes_and_the_others_do_not():
    shares = {name: open_kv_cache(make()).can_branch for name, make in MODELS.items()}
    assert {name for name, can in shares.items() if can} == PREALLOCATED
    whole = {name for name, make in MODELS.items() if isinstance(open_kv_cache(make()), NoKVCache)}
    assert whole == {"first gpt", "mamba"}


def test_a_shared_prefix_is_computed_once():
    policy, seen = random_policy("llama"), []
    hook = policy.model.register_forward_pre_hook(
        lambda *call: seen.append(tuple(call[2]["input_ids"].shape)), with_kwargs=True
    )
    HFEngine(policy).generate(PROMPTS, SamplingParams(max_new_tokens=2))
    hook.remove()
    assert seen[:2] == [(1, len(RULES)), (4, 4)]


@pytest.mark.parametrize(
    "prompts, expected",
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2], [1, 2, 4]], 1),  # the first must have a token left to compute
        ([[1, 2, 3]], 2),
        ([[5, 1], [6, 1]], 0),
        ([[1], [1, 2]], 0),
    ],
)
def test_the_common_prefix_length_leaves_a_token_to_each(prompts, expected):
    assert common_prefix_length(prompts) == expected


def test_a_preallocated_layer_returns_all_keys_and_rarely_copies_them():
    layer, torch_layer = PreallocatedLayer(), []
    for count in (5, *[1] * 40):
        states = torch.randn(2, 3, count, 4)
        torch_layer.append(states)
        keys, values = layer.update(states, -states)
        assert torch.equal(keys, torch.cat(torch_layer, 2)) and torch.equal(values, -keys)
    assert layer.keys is not None
    shown, buffer = layer.keys.clone(), layer.buffers[0]
    layer.update(states, states)
    assert layer.buffers[0] is buffer
    layer.batch_select_indices(torch.tensor([1, 1, 0]))
    keys, _ = layer.update(states[:1].expand(3, -1, -1, -1), states[:1].expand(3, -1, -1, -1))
    assert torch.equal(keys[:, :, : shown.shape[2]], shown[[1, 1, 0]])


def test_the_models_attention_setting_is_restored():
    model = random_policy("qwen2").model
    for name in (model.config._attn_implementation, "sdpa"):
        model.config._attn_implementation = name
        KVCache(model).extend([[1, 2]])
        assert model.config._attn_implementation == name
