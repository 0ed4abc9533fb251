"""Logits in chunks: the same numbers and gradients, in memory that does not grow with the batch."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from sesa_agent.agents.logprobs import chunked_logprobs, has_plain_head, token_logprobs
from sesa_agent.agents.policy import Policy

from ..helpers.model_families import (
    ARCHITECTURES,
    ROWS,
    logprobs_and_gradients,
    make_rows,
    random_policy,
)


@pytest.mark.parametrize("name", [*ARCHITECTURES, "gpt2"])
@pytest.mark.parametrize("max_logits", [1, 700], ids=["one position", "some positions"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_chunks_give_the_same_numbers_and_gradients(name, max_logits, dtype, tolerance):
    """Up to the tolerance times the length of each vector; in float64 only rounding is left."""
    policy = random_policy(name)
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
