import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.token_sampling import next_token_probs, sample_tokens


@given(
    vocabulary=st.sampled_from([1, 7, 300, 4096, 4097, 5000, 5120]),
    seed=st.integers(0, 99),
    zeros=st.sampled_from([0.0, 0.5, 0.999]),
)
def test_a_sample_is_the_first_token_where_the_cumulative_sum_passes_the_uniform(
    vocabulary, seed, zeros
):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(4, vocabulary, generator=generator, dtype=torch.float64)
    weights *= torch.rand(4, vocabulary, generator=generator) >= zeros
    weights[:, seed % vocabulary] += 0.1
    uniforms = torch.rand(4, generator=generator, dtype=torch.float64)
    tokens, totals = sample_tokens(weights, uniforms)
    cumulative = weights.cumsum(-1)
    expected = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)
    assert torch.equal(tokens, expected[:, 0])
    assert torch.allclose(totals, weights.sum(-1))


@pytest.mark.parametrize("vocabulary", [300, 5000])
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_sample_a_token_with_weight(vocabulary, uniform):
    for place in (0, 1, vocabulary // 2, vocabulary - 1):
        weights = torch.zeros(1, vocabulary, dtype=torch.float64)
        weights[0, place] = 0.3
        tokens, _ = sample_tokens(weights, torch.tensor([uniform], dtype=torch.float64))
        assert tokens.tolist() == [place]


def test_probabilities_add_up_to_one_in_double_precision():
    logits = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0)) * 10
    for temperature in (1.0, 0.7):
        probs = next_token_probs(logits, temperature, top_p=1.0)
        expected = torch.log_softmax(logits.double() / temperature, dim=-1)
        assert torch.allclose(probs.log(), expected, atol=1e-12, rtol=0)
