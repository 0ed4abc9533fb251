"""Calls in the formats of chat templates, and prompts that list tools."""

import json

import pytest
from tokenizers import AddedToken

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.tool_calls import READERS, read_tool_response
from sesa_agent.agents.tool_chat import with_tools
from sesa_agent.configs.errors import SettingError
from sesa_agent.environments.tools.tool import make_tool

from ..helpers.tiny_models import LLAMA3_TOOLS, QWEN_TOOLS, byte_tokenizer, chatml_tokenizer

SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>")
SPECIAL += ("<|eot_id|>",)
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


SCHEMAS = [make_tool(add).schema()]


def tokenizer(template: str, eos: str):
    made = byte_tokenizer(template, SPECIAL, eos=eos)
    made.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return made


QWEN, LLAMA = tokenizer(QWEN_TOOLS, "<|im_end|>"), tokenizer(LLAMA3_TOOLS, "<|eot_id|>")


@pytest.mark.parametrize(("own", "name"), [(QWEN, "hermes"), (LLAMA, "json")])
def test_the_format_of_a_template_is_found_and_a_conversation_equals_it(own, name):
    chat, found = with_tools(ChatFormat(own), SCHEMAS)
    assert found == name
    call = {"name": "add", "arguments": {"a": 1, "b": 2}}
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]

    def rendered(**options):
        return own.apply_chat_template(messages, tools=SCHEMAS, tokenize=False, **options)

    ids = chat.opening("S", "Q")
    assert own.decode(ids) == rendered(add_generation_prompt=True)
    reply = {"role": "assistant", "content": "", "tool_calls": [{"function": call}]}
    opened = rendered(add_generation_prompt=True)
    messages.append(reply)
    written = rendered(add_generation_prompt=False)[len(opened) :]
    response = tuple(own.encode(written.removesuffix("\n"), add_special_tokens=False))
    text = own.decode(response, skip_special_tokens=True)
    assert json.loads(READERS[name](text) or "") == call
    result = 'the "sum"\nis 3'
    messages.append({"role": "tool", "content": result})
    ids += response + chat.reply(response, result)
    assert own.decode(ids) == rendered(add_generation_prompt=True)
    chat.check_appends()


def test_a_request_is_appended_to_the_last_result():
    chat, _ = with_tools(ChatFormat(QWEN), SCHEMAS)
    ids = chat.opening("S", "Q") + chat.reply((), "3")
    longer = chat.append_to_question(ids, "\nAnother.")
    assert QWEN.decode(longer) == QWEN.decode(ids).replace(
        "\n3\n</tool_response>", "\n3\nAnother.\n</tool_response>"
    )
    assert "Q\nAnother.<|im_end|>" in QWEN.decode(
        chat.append_to_question(chat.opening("S", "Q"), "\nAnother.")
    )


def test_the_tags_of_results_are_plain_text_within_a_result():
    chat, _ = with_tools(ChatFormat(QWEN), SCHEMAS)
    closing = QWEN.convert_tokens_to_ids("</tool_response>")
    assert chat.reply((), "3").count(closing) == 1
    assert chat.reply((), "</tool_response>").count(closing) == 1


def test_a_template_without_tools_keeps_its_chat_format():
    chat = ChatFormat(chatml_tokenizer())
    assert with_tools(chat, SCHEMAS) == (chat, "")


CALL = '{"name": "f", "arguments": {"a": 1}}'


@pytest.mark.parametrize(
    ("name", "response", "calls"),
    [
        ("hermes", f"Hm.\n<tool_call>\n{CALL}\n</tool_call>", CALL),
        (
            "hermes",
            f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>",
            f"{CALL}\n{CALL}",
        ),
        ("hermes", f"<think>\n<tool_call>{CALL}</tool_call></think>no", None),
        ("hermes", f"<tool_call>{CALL}", None),
        ("hermes", "<tool_call>{'name': 'f'}</tool_call>", None),
        ("json", '{"name": "f", "parameters": {"a": 1}}', CALL),
        ("json", f"Sure: {CALL}", None),
        ("mistral", f"[TOOL_CALLS][{CALL}]", CALL),
        ("mistral", CALL, None),
        ("", '<answer><tool name="f">1</tool></answer>', '<tool name="f">1</tool>'),
        ("", '<tool name="f">1</tool>', None),
    ],
)
def test_a_response_is_read_in_its_format(name, response, calls):
    assert read_tool_response(response, name, thinking=False) == calls


@pytest.mark.parametrize("piece", ["<tool_call>", "<tool_call></tool_call>", "[", '{"name":', ";"])
@pytest.mark.parametrize("name", READERS)
def test_long_texts_are_read_without_an_error(name, piece):
    assert read_tool_response(piece * 50_000, name, thinking=False) is None


def test_a_template_that_forgets_calls_is_refused_for_several_turns():
    forgetful = QWEN_TOOLS.replace(
        "{%- for message in messages %}", "{%- for message in messages[-2:] %}"
    )
    chat, _ = with_tools(ChatFormat(tokenizer(forgetful, "<|im_end|>")), SCHEMAS)
    with pytest.raises(SettingError):
        chat.check_appends()
