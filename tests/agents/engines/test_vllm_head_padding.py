"""Padded heads give the same model."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from sesa_agent.agents.engines.vllm_head_padding import (
    MIN_HEAD_DIM,
    head_dim,
    widen_config,
    widen_weights,
)
from sesa_agent.configs.errors import SettingError

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [LlamaConfig, Qwen2Config])
def test_wide_heads_give_the_logits_of_the_narrow_ones(family, tied):
    torch.manual_seed(0)
    config = family(**SHAPE, tie_word_embeddings=tied)
    narrow = AutoModelForCausalLM.from_config(config).double().eval()
    for parameter in narrow.parameters():  # biases start at zero, which would hide mistakes
        torch.nn.init.normal_(parameter, std=0.4)
    wide = AutoModelForCausalLM.from_config(widen_config(config)).double().eval()
    wide.load_state_dict(dict(widen_weights(narrow.state_dict().items(), config)))
    assert (head_dim(config), head_dim(wide.config)) == (8, MIN_HEAD_DIM)
    ids = torch.randint(50, (3, 40))
    with torch.no_grad():
        expected, found = narrow(ids).logits, wide(ids).logits
    # rotary angles are float32 in transformers, whatever the weights are
    assert torch.allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.4


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 36},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
    ],
)
def test_heads_that_cannot_be_widened_are_refused(change):
    with pytest.raises(SettingError, match="engine.name must be hf for this model on the CPU"):
        widen_config(LlamaConfig(**{**SHAPE, **change}))
