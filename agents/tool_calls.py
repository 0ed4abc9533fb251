r"""Tool calls in the formats of chat templates: which one a template has, and how it reads. Pure.

* `hermes`: a JSON object in `<tool_call>` tags (Hermes, Qwen).
* `json`: JSON objects as they are, one after another or separated by ";" (Llama 3).
* `mistral`: a JSON list after `[TOOL_CALLS]` (Mistral).

A reader gets a response as it is decoded, without special tokens, and returns its calls in the form
that every environment with tools reads: JSON objects with `name` and `arguments`, a line each. The
format of a template is the one whose reader reads the template's own rendering of a call. Reading
takes time in proportion to the response, and evaluates nothing.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from .parsing import read_answer

Reader = Callable[[str], str | None]
"""Returns the calls of a response as lines of JSON; None if it has none that can be read."""
_DECODER = json.JSONDecoder()
_OPENS, _CLOSES = "<tool_call>", "</tool_call>"
_LIST = "[TOOL_CALLS]"
_THINK, _THOUGHT = "<think>", "</think>"


def read_hermes(response: str) -> str | None:
    r"""Read the objects between `<tool_call>` tags.

    >>> read_hermes('Look:\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>')
    '{"name": "f", "arguments": {"a": 1}}'
    """
    objects: list[Any] = []
    start = response.find(_OPENS)
    while start >= 0:
        end = response.find(_CLOSES, start)
        if end < 0:  # cut within a call
            return None
        found = _values(response[start + len(_OPENS) : end])
        if not found:
            return None
        objects += found
        start = response.find(_OPENS, end)
    return _written(objects)


def read_json_calls(response: str) -> str | None:
    r"""Read a response that is nothing but objects; `parameters` may stand for `arguments`.

    >>> read_json_calls('{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}')
    '{"name": "f", "arguments": {"a": 1}}\n{"name": "g", "arguments": {}}'
    """
    return _written(_values(response.strip().removeprefix("<|python_tag|>")))


def read_mistral(response: str) -> str | None:
    """Read the list after `[TOOL_CALLS]`, a token that is not part of a decoded response.

    >>> read_mistral('[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "000000001"}]')
    '{"name": "f", "arguments": {}}'
    """
    text = response.strip().removeprefix(_LIST).lstrip()
    return _written(_values(text)) if text.startswith("[") else None


READERS: dict[str, Reader] = {
    "hermes": read_hermes,
    "mistral": read_mistral,
    "json": read_json_calls,
}
"""By the name of the format. `json` is the most general one, so it comes last."""


def format_of(rendered: str, call: dict[str, Any]) -> str:
    """Return the name of the format in which a template wrote a call; empty if it is unknown.

    Args:
        rendered: the reply that makes the call, without special tokens.
        call: its `name` and `arguments`.
    """
    expected = _written([call])
    return next((name for name, read in READERS.items() if read(rendered) == expected), "")


def read_tool_response(response: str, format_name: str, thinking: bool) -> str | None:
    """Return the calls of a response as text that an environment reads; None if it has none.

    Args:
        response: the model's text.
        format_name: a name of `READERS`; empty for calls as text between answer tags.
        thinking: whether thoughts come first.
    """
    if not format_name:
        return read_answer(response, thinking)
    response = response.lstrip()
    if response.startswith(_THINK):  # some models think unasked; they do not call in thoughts
        response = response.partition(_THOUGHT)[2]
    return READERS[format_name](response)


def _values(text: str) -> list[Any]:
    """All objects of a text that is nothing but JSON; none if it is anything else."""
    try:
        return list(_read_values(text))
    except (ValueError, RecursionError):
        return []


def _read_values(text: str) -> Iterator[Any]:
    place = 0
    while place < len(text):
        if text[place].isspace() or text[place] == ";":
            place += 1
            continue
        value, place = _DECODER.raw_decode(text, place)
        yield from value if isinstance(value, list) else [value]


def _written(objects: list[Any]) -> str | None:
    """Write calls as lines of JSON; None if there are none or one is no call."""
    lines = []
    for item in objects:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            return None
        arguments = item.get("arguments", item.get("parameters", {}))
        call = {"name": item["name"], "arguments": arguments}
        lines.append(json.dumps(call, ensure_ascii=False))
    return "\n".join(lines) or None
