import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesa_agent.agents.model_folder import BUNDLED, bundled_model_folder, check_model_path
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.training.pretraining.tiny_model import build_model, build_tokenizer

from ..helpers.model_families import ARCHITECTURES, ROWS, make_rows, random_policy


def policy_with_learned_positions(temperature):
    """As the second bundled model is; with weights as large as in `random_policy`."""
    tokenizer = build_tokenizer(["Up", "Down"])
    model = build_model(tokenizer, hidden_size=32, num_layers=2, positions="learned")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(10 if weight.ndim > 1 else 1)
    return Policy(model, tokenizer, temperature)


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "learned positions"])
def policy(request):
    if request.param in ARCHITECTURES:
        return random_policy(request.param, temperature=0.7)
    return policy_with_learned_positions(temperature=0.7)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    random_policy("llama").save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the saved model that a test may damage."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def distributions(policy, ids):
    """Log-probabilities of every token after each prefix of `ids`, by one prefix at a time."""
    with torch.no_grad():
        logits = [
            policy.model(input_ids=torch.tensor([ids[:end]])).logits[0, -1]
            for end in range(1, len(ids))
        ]
    return torch.log_softmax(torch.stack(logits) / policy.temperature, dim=-1)


# ---- log-probabilities ----


def test_an_entry_belongs_to_its_own_token_given_those_before_it(policy):
    with torch.no_grad():
        logprobs, entropy = policy.logprobs(make_rows(ROWS))
    for row, (ids, first) in enumerate(ROWS):
        expected = distributions(policy, ids)
        for t in range(first, len(ids)):
            assert float(logprobs[row, t]) == pytest.approx(
                float(expected[t - 1, ids[t]]), abs=1e-5
            )
            nats = -float((expected[t - 1].exp() * expected[t - 1]).sum())
            assert float(entropy[row, t]) == pytest.approx(nats, abs=1e-4)


def test_untrained_positions_are_zero(policy):
    rows = make_rows([([5, 6, 7, 8, 9], 3), ([5, 6, 7, 8], 2)])
    for values in policy.logprobs(rows):
        assert values.shape == (2, 5)
        assert torch.equal(values != 0, rows.loss_mask)


def test_padding_and_other_rows_change_nothing(policy):
    with torch.no_grad():
        padded, _ = policy.logprobs(make_rows(ROWS, pad_id=9, extra=4))
        for row, (ids, first) in enumerate(ROWS):
            alone, _ = policy.logprobs(make_rows([(ids, first)]))
            trained = slice(first, len(ids))
            torch.testing.assert_close(padded[row, trained], alone[0, trained])


def test_gradients_flow_through_entropies_only_on_demand(policy):
    _, entropy = policy.logprobs(make_rows(ROWS))
    assert not entropy.requires_grad
    logprobs, entropy = policy.logprobs(make_rows(ROWS), entropy_grad=True)
    assert logprobs.requires_grad and entropy.requires_grad
    with torch.no_grad():
        assert not policy.logprobs(make_rows(ROWS), entropy_grad=True)[1].requires_grad


def test_the_optimiser_gets_every_weight_and_no_dropout(policy):
    assert len(policy.parameters()) == len(list(policy.model.parameters()))
    assert not policy.model.training


# ---- saving and loading ----


def test_a_saved_policy_comes_back_bit_for_bit(policy, tmp_path):
    policy.save(tmp_path)
    loaded = Policy.load(str(tmp_path), device="cpu", temperature=0.7)
    assert type(loaded.model) is type(policy.model)
    ours, theirs = policy.model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert loaded.tokenizer.get_vocab() == policy.tokenizer.get_vocab()
    assert loaded.tokenizer.chat_template == policy.tokenizer.chat_template
    with torch.no_grad():
        again = loaded.logprobs(make_rows(ROWS))
        assert all(map(torch.equal, again, policy.logprobs(make_rows(ROWS))))


def test_bfloat16_loads_and_gives_float32_logprobs(saved):
    policy = Policy.load(str(saved), dtype="bfloat16", device="cpu")
    assert {weight.dtype for weight in policy.parameters()} == {torch.bfloat16}
    logprobs, entropy = policy.logprobs(make_rows(ROWS))
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert torch.isfinite(logprobs).all()


def damage_config(folder):
    (folder / "config.json").write_text('{"model_type": "llama"', encoding="utf-8")


def name_no_architecture(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "abacus"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def cut_weights_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def lose_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def damage_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")


def lose_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def lose(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lose("config.json"), "has no config.json"),
        (damage_config, "is damaged: config.json is not JSON"),
        (name_no_architecture, "could not be loaded: .*abacus"),
        (lose("model.safetensors"), "could not be loaded: .*model.safetensors"),
        (cut_weights_short, "could not be loaded: "),
        (lose_a_weight, r"is damaged: .* model\.layers\.1\.mlp\.up_proj\.weight"),
        (damage_tokenizer, "could not be loaded: "),
        (lose_tokenizer, "could not be loaded: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_folder_is_refused_in_one_line_that_names_it(folder, damage, message):
    damage(folder)
    with pytest.raises(SettingError, match=message) as error:
        Policy.load(str(folder))
    assert str(error.value).startswith(f"model.path {str(folder)!r} ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["no-such-model", "./no/such/model", "", "~/a"])
def test_a_missing_folder_is_refused_before_anything_is_loaded(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="model.path .*config.json"):
        check_model_path(path)


def test_a_name_on_the_hub_is_left_to_the_hub():
    check_model_path("somebody/some-model")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_loaded_by_its_name(name, tmp_path, monkeypatch):
    """From any folder; and its own folder is whole."""
    monkeypatch.chdir(tmp_path)
    check_model_path(str(bundled_model_folder(name)))
    assert Policy.load(name, temperature=0.7).temperature == 0.7
    assert (bundled_model_folder(name) / "README.md").is_file()
    with pytest.raises(SettingError, match="does not exist"):
        Policy.load(name + "-of-mine")
