"""Models that lack what most have: they play, or are refused in one line."""

import json

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from sesa_agent.agents.policy import Policy
from sesa_agent.commands.evaluate import evaluate_policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.setup import build_dialogue, build_policy, resolve_auto

from ..helpers.tiny_models import LLAMA3, save_llama


@pytest.fixture
def folder(tmp_path):
    return save_llama(tmp_path / "model")


def without(name, *keys):
    """Drop settings from a JSON file, or set those that must be there to null."""

    def change(folder):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(values | dict.fromkeys(keys)))

    return change


def lose_end(folder):
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        without(name, "eos_token_id", "eos_token")(folder)


def lose_end_and_padding(folder):
    lose_end(folder)
    for name in ("config.json", "tokenizer_config.json"):
        without(name, "pad_token_id", "pad_token")(folder)


def know_one_token(folder):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE({"a": 0}, [])))
    tokenizer.chat_template = LLAMA3
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)


def lose_everything(folder):
    for file in folder.iterdir():
        file.unlink()


def lose_layers(folder):
    """A negative number raised deep inside of transformers' cache."""
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_hidden_layers": -1}))


def lose_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def lose_template(folder):
    (folder / "chat_template.jinja").unlink()


def write_binary_template(folder):
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe{{")


def divide_by_zero(folder):
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}{{ 1 / 0 }}")


def settings(folder):
    return resolve_auto(load_config("sokoban", "sesa", [f"model.path={folder}"]))


@pytest.mark.parametrize("change", [lose_end, lose_end_and_padding, know_one_token])
def test_a_model_without_end_padding_or_words_plays(folder, change):
    change(folder)
    cfg = settings(folder)
    assert evaluate_policy(cfg, build_policy(cfg), episodes=2).num_episodes == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (lose_everything, "has no config.json"),
        (lose_tokenizer, "could not be loaded: .*tokenizer"),
        (lose_layers, "is damaged: config.json says that the model has no layers"),
        (lose_template, "names a model without a chat template"),
        (write_binary_template, "could not be loaded: .*utf-8"),
        (divide_by_zero, "its chat template fails: ZeroDivisionError: division by zero"),
    ],
)
def test_a_model_that_cannot_play_is_refused_in_one_line_that_names_it(folder, change, message):
    change(folder)
    with pytest.raises(SettingError, match=message) as error:
        cfg = settings(folder)
        build_dialogue(cfg, Policy.load(str(folder), device="cpu"))
    assert str(error.value).startswith(f"model.path {str(folder)!r}")
    assert "\n" not in str(error.value)
