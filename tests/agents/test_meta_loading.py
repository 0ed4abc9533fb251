"""A model that is filled is the one that transformers loads."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sesa_agent.agents.meta_loading import can_fill, empty_model, fill_model, round_weights
from sesa_agent.agents.policy import Policy
from sesa_agent.agents.sharding import decoder_layers
from sesa_agent.configs.errors import SettingError

from ..helpers.model_families import SHARING

IDS = torch.arange(12)[None]


def save(folder, config):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def state(model):
    return dict(model.named_parameters()) | dict(model.named_buffers())


@pytest.mark.parametrize("family", SHARING)
def test_a_filled_model_equals_a_loaded_one(tmp_path, family):
    save(tmp_path, SHARING[family])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    filled = empty_model(str(tmp_path), torch.float32)
    assert all(weight.is_meta for weight in filled.parameters())
    assert can_fill(filled, tmp_path)
    fill_model(filled, tmp_path, "cpu")
    expected, found = state(loaded), state(filled.eval())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(filled(IDS).logits, loaded(IDS).logits)
    assert len(decoder_layers(filled)) == 2


def test_weights_under_other_names_or_of_other_shapes_are_left_to_transformers(tmp_path):
    save(tmp_path, SHARING["llama"])
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    model = empty_model(str(tmp_path), torch.float32)
    for wrong in (
        {f"old.{name}": value for name, value in weights.items()},
        {"lm_head.weight": IDS},
    ):
        save_file({**weights, **wrong} if len(wrong) == 1 else wrong, path)
        assert not can_fill(model, tmp_path)
        with pytest.raises(ValueError, match="has shape"):
            fill_model(empty_model(str(tmp_path), torch.float32), tmp_path, "cpu")
    path.write_bytes(path.read_bytes()[:-4])
    assert not can_fill(model, tmp_path)


def test_rounded_weights_are_those_of_the_other_dtype():
    model = torch.nn.Linear(3, 2)
    expected = model.weight.bfloat16()
    round_weights(model, torch.bfloat16)
    assert model.weight.dtype == torch.float32
    assert torch.equal(model.weight, expected.float())


@pytest.mark.parametrize("name", ["sesa-tiny", "sesa-tiny-answers"])
def test_a_policy_is_filled_with_the_weights_of_its_folder(name):
    policy = Policy.load_empty(name)
    assert policy is not None and policy.can_share_prefix
    policy.fill(name, "cpu")
    loaded = Policy.load(name, device="cpu")
    assert torch.equal(policy.model(IDS).logits, loaded.model(IDS).logits)
    assert policy.model.generation_config.to_dict() == loaded.model.generation_config.to_dict()


def test_weights_that_are_not_finite_are_refused(tmp_path, llama):
    policy = Policy.load(str(llama), device="cpu")
    with torch.no_grad():
        next(iter(policy.model.parameters()))[3] = torch.inf
    policy.save(tmp_path)
    empty = Policy.load_empty(str(tmp_path))
    assert empty is not None
    with pytest.raises(SettingError, match="not finite in float32, model.embed_tokens.weight"):
        empty.fill(str(tmp_path), "cpu")
