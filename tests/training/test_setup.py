"""What is refused when the parts of a run are put together."""

import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.api import MessagesChat
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.setup import build_chat_dialogue, resolve_auto

from ..helpers.games import CHAT, TOKENIZER


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sampling.name=forest", "parallel, tree"),
        ("loss.name=gspo", "grpo"),
        ("loss.credit=luck", "auto, trajectory, tree"),
        ("loss.exploration=magic", "none, adaptive_entropy"),
        ("engine.name=gguf", "hf, vllm"),
    ],
)
def test_a_name_that_nothing_bears_is_refused_with_those_that_there_are(word, hint):
    key = word.partition("=")[0]
    with pytest.raises(SettingError, match=f"{key} must be one of {hint}"):
        resolve_auto(load_config("sokoban", overrides=[word]))


@pytest.mark.parametrize(
    ("words", "resolved"),
    [
        ([], "strict"),
        (["model.path=sesa-tiny-answers"], "strict"),
        (["model.answer_format=tolerant"], "tolerant"),
        (["model.path=some/model"], "tolerant"),
        (["model.path=some/model", "model.answer_format=strict"], "strict"),
    ],
)
def test_only_bundled_models_are_read_strictly_by_themselves(words, resolved):
    cfg = load_config("sokoban", overrides=words)
    assert resolve_auto(cfg).model.answer_format == resolved
    again = resolve_auto(resolve_auto(cfg))
    assert again == resolve_auto(cfg)
    assert build_chat_dialogue(cfg, CHAT, 1000).reader.is_strict == (resolved == "strict")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["model.thinking=true"], "false with model.thinking=true"),
        (["sampling.name=two_stage"], "false with sampling.name=two_stage"),
        (["sampling.proposer=one_response"], "false with sampling.proposer=one_response"),
    ],
)
def test_a_prefill_where_replies_begin_with_something_else_is_refused(words, hint):
    with pytest.raises(SettingError, match=f"model.prefill must be {hint}.*got True"):
        load_config("sudoku", overrides=["model.prefill=true", *words])


def test_a_prefill_is_refused_with_tools_and_behind_an_api():
    cfg = load_config("sesa/SqlQuestions-v0", overrides=["model.prefill=true"])
    with pytest.raises(SettingError, match="model.prefill must be false in .* calls tools"):
        resolve_auto(cfg)
    cfg = resolve_auto(load_config("sokoban", overrides=["model.prefill=true"]))
    with pytest.raises(SettingError, match="model.prefill must be false for a model behind an API"):
        build_chat_dialogue(cfg, MessagesChat(), 1000)
    chat = ChatFormat(TOKENIZER, prefill="<answer>")
    assert build_chat_dialogue(cfg, chat, 1000).reader.prefill == "<answer>"
