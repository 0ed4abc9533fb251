"""Environments with tools: what the model is told, how calls are read, and that nothing raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import ToolEnv, check_text_env, fork, tool
from sesa_agent.environments.tools.text_calls import read_calls
from sesa_agent.environments.tools.tool import make_tool


def weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: where.
        days: how far ahead.
    """
    return f"{city} in {days}: sun"


class Notes(ToolEnv):
    """Keep notes
    and submit the longest.

    Not shown.
    """

    tools = (weather,)
    max_steps = 4
    max_result_chars = 20

    def start(self):
        self.notes = []
        return "Take some notes."

    @tool
    def note(self, text: str):
        """Write a note."""
        self.notes.append(text)

    @tool
    def read(self) -> list:
        """Read all notes."""
        return self.notes

    @tool
    def replace(self, old: str, new: str) -> str:
        """Replace a word."""
        self.notes = [note.replace(old, new) for note in self.notes]
        return "x" * 100

    @tool
    def fail(self, code: int):
        """Always fails."""
        raise RuntimeError(f"code {code}")

    @tool
    def submit(self, scores: list[float]):
        """End."""
        self.finish(sum(scores))


@pytest.fixture
def env() -> Notes:
    env = Notes()
    env.reset(seed=0)
    return env


def call(name: str, body: str = "") -> str:
    return f'<tool name="{name}">{body}</tool>'


def test_a_function_says_itself_what_the_model_is_told():
    made = make_tool(weather)
    assert made.schema()["function"] == {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "where."},
                "days": {"type": "integer", "description": "how far ahead."},
            },
            "required": ["city"],
        },
    }
    assert made.describe() == (
        '<tool name="weather"><city>text</city><days>integer</days></tool> Tell the weather.\n'
        "  city: where.\n  days (may be left out): how far ahead."
    )


def test_the_text_of_a_call_is_its_only_or_only_required_argument(env):
    assert env.canonical_action(call("note", "\n  SELECT 1\n  || 'a'\n")) == (
        '{"name":"note","arguments":{"text":"  SELECT 1\\n  || \'a\'"}}'
    )
    assert env.canonical_action(call("weather", "Oslo")) == (
        '{"name":"weather","arguments":{"city":"Oslo"}}'
    )


def test_other_arguments_are_named_and_take_the_types_of_the_tool(env):
    named = call("weather", "<days> 3 </days>\n<city>Oslo</city>")
    assert env.canonical_action(named) == (
        '{"name":"weather","arguments":{"city":"Oslo","days":3}}'
    )
    assert env.canonical_action(call("note", "<b>bold</b>")) == (
        '{"name":"note","arguments":{"text":"<b>bold</b>"}}'
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"weather","arguments":{"city":"Oslo","days":3}}',
        '[{"name": "weather", "arguments": {"days": 3.0, "city": "Oslo"}}]',
        '{"name": "weather", "arguments": "{\\"days\\": \\"3\\", \\"city\\": \\"Oslo\\"}"}',
    ],
)
def test_calls_can_be_json_and_equal_calls_have_one_spelling(env, text):
    assert env.canonical_action(text) == '{"name":"weather","arguments":{"city":"Oslo","days":3}}'
    assert env.step(text)[0] == "Oslo in 3: sun"


def test_several_calls_run_in_order_until_one_ends_the_episode(env):
    calls = call("note", "a") + call("submit", "[0.5, 0.5]") + call("note", "b")
    observation, reward, terminated, truncated, info = env.step(calls)
    assert observation == "note: Done.\nsubmit: Done."
    assert (reward, terminated, truncated, info) == (
        1.0,
        True,
        False,
        {"success": True, "legal": True},
    )
    assert env.notes == ["a"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hello", "Error: the reply has no tool call that can be read. Tools: weather, note"),
        (call("fly", "up"), "Error: there is no tool 'fly'. Tools: weather, note"),
        (call("replace", "<old>a</old>"), "Error: replace needs the argument new."),
        (call("replace", "a"), "Error: replace has no argument 'text'; it has old, new."),
        (call("fail", "x"), 'Error: fail: code must be integer, got "x".'),
        (call("submit", "[1, null]"), "Error: submit: scores must be JSON list"),
        (call("fail", "7"), "Error: RuntimeError: code 7"),
    ],
)
def test_what_is_wrong_is_told_and_not_legal(text, told):
    env = Notes()
    env.max_result_chars = 2000
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step(text)
    assert observation.startswith(told)
    assert (reward, terminated, info["legal"]) == (0.0, False, False)


def test_a_long_result_loses_its_middle(env):
    text = env.step(call("replace", "<old>a</old><new>b</new>"))[0]
    assert text == "x" * 10 + "\n... 80 characters left out ...\n" + "x" * 10


def test_an_episode_is_truncated_at_the_step_limit(env):
    assert [env.step(call("read"))[3] for _ in range(4)] == [False, False, False, True]


def test_a_fork_has_a_state_of_its_own(env):
    env.step(call("note", "a"))
    twin = fork(env)
    twin.step(call("note", "b"))
    assert (env.notes, twin.notes) == (["a"], ["a", "b"])


def test_the_contract_holds_with_tools():
    check_text_env(Notes())
    assert Notes().text_spec.instruction == "Keep notes and submit the longest."


def test_a_tool_without_types_is_refused_in_one_line():
    def bad(x):
        return x

    with pytest.raises(SettingError, match="Tool bad: the argument x must have an annotation"):
        make_tool(bad)


PIECES = [
    *('<tool name="note">', '<tool name="replace">', "</tool>", '<tool name="', '">', "<old>"),
    *("</old>", "<new>", "</new>", "a", "\n", " ", "\ud800", "\0", "[", "]", "{", "}", '"', ","),
    *('{"name":"note","arguments":{"text":"a"}}', '{"name":"fail","arguments":{"code":', "1e999"),
    *("9" * 5000, "NaN", "null", "\u2028", "é", "[" * 3000, '{"name":"submit","arguments":"'),
]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(texts)
def test_any_text_is_read_and_a_canonical_text_reads_as_itself(text):
    env = Notes()
    env.reset(seed=0)
    canonical = env.canonical_action(text)
    assert canonical is None or env.canonical_action(canonical) == canonical
    observation, *_ = env.step(text)
    assert observation.isprintable() or "\n" in observation or "\u2028" in observation


@pytest.mark.parametrize(
    "piece", ['<tool name="note">', "<a>", '<tool name="a"/>', "[", '{"name":']
)
def test_a_text_of_a_million_characters_is_read_at_once(piece):
    text = piece * (300_000 // len(piece))
    read_calls(text, Notes().tools_by_name)
    read_calls(f'<tool name="note">{text}</tool>', Notes().tools_by_name)
