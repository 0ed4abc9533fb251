import math

import pytest

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.training.pretraining.tiny_model import build_tokenizer

TOKENIZER = build_tokenizer(["Up", "Down"])


def encode(text):
    return TOKENIZER.encode(text, add_special_tokens=False)


def test_a_script_gives_its_replies_in_order_over_all_calls():
    engine = ScriptedEngine(TOKENIZER, ["Up", "Down", "Up!"])
    params = SamplingParams()
    first = engine.generate([[1], [1]], params)
    second = engine.generate([[1]], params, [[first[0]]])
    assert [completion.text for completion in first + second] == ["Up", "Down", "Up!"]
    assert second[0].token_ids == tuple(encode("Up!"))
    assert second[0].logprobs == (math.log(0.5),) * 2


def test_a_script_may_be_a_function_of_the_prompts_text():
    engine = ScriptedEngine(TOKENIZER, lambda prompt: "Down" if "Up" in prompt else "Up")
    completions = engine.generate([encode("go Up"), encode("go")], SamplingParams())
    assert [completion.text for completion in completions] == ["Down", "Up"]
    assert (engine.usage.calls, engine.usage.response_tokens) == (2, 2)
    assert engine.usage.prompt_tokens == len(encode("go Up")) + len(encode("go"))


def test_a_script_that_is_too_short_is_an_error():
    with pytest.raises(IndexError):
        ScriptedEngine(TOKENIZER, ["Up"]).generate([[1], [1]], SamplingParams())
