"""Logits in chunks: the same numbers and gradients, in memory that does not grow with the batch."""

from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from sesa_agent.agents.logprobs import chunked_logprobs, has_plain_head, token_logprobs
from sesa_agent.agents.policy import Policy

from ..helpers.model_families import ARCHITECTURES, make_rows, random_policy

ROWS = [([5, 6, 7, 8, 9, 10], 3), ([11, 12, 13], 2), ([14, 15, 16, 17], 1)]


def gpt2_policy() -> Policy:
    """Learned positions, and a head that is the embedding table."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    config = GPT2Config(vocab_size=60, initializer_range=0.3, **sizes)
    return Policy(GPT2LMHeadModel(config), None)


def make_policy(name: str) -> Policy:
    return gpt2_policy() if name == "gpt2" else random_policy(name)


def logprobs_and_gradients(policy, max_logits):
    """Of a loss that weighs every log-probability and every entropy differently."""
    policy.temperature, policy.max_logits = 0.7, max_logits
    policy.model.zero_grad()
    chosen, entropy = policy.logprobs(make_rows(ROWS), entropy_grad=True)
    weight = torch.linspace(0.5, 1.5, chosen.numel()).reshape(chosen.shape)
    ((chosen + 0.3 * entropy) * weight).sum().backward()
    gradient = torch.cat([weight.grad.flatten() for weight in policy.parameters()])
    return chosen.detach(), entropy.detach(), gradient


@pytest.mark.parametrize("name", [*ARCHITECTURES, "gpt2"])
@pytest.mark.parametrize("max_logits", [1, 700], ids=["one position", "some positions"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_chunks_give_the_same_numbers_and_gradients(name, max_logits, dtype, tolerance):
    """Up to the tolerance times the length of each vector; in float64 only rounding is left."""
    policy = make_policy(name)
    policy.model.to(dtype)
    assert has_plain_head(policy.model, torch.tensor([[5]]))
    whole = logprobs_and_gradients(policy, max_logits=10**9)
    parts = logprobs_and_gradients(policy, max_logits)
    for expected, actual in zip(whole, parts, strict=True):
        assert actual.dtype == dtype
        assert float((actual - expected).norm() / expected.norm()) < tolerance


def test_a_model_that_caps_its_logits_is_not_computed_in_chunks():
    """Gemma 2 caps its logits after the head, so chunks of the head's output would be wrong."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=2.0,
        pad_token_id=0,
    )
    policy = Policy(Gemma2ForCausalLM(config), None)
    assert not has_plain_head(policy.model, torch.tensor([[5]]))
    with torch.no_grad():
        expected = policy.logprobs(make_rows(ROWS))
        policy.max_logits = 1
        assert all(map(torch.equal, expected, policy.logprobs(make_rows(ROWS))))


def test_memory_for_the_backward_pass_does_not_grow_with_the_logits():
    """Between the passes, only hidden states and ids are kept, no logits."""
    saved = []
    head = torch.nn.Linear(8, 1000)
    hidden = torch.randn(50, 8, requires_grad=True)
    ids = torch.arange(50)

    def note(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        token_logprobs(head(hidden), ids, 1.0, True)
        assert max(saved) == 50 * 1000
        saved.clear()
        chunked_logprobs(head, hidden, ids, 1.0, True, chunk=10)
        assert max(saved, default=0) <= hidden.numel()


def test_the_softmax_of_bfloat16_logits_is_taken_in_float32():
    logits = torch.randn(3, 1000).bfloat16()
    chosen, entropy = token_logprobs(logits, torch.tensor([1, 2, 3]), 1.0, False)
    exact, exact_entropy = token_logprobs(logits.double(), torch.tensor([1, 2, 3]), 1.0, False)
    torch.testing.assert_close(chosen.double(), exact, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(entropy.double(), exact_entropy, rtol=1e-6, atol=1e-6)
