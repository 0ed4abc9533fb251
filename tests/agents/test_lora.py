"""LoRA: a fresh adapter changes nothing, only it is trained and saved, and it can be merged."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.lora import add_adapter, load_adapter
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError

from ..helpers.model_families import ARCHITECTURES, ROWS, make_rows, random_policy

FAMILIES = [*ARCHITECTURES, "gpt2"]


@pytest.fixture(params=FAMILIES)
def base(request, tmp_path):
    """The folder of a plain model."""
    folder = tmp_path / "base"
    random_policy(request.param).save(folder)
    return str(folder)


@pytest.fixture
def trained(base):
    """The model with an adapter that does something."""
    policy = Policy.load(base, device="cpu")
    add_adapter(policy.model, rank=4, base=base, seed=0)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return policy


@torch.no_grad()
def logprobs_of(policy):
    return torch.stack(policy.logprobs(make_rows(ROWS)))


def test_a_fresh_adapter_changes_nothing_and_only_it_is_trained(base):
    policy = Policy.load(base, device="cpu")
    before = logprobs_of(policy)
    weights = {name: weight.clone() for name, weight in policy.model.state_dict().items()}
    add_adapter(policy.model, rank=4, base=base, seed=0)
    assert torch.equal(logprobs_of(policy), before)
    assert all("lora_" in n for n, p in policy.model.named_parameters() if p.requires_grad)
    torch.cat(policy.logprobs(make_rows(ROWS), True)).sum().backward()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    optimizer.step()
    assert not torch.equal(logprobs_of(policy), before)
    after = policy.model.state_dict()
    for name, weight in weights.items():
        place, _, kind = name.rpartition(".")
        after_name = name if name in after else f"{place}.base_layer.{kind}"
        assert torch.equal(after[after_name], weight)


def test_every_linear_layer_except_the_head_has_an_adapter(base):
    policy = Policy.load(base, device="cpu")
    per_layer = 4 if "gpt2" in policy.model.config.model_type else 7
    add_adapter(policy.model, rank=4, base=base, seed=0)
    assert len(policy.parameters()) == 2 * 2 * per_layer  # A and B of two layers


def test_the_adapter_depends_only_on_the_seed(base):
    models = []
    for seed in (5, 5, 6):
        torch.manual_seed(len(models))
        state = torch.get_rng_state()
        policy = Policy.load(base, device="cpu")
        add_adapter(policy.model, rank=4, base=base, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        models.append(policy.parameters())
    assert all(map(torch.equal, models[0], models[1]))
    assert not all(map(torch.equal, models[0], models[2]))


def test_a_bfloat16_model_trains_a_float32_adapter(base):
    policy = Policy.load(base, dtype="bfloat16", device="cpu")
    add_adapter(policy.model, rank=4, base=base, seed=0)
    assert {weight.dtype for weight in policy.parameters()} == {torch.float32}
    logprobs, _ = policy.logprobs(make_rows(ROWS))
    logprobs.sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in policy.parameters())


def test_the_policy_before_training_is_the_base_model_with_shared_weights(base, trained):
    plain = logprobs_of(Policy.load(base, device="cpu"))
    reference = trained.before_training()
    assert reference.model is trained.model
    changed = logprobs_of(trained)
    assert not torch.equal(changed, plain)
    logprobs, _ = trained.logprobs(make_rows(ROWS))
    assert torch.equal(logprobs_of(reference), plain)
    logprobs.sum().backward()  # as in training: the reference computes between the two passes
    assert all(weight.grad is not None for weight in trained.parameters())
    assert torch.equal(logprobs_of(trained), changed)


def test_the_engine_sees_the_adapter(base, trained):
    params = SamplingParams(max_new_tokens=8, seed=1)
    prompts = [[5, 6, 7], [8, 9]]
    sampled = HFEngine(trained).generate(prompts, params)
    assert sampled != HFEngine(Policy.load(base, device="cpu")).generate(prompts, params)
    rows = [(list(p) + list(d.token_ids), len(p)) for p, d in zip(prompts, sampled, strict=True)]
    with torch.no_grad():
        ours, _ = trained.logprobs(make_rows(rows))
    for row, (prompt, completion) in enumerate(zip(prompts, sampled, strict=True)):
        end = len(prompt) + len(completion.token_ids)
        expected = torch.tensor(completion.logprobs)
        torch.testing.assert_close(ours[row, len(prompt) : end], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def logits_of(policy):
    return policy.model(torch.tensor([[5, 6, 7, 8]])).logits


def test_a_rollout_has_merged_weights_and_the_update_its_own(base, trained):
    before = {name: weight.clone() for name, weight in trained.model.state_dict().items()}
    plain, plain_logprobs = logits_of(trained), logprobs_of(trained)
    engine = HFEngine(trained)
    for _ in range(20):
        engine.load_weights(trained)
        assert all(layer.merged for layer in adapted_layers(trained.model))
        torch.testing.assert_close(logits_of(trained), plain, atol=1e-4, rtol=1e-4)
        engine.load_weights(trained)  # as evaluation and then a rollout do
        engine.sleep()
    after = trained.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert torch.equal(logprobs_of(trained), plain_logprobs)
    trained.logprobs(make_rows(ROWS))[0].sum().backward()
    assert all(weight.grad is not None for weight in trained.parameters())


@pytest.mark.parametrize("base", ["llama"], indirect=True)
def test_in_bfloat16_no_rounding_adds_up(base):
    """Taken back by subtraction, the frozen weights would drift with every rollout."""
    policy = Policy.load(base, dtype="bfloat16", device="cpu")
    add_adapter(policy.model, rank=4, base=base, seed=0)
    before = {name: w.clone() for name, w in policy.model.state_dict().items()}
    engine = HFEngine(policy)
    for _ in range(50):
        with torch.no_grad():
            for weight in policy.parameters():
                weight.add_(0.01)
        engine.load_weights(policy)
        engine.sleep()
    after = policy.model.state_dict()
    frozen = [name for name in before if ".lora_" not in name]
    assert frozen and all(torch.equal(after[name], before[name]) for name in frozen)
    expected = dict(policy.weights())
    engine.load_weights(policy)
    merged = policy.model.state_dict()
    for name in frozen:
        assert torch.equal(merged[name], expected[name.replace(".base_layer.", ".")])


def adapted_layers(model):
    return [layer for layer in model.modules() if hasattr(layer, "lora_A")]


def test_a_saved_adapter_is_restored_bit_for_bit(base, trained, tmp_path):
    trained.save(tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert not {"model.safetensors", "config.json"} & names
    again = Policy.load(base, device="cpu")
    add_adapter(again.model, rank=4, base=base, seed=9)
    load_adapter(again.model, str(tmp_path / "adapter"))
    assert all(map(torch.equal, again.parameters(), trained.parameters()))
    assert torch.equal(logprobs_of(again), logprobs_of(trained))


def test_the_folder_of_an_adapter_loads_as_a_plain_model_with_its_effect(trained, tmp_path):
    """It can be saved as a plain model, which does not need PEFT."""
    trained.save(tmp_path / "adapter")
    merged = Policy.load(str(tmp_path / "adapter"), device="cpu")
    torch.testing.assert_close(logprobs_of(merged), logprobs_of(trained), atol=1e-4, rtol=1e-4)
    assert len(merged.parameters()) == len(list(merged.model.parameters()))
    assert not any("lora" in name for name in merged.model.state_dict())
    merged.save(tmp_path / "plain")
    plain = Policy.load(str(tmp_path / "plain"), device="cpu")
    assert torch.equal(logprobs_of(plain), logprobs_of(merged))


def test_the_weights_for_another_engine_are_those_of_the_merged_model(trained, tmp_path):
    before = logprobs_of(trained)
    weights = dict(trained.weights())
    assert torch.equal(logprobs_of(trained), before)
    trained.save(tmp_path / "adapter")
    expected = Policy.load(str(tmp_path / "adapter"), device="cpu").model.state_dict()
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight)


def test_the_weights_of_a_plain_model_are_its_own():
    policy = random_policy("llama")
    weights, own = dict(policy.weights()), policy.model.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in own)


def cut_short(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def lose_a_matrix(folder):
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, folder / "adapter_model.safetensors")


def lose_the_weights(folder):
    (folder / "adapter_model.safetensors").unlink()


def change_the_config(**changes):
    def damage(folder):
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


def break_the_config(folder):
    (folder / "adapter_config.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        lose_a_matrix,
        lose_the_weights,
        break_the_config,
        change_the_config(peft_type="IA3"),
        change_the_config(base_model_name_or_path=None),
        change_the_config(base_model_name_or_path="./nowhere"),
        change_the_config(r=5),
    ],
)
@pytest.mark.parametrize("base", ["llama"], indirect=True)
def test_a_damaged_adapter_is_refused_in_one_line(trained, tmp_path, damage):
    trained.save(tmp_path / "adapter")
    damage(tmp_path / "adapter")
    with pytest.raises(SettingError, match="model.path") as error:
        Policy.load(str(tmp_path / "adapter"), device="cpu")
    assert "\n" not in str(error.value)


def test_without_peft_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)  # Python's own way to have an import fail
    with pytest.raises(SettingError, match=r"model.lora_rank=8 .*pip install 'sesa-agent\[lora\]'"):
        add_adapter(random_policy("llama").model, rank=8, base="x", seed=0)
