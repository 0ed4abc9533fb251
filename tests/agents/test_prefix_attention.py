"""Shared-prefix rows give the log-probabilities and gradients of padded rows, in every family."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
)

from sesa_agent.agents import prefix_attention as prefix_attention
from sesa_agent.agents.lora import add_adapter
from sesa_agent.agents.policy import Policy

from ..helpers.model_families import SHARING, SIZES, make_rows, policy_of, table_policy


def uneven_tree():
    """Rows that diverge after 3, 40 and 70 tokens, and one that is a prefix of others."""
    torch.manual_seed(1)
    trunk = torch.randint(1, 60, (70,)).tolist()
    lengths = [(70, 9), (70, 1), (40, 30), (40, 5), (70, 40), (3, 20)]
    rows = [trunk[:k] + torch.randint(1, 60, (n,)).tolist() for k, n in lengths]
    rows += [trunk[:60], rows[4] + torch.randint(1, 60, (17,)).tolist()]
    return make_rows([(row, max(1, len(row) - 12)) for row in rows])


def compute(policy, rows, shared, max_logits=2**25):
    """Log-probabilities, entropies and gradients of a loss that weighs all of them differently."""
    why, policy.padding_reason = policy.padding_reason, "" if shared else "a test says so"
    policy.max_logits = max_logits
    policy.model.zero_grad()
    chosen, entropy = policy.logprobs(rows, entropy_grad=True)
    weight = torch.linspace(-1.0, 1.5, chosen.numel()).reshape(chosen.shape)
    ((chosen + 0.3 * entropy) * weight).sum().backward()
    policy.padding_reason = why
    gradients = [p.grad.clone() for p in policy.parameters()]
    return chosen.detach(), entropy.detach(), *gradients


def assert_equal(policy, tolerance, **settings):
    """Compare shared-prefix with padded rows, relative to the largest number of each tensor."""
    rows = uneven_tree()
    padded = compute(policy, rows, shared=False)
    shared = compute(policy, rows, shared=True, **settings)
    for expected, actual in zip(padded, shared, strict=True):
        assert (actual - expected).abs().max() <= tolerance * max(1.0, expected.abs().max())
    assert padded[0].std() > 0.1


def read_tokens(policy):
    """A list that collects the number of tokens of each forward pass, padding included."""
    counts = []

    def note(module, inputs):
        counts.append(inputs[0].numel())

    policy.model.get_input_embeddings().register_forward_pre_hook(note)
    return counts


@pytest.mark.parametrize("family", SHARING)
def test_shared_prefix_rows_equal_padded_rows_up_to_rounding(family):
    policy = policy_of(SHARING[family])
    counts = read_tokens(policy)
    assert_equal(policy, 1e-5)
    padded, shared = counts
    assert padded == uneven_tree().token_ids.numel() > 3 * shared


@pytest.mark.parametrize("family", SHARING)
def test_logprobs_and_all_gradients_agree_in_float64(family):
    """transformers computes norms and rotary angles in float32 for weights of any dtype."""
    assert_equal(policy_of(SHARING[family], torch.float64), 1e-6)


@pytest.mark.parametrize("family", SHARING)
def test_recomputed_layers_find_the_same_attention(family):
    policy = policy_of(SHARING[family], torch.float64)
    policy.recompute_layers()
    assert_equal(policy, 1e-6)


@pytest.mark.parametrize("max_logits", [1, 500])
def test_logits_in_chunks_give_the_same_numbers(max_logits):
    assert_equal(policy_of(SHARING["qwen2"], torch.float64), 1e-6, max_logits=max_logits)


def test_an_adapter_gets_the_same_gradients():
    pytest.importorskip("peft")
    policy = policy_of(SHARING["llama"])
    add_adapter(policy.model, 2, "base", seed=0)
    policy.model.double()
    for weight in policy.parameters():  # half of them start at zero
        torch.nn.init.normal_(weight, std=0.3)
    assert_equal(policy, 1e-6)


def test_rows_that_share_nothing_are_padded():
    policy = policy_of(SHARING["llama"])
    counts = read_tokens(policy)
    with torch.no_grad():
        policy.logprobs(make_rows([([n] * length, 20) for n, length in enumerate((29, 30), 1)]))
    assert counts == [2 * 30]


def test_bfloat16_gives_the_same_logprobs_up_to_its_rounding():
    exact = compute(policy_of(SHARING["qwen2"]), uneven_tree(), shared=True)
    rough = compute(policy_of(SHARING["qwen2"], torch.bfloat16), uneven_tree(), shared=True)
    assert (rough[0] - exact[0]).abs().max() < 0.1


def test_a_saved_model_keeps_its_own_attention(tmp_path):
    policy_of(SHARING["llama"]).model.save_pretrained(tmp_path)
    assert "sesa_tree" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_the_reason_for_padding_is_given():
    window = MistralConfig(**SIZES, sliding_window=8)
    assert "do not attend to all earlier tokens" in policy_of(window).padding_reason
    neo = GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k != "num_key_value_heads"})
    assert policy_of(neo).padding_reason.startswith("models of type gpt_neox")
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES), attn_implementation="eager")
    assert "its attention is eager" in Policy(model, None).padding_reason
    assert table_policy([[0.5, 0.5], [0.5, 0.5]], "ab").padding_reason
    with torch.no_grad():
        policy_of(window).logprobs(uneven_tree())


def attend_one_by_one(query, key, value, own_ends, path_ends, *longest, scale, **settings):
    """What torch documents for its variable-length kernel, which runs only on GPUs."""
    assert longest == (own_ends.diff().max(), path_ends.diff().max())
    assert settings["window_size"] == (-1, 0)  # causal: the last query attends to the last key
    outputs = []
    for run in range(len(own_ends) - 1):
        q = query[own_ends[run] : own_ends[run + 1]].transpose(0, 1)
        k, v = (s[path_ends[run] : path_ends[run + 1]].transpose(0, 1) for s in (key, value))
        seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[None], k[None], v[None], attn_mask=seen, scale=scale,
                enable_gqa=settings["enable_gqa"],
            )[0].transpose(0, 1)
        )  # fmt: skip
    return torch.cat(outputs)


@pytest.mark.parametrize("family", SHARING)
def test_all_runs_in_one_call_equal_the_runs_in_groups(family, monkeypatch):
    monkeypatch.setattr(prefix_attention.varlen, "varlen_attn", attend_one_by_one)
    monkeypatch.setattr(prefix_attention, "runs_to_attend", prefix_attention.runs_in_one_call)
    assert_equal(policy_of(SHARING[family], torch.float64), 1e-6)


@pytest.mark.parametrize("offset", [0, 1])
def test_a_kernel_that_aligns_its_mask_differently_is_rejected(offset, monkeypatch):
    def attend(query, key, value, own_ends, path_ends, *longest, **settings):
        path_ends = path_ends.clone()
        path_ends[1:-1] -= offset  # a path without its last token
        longest = own_ends.diff().max(), path_ends.diff().max()
        return attend_one_by_one(query, key, value, own_ends, path_ends, *longest, **settings)

    monkeypatch.setattr(prefix_attention.varlen, "varlen_attn", attend)
    prefix_attention.kernel_agrees.cache_clear()
    with torch.no_grad():  # as in scoring, the first caller
        agrees = prefix_attention.kernel_agrees(torch.device("cpu"), torch.bfloat16)
    prefix_attention.kernel_agrees.cache_clear()
    assert agrees == (offset == 0)


def test_the_kernel_is_not_used_on_the_cpu():
    assert not prefix_attention.kernel_agrees(torch.device("cpu"), torch.bfloat16)
