r"""Tool calls as text: what a model writes that has no format of its own, and the canonical form.

A call names its arguments, or holds the only one as it is. Nothing needs to be escaped:

    <tool name="sql">
    SELECT name FROM people WHERE age > 30
    </tool>
    <tool name="replace"><old>colour</old><new>color</new></tool>

The canonical form is a line of compact JSON for each call, arguments sorted and of the right types:

    {"name":"sql","arguments":{"query":"SELECT name FROM people WHERE age > 30"}}

Reading takes time in proportion to the text, whatever it says, and evaluates nothing.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...configs.json_text import read_json
from .tool import Tool

MAX_NAME = 64
"""Longest name of a tool or argument, in characters."""
_OPENS = re.compile(rf'<tool name="([^"<>\n]{{1,{MAX_NAME}}})" ?(/?)>')
_CLOSES = "</tool>"
_ARGUMENT = re.compile(rf"\s*<(\w{{1,{MAX_NAME}}})>")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, which may not exist or may have other arguments."""

    name: str
    arguments: Mapping[str, Any]

    def canonical(self) -> str:
        """Write the call as one line of compact JSON, arguments sorted.

        >>> ToolCall("add", {"b": 2, "a": 1}).canonical()
        '{"name":"add","arguments":{"a":1,"b":2}}'
        """
        arguments = json.dumps(
            self.arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":")
        )
        return f'{{"name":{json.dumps(self.name, ensure_ascii=False)},"arguments":{arguments}}}'


def read_calls(text: str, tools: Mapping[str, Tool]) -> list[ToolCall]:
    """Return the calls of a text in either form; none if it has none.

    Arguments get the types that the tool asks for. Where they do not fit, they stay as they are.
    """
    text = text.encode(errors="replace").decode() if not text.isascii() else text
    is_json = text.lstrip()[:1] in ("{", "[")
    calls = list(_read_json_calls(text) if is_json else _read_text_calls(text, tools))
    return [_fitted(call, tools) for call in calls]


def _read_text_calls(text: str, tools: Mapping[str, Tool]) -> Iterator[ToolCall]:
    opening = _OPENS.search(text)
    while opening is not None:
        name, is_empty = opening[1], bool(opening[2])
        end = opening.end() if is_empty else text.find(_CLOSES, opening.end())
        if end < 0:  # the text ends within the call
            return
        body = text[opening.end() : end]
        yield ToolCall(name, _read_body(body, tools.get(name)))
        opening = _OPENS.search(text, end)


def _read_body(body: str, tool: Tool | None) -> dict[str, Any]:
    """Read the arguments of a call: all by name, or the text of the only one."""
    names = {item.name for item in tool.parameters} if tool else set()
    named = _read_named(body)
    if named is not None and (tool is None or names.issuperset(named) or tool.body is None):
        return named
    if not body.strip():
        return {}
    return {tool.body.name if tool and tool.body else "text": _trimmed(body)}


def _read_named(body: str) -> dict[str, Any] | None:
    """Read `<a>1</a><b>2</b>`; None if the text has any other parts."""
    arguments: dict[str, Any] = {}
    place = 0
    while (opening := _ARGUMENT.match(body, place)) is not None:
        closes = f"</{opening[1]}>"
        end = body.find(closes, opening.end())
        if end < 0:
            return None
        arguments[opening[1]] = _trimmed(body[opening.end() : end])
        place = end + len(closes)
    return arguments if arguments and not body[place:].strip() else None


def _trimmed(text: str) -> str:
    """Drop white space around an argument, but not the indentation of its first of many lines."""
    text = text.strip("\r\n").rstrip()
    return text if "\n" in text else text.strip()


def _read_json_calls(text: str) -> Iterator[ToolCall]:
    """Read JSON objects one after another, or a list of them; nothing if any part is wrong."""
    try:
        calls = [_read_json_call(value) for value in _json_values(text)]
    except (ValueError, RecursionError):
        return
    yield from calls


def _json_values(text: str) -> Iterator[Any]:
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        value, place = _DECODER.raw_decode(text, place)
        yield from value if isinstance(value, list) else [value]


def _read_json_call(value: Any) -> ToolCall:
    """Read a call from JSON.

    Raises:
        ValueError: if it is no call, or holds numbers that JSON does not have (NaN, infinity).
    """
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError("a call must have a name")
    arguments = value.get("arguments") or {}
    if isinstance(arguments, str):  # JSON within JSON, as in OpenAI's API
        arguments = read_json(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("arguments must be an object")
    whole = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    return ToolCall(name, json.loads(whole.encode(errors="replace")))


def _fitted(call: ToolCall, tools: Mapping[str, Tool]) -> ToolCall:
    try:
        return ToolCall(call.name, tools[call.name].fit(call.arguments))
    except (KeyError, ValueError):
        return call
