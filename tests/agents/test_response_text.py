"""What a response says, and that an engine stops at tags that are special tokens.

A tokenizer with `<answer>` among its special tokens scored 0 for ever: the tags vanished with the
end of sequence.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.parsing import read_answer
from sesa_agent.agents.policy import Policy
from sesa_agent.agents.prompts import STOP
from sesa_agent.agents.response_text import FORMAT_TAGS, ResponseDecoder

from ..helpers.model_families import TableModel
from ..helpers.sentencepiece_families import family_tokenizer
from ..helpers.tiny_models import CHATML, byte_tokenizer

CONTROL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
TAGS = byte_tokenizer(CHATML, (*CONTROL, *FORMAT_TAGS, "<tool_call>"), eos="<|im_end|>")
LLAMA = family_tokenizer("llama 2")
GEMMA = family_tokenizer("gemma")


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def test_tags_that_are_special_tokens_stay_and_control_tokens_go():
    ids = ids_of(TAGS, "<think>up?</think><answer>Up</answer><tool_call><|im_end|><|pad|>")
    assert len(ids_of(TAGS, "</answer>")) == 1
    assert ResponseDecoder(TAGS).text(ids) == "<think>up?</think><answer>Up</answer><tool_call>"


@given(st.lists(st.integers(0, len(TAGS) - 1), max_size=12))
def test_a_byte_level_response_reads_as_ever(ids):
    """Decoded as a whole, without special tokens; tags aside, which are kept."""
    tags = {*TAGS.convert_tokens_to_ids([*FORMAT_TAGS, "<tool_call>"])}
    ids = [token_id for token_id in ids if token_id not in tags]
    assert ResponseDecoder(TAGS).text(ids) == TAGS.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("tokenizer", [LLAMA, GEMMA], ids=["llama", "gemma"])
@given(before=st.text("ab ."), text=st.text("ab é\n.T<"))
def test_a_response_keeps_the_space_that_the_model_wrote(tokenizer, before, text):
    """Decoded by itself, `▁Up` lost its space in Llama 2."""
    start = ids_of(tokenizer, "x" + before)
    ids = ids_of(tokenizer, "x" + before + text)
    if ids[: len(start)] == start:
        assert ResponseDecoder(tokenizer).text(ids[len(start) :]) == text


def test_the_end_of_a_llama_response_goes():
    ids = ids_of(LLAMA, "x <answer>Up</answer></s>")[1:]
    assert ResponseDecoder(LLAMA).text(ids).removeprefix("x") == " <answer>Up</answer>"


def writing(tokenizer, text):
    """A policy that writes a text, one token after the other; no token comes twice in it."""
    ids = ids_of(tokenizer, text)
    assert len({*ids}) == len(ids)
    table = torch.full((len(tokenizer), len(tokenizer)), 1e-9)
    for token, following in zip(ids, ids[1:], strict=False):
        table[token, following] = 1.0
    return Policy(TableModel(table), tokenizer), ids


def test_the_hf_engine_stops_at_a_tag_that_is_one_special_token():
    policy, ids = writing(TAGS, "x<answer>Go</answer>ta")
    params = SamplingParams(max_new_tokens=20, stop=(STOP,))
    (completion,) = HFEngine(policy).generate([ids[:1]], params)
    assert (completion.text, completion.finish_reason) == ("<answer>Go</answer>", "stop")
    assert completion.token_ids == tuple(ids[1:5])
    assert read_answer(completion.text, thinking=False) == "Go"
