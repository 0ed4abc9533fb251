import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.configs.errors import SettingError
from sesa_agent.training.pretraining.tiny_model import build_tokenizer

from ..helpers.tiny_models import CHATML, LLAMA3, byte_tokenizer

MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""No system role, and the error message does not mention it."""

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<|im_start|>' + role + '\n' + message['content'] | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
"""No system role, and the end-of-turn token is not the tokenizer's end of sequence."""

SILENT = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'] + ': ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""Silently drops the system message."""

UNENDED = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""No token ends a turn."""

STRIPS_THOUGHTS = CHATML.replace(
    "message['content'] +", "message['content'].split('</think>')[-1] +"
)
"""Like Qwen 3 and DeepSeek R1: earlier thoughts are removed."""

OPENS_THOUGHTS = STRIPS_THOUGHTS.replace("assistant\n' }}", "assistant\n<think>\n' }}")
"""Like DeepSeek R1 and QwQ: the reply starts inside a thinking block."""

SWITCHES_THOUGHTS = STRIPS_THOUGHTS.replace(
    "assistant\n' }}",
    "assistant\n' }}{%- if enable_thinking is defined and not enable_thinking %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}",
)
"""Like Qwen 3: an empty thinking block keeps the model from thinking."""

MOVES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.last else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""Like Mistral v0.3: the system message moves to the last user message."""

COUNTS_ROUNDS = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'Round ' ~ loop.index + ': ' + message['content'] + '\nAnswer: ' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""The text between two turns depends on their number."""

FORGETS_REPLIES = CHATML.replace(
    "{%- if message['role'] != 'system' %}", "{%- if message['role'] == 'user' %}"
)
SINGLE_QUESTION = (
    "{% if messages | length > 2 %}{{ raise_exception('one question only') }}{% endif %}" + CHATML
)

SPECIAL = ("<|pad|>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
SPECIAL += ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def tokenizer(template, eos="</s>"):
    return byte_tokenizer(template, SPECIAL, eos=eos, bos="<s>")


TOKENIZERS = {
    "bundled": build_tokenizer(["first question", "Reward: 0\n"]),
    "qwen2": tokenizer(CHATML, eos="<|im_end|>"),
    "llama3": tokenizer(LLAMA3, eos="<|eot_id|>"),
    "mistral": tokenizer(MISTRAL),
    "gemma": tokenizer(GEMMA),
    "silent": tokenizer(SILENT),
    "unended": tokenizer(UNENDED),
}
CHATS = {name: ChatFormat(tokenizer) for name, tokenizer in TOKENIZERS.items()}
"""Shared by all tests, because they cache what they encode."""
END_OF_TURN = {"bundled": "<|end|>", "qwen2": "<|im_end|>", "llama3": "<|eot_id|>"}
END_OF_TURN |= {"mistral": "</s>", "gemma": "<|im_end|>", "silent": "</s>"}
NO_SYSTEM = ("gemma", "mistral", "silent")

words = st.text("ab #_√\n:.", min_size=1).map(str.strip).filter(bool)


def opening_messages(name, system, user):
    if name in NO_SYSTEM:
        return [{"role": "user", "content": f"{system}\n\n{user}"}]
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def rendered(name, messages):
    return TOKENIZERS[name].apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def encode(name, text):
    return tuple(TOKENIZERS[name].encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", TOKENIZERS)
@given(system=words, user=words, turns=st.lists(st.tuples(words, words, st.booleans()), max_size=3))
def test_a_conversation_assembled_from_ids_equals_the_rendered_template(name, system, user, turns):
    messages = opening_messages(name, system, user)
    ids = CHATS[name].opening(system, user)
    for response, question, is_ended in turns:
        response_ids = encode(name, response)
        response_ids += encode(name, END_OF_TURN[name]) if is_ended and name in END_OF_TURN else ()
        ids += response_ids + CHATS[name].reply(response_ids, question)
        messages += [
            {"role": "assistant", "content": response},
            {"role": "user", "content": question},
        ]
    assert TOKENIZERS[name].decode(ids) == rendered(name, messages)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_given_conversation_equals_the_rendered_template(name):
    given = [("system", "the rules"), ("user", "one"), ("assistant", "Up"), ("user", "two")]
    messages = opening_messages(name, "the rules", "one")
    messages += [{"role": role, "content": text} for role, text in given[2:]]
    assert TOKENIZERS[name].decode(CHATS[name].conversation(given)) == rendered(name, messages)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_written_response_is_plain_text_and_ends_as_the_template_ends_it(name):
    chat, text = CHATS[name], "<answer>Up</answer> <|im_end|>"
    assert TOKENIZERS[name].decode(chat.response(text)) == text
    assert chat.end_of_turn == encode(name, END_OF_TURN.get(name, "</s>"))
    assert not set(chat.end_of_turn) & set(chat.response(text))


@pytest.mark.parametrize("name", TOKENIZERS)
@given(system=words, user=words, more=words)
def test_appending_to_a_user_message_changes_no_token_before_it(name, system, user, more):
    chat = CHATS[name]
    prompt_ids = chat.opening(system, user)
    longer = chat.append_to_question(prompt_ids, "\n" + more)
    head = prompt_ids[: len(prompt_ids) - len(chat.tail_ids)]
    assert longer[: len(head)] == head
    messages = opening_messages(name, system, f"{user}\n{more}")
    assert TOKENIZERS[name].decode(longer) == rendered(name, messages)


@pytest.mark.parametrize("name", END_OF_TURN)
def test_a_sampled_end_of_turn_is_not_repeated(name):
    end = encode(name, END_OF_TURN[name])
    assert len(end) == 1
    response_ids = encode(name, "Up")
    cut_short = CHATS[name].reply(response_ids, "next")
    ended = CHATS[name].reply(response_ids + end, "next")
    assert cut_short[:1] == end
    assert cut_short == end + ended


@pytest.mark.parametrize("name", NO_SYSTEM)
def test_without_a_system_role_the_system_message_opens_the_first_user_message(name):
    text = TOKENIZERS[name].decode(CHATS[name].opening("the rules", "the state"))
    assert text.count("the rules\n\nthe state") == 1


def test_a_given_system_message_replaces_the_templates_own():
    text = TOKENIZERS["qwen2"].decode(CHATS["qwen2"].opening("the rules", "the state"))
    assert text == (
        "<|im_start|>system\nthe rules<|im_end|>\n<|im_start|>user\nthe state<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_start_of_text_token_appears_once():
    ids = CHATS["llama3"].opening("the rules", "the state")
    ids += CHATS["llama3"].reply((), "the next state")
    assert TOKENIZERS["llama3"].decode(ids).count("<s>") == 1
    assert TOKENIZERS["llama3"].decode(ids[:1]) == "<s>"


@pytest.mark.parametrize(
    "template",
    [MOVES_SYSTEM, COUNTS_ROUNDS, FORGETS_REPLIES, SINGLE_QUESTION],
    ids=["moves system", "counts rounds", "forgets replies", "single question"],
)
def test_a_template_that_rewrites_history_is_refused_for_several_turns_only(template):
    chat = ChatFormat(tokenizer(template))
    assert "the state" in chat.tokenizer.decode(chat.opening("the rules", "the state"))
    for refused in (chat.check_appends, lambda: chat.reply((1,), "next")):
        with pytest.raises(SettingError, match=r"model\.context=state"):
            refused()


def test_a_template_that_strips_thoughts_is_refused_only_with_thinking():
    chat = ChatFormat(tokenizer(STRIPS_THOUGHTS, eos="<|im_end|>"))
    chat.check_appends(thinking=False)
    with pytest.raises(SettingError, match=r"model\.context=state"):
        chat.check_appends(thinking=True)


@pytest.mark.parametrize("thinking", [False, True])
def test_a_thinking_block_that_the_template_opens_is_removed_from_the_prompt(thinking):
    """A response that starts inside the block could never have the required format."""
    chat = ChatFormat(tokenizer(OPENS_THOUGHTS, eos="<|im_end|>"), thinking)
    text = chat.tokenizer.decode(chat.opening("the rules", "the state"))
    assert text.endswith("the state<|im_end|>\n<|im_start|>assistant\n")
    assert chat.tokenizer.decode(chat.tail_ids) == "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("thinking", [False, True])
def test_a_template_that_can_switch_thoughts_off_gets_the_setting(thinking):
    chat = ChatFormat(tokenizer(SWITCHES_THOUGHTS, eos="<|im_end|>"), thinking)
    tail = chat.tokenizer.decode(chat.tail_ids)
    assert tail.endswith("assistant\n" if thinking else "<think>\n\n</think>\n\n")
    with pytest.raises(SettingError, match=r"model\.context=state"):
        chat.check_appends(thinking)


@pytest.mark.parametrize(
    "template, message",
    [
        (None, "without a chat template"),
        ("", "without a chat template"),
        ("{{ messages", "fails: TemplateSyntaxError"),
        ("{{ raise_exception('not today') }}", "fails: TemplateError: not today"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError: division by zero"),
        ("{{ messages + 1 }}", "fails: TypeError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "fails: RecursionError"),
        ("{% for i in range(10**9) %}{% endfor %}", "fails: OverflowError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails: SecurityError"),
        ("{{ 'a' * 10**6 }}{{ messages[0]['content'] }}", "writes 1000014 characters"),
        ("{{ 'a' * 10**10 }}", "needed more than 1 GiB of memory"),
        (
            "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}"
            "{% endfor %}",
            "needed more than 1 GiB of memory|did not end within 10 s",  # a busy machine is slow
        ),
        ({"tool_use": CHATML}, "cannot be chosen"),
        ("hello", "does not repeat the user's message once"),
    ],
)
def test_a_missing_or_broken_template_is_refused_in_one_line(template, message):
    with pytest.raises(SettingError, match=message) as error:
        ChatFormat(tokenizer(template))
    assert "\n" not in str(error.value)
