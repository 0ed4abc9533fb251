"""Chat templates that know tools: prompts that list them, and results as messages of role "tool".

Tokens in, tokens out, as in `chat.py`: sampled ids stay verbatim, so a response is never parsed and
rendered again. The template is asked once, with a made-up call and result, what it writes around
them. Where it does not write a constant text, results are user messages.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..configs.errors import SettingError
from .chat import Chat, ChatFormat
from .tool_calls import format_of

_CALL = {"name": "probe_tool", "arguments": {"probe_argument": "probe value"}}
_PROBE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": _CALL["name"],
        "description": "A probe.",
        "parameters": {
            "type": "object",
            "properties": {"probe_argument": {"type": "string"}},
            "required": ["probe_argument"],
        },
    },
}
_ID = "call00001"
"""Of a call; nine letters or digits, as Mistral's template wants it."""
_RESULTS = ('first "result"\nof two lines', 'second "result"\nof two lines')
_THOUGHTS = "<think>some thoughts</think>"

Message = dict[str, Any]


def with_tools(chat: Chat, tools: Sequence[dict[str, Any]]) -> tuple[Chat, str]:
    """Return the chat format for some tools, and the name of the format of the model's calls.

    Args:
        chat: the model's chat format.
        tools: the JSON schema of each tool.

    Returns:
        The same chat format and an empty name, if the template does not list tools or writes calls
        in a format that is unknown here.
    """
    if not isinstance(chat, ChatFormat):
        return chat, ""
    try:
        name = ToolChat(chat, [_PROBE]).call_format()
        return (ToolChat(chat, tools), name) if name else (chat, "")
    except SettingError:  # the template fails on tools
        return chat, ""


@dataclass(frozen=True)
class _Around:
    """What a template writes around the results of calls."""

    before: str
    """Between the end-of-turn token of the call and a result."""
    after: str
    """Between a result and the start of the next reply."""
    is_json: bool
    """Whether a result is written as the inside of a JSON string."""


class ToolChat(ChatFormat):
    """Builds prompts that list tools, for a template that can.

    Args:
        chat: the chat format without tools.
        tools: the JSON schema of each tool.

    Raises:
        SettingError: if the template fails on tools.
    """

    def __init__(self, chat: ChatFormat, tools: Sequence[dict[str, Any]]):
        self._chat, self._tools = chat, list(tools)
        super().__init__(chat.tokenizer, chat.thinking)
        written = json.dumps(self._tools, ensure_ascii=False)
        self._tools = json.loads(self._plain(written))

    def reply(self, response_ids: tuple[int, ...], user: str) -> tuple[int, ...]:
        """Return the ids after a response: its end, the results of its calls, the next start."""
        around = self._around
        if around is None:
            return super().reply(response_ids, user)
        end, _ = self._chat._between
        closing = () if end is None or response_ids[-1:] == (end,) else (end,)
        return (
            *closing,
            *self._encode(around.before + self._result(user)),
            *self._after_ids,
        )

    def append_to_question(self, prompt_ids: tuple[int, ...], text: str) -> tuple[int, ...]:
        """Append text to the last message of a prompt, the task or a result."""
        tail = self._after_ids
        if not tail or prompt_ids[-len(tail) :] != tail:
            return super().append_to_question(prompt_ids, text)
        return (*prompt_ids[: -len(tail)], *self._encode(self._result(text)), *tail)

    def check_appends(self, thinking: bool = False) -> None:
        """Refuse a template that rewrites earlier messages; see `ChatFormat.check_appends`."""
        if self._find_around(thinking) is None:
            super().check_appends(thinking)

    def call_format(self) -> str:
        """Return the name of the format in which the template writes calls; empty if unknown."""
        opening = self._render([("user", "a question")])
        if any(tool["function"]["name"] not in opening for tool in self._tools):
            return ""
        question: Message = {"role": "user", "content": "a question"}
        try:
            called = self._apply([question, _calling("")], add_generation_prompt=False)
        except SettingError:
            return ""
        if not called.startswith(opening):
            return ""
        ids = self._ids(called[len(opening) :])
        return format_of(self.tokenizer.decode(ids, skip_special_tokens=True), _CALL)

    def _apply(self, messages: list[Message], **options: Any) -> str:
        return super()._apply(messages, tools=self._tools, **options)

    def _markup(self) -> str:
        around = self._around
        return super()._markup() + (around.before + around.after if around else "")

    # ---- results ----

    @cached_property
    def _around(self) -> _Around | None:
        return self._find_around(False)

    @cached_property
    def _after_ids(self) -> tuple[int, ...]:
        return self._encode(self._around.after) if self._around else ()

    def _result(self, text: str) -> str:
        text = self._plain(text)
        if self._around and self._around.is_json:
            return json.dumps(text, ensure_ascii=False)[1:-1]
        return text

    def _find_around(self, thinking: bool) -> _Around | None:
        """Ask the template what it writes around results; None if that is not constant."""
        messages: list[Message] = [{"role": "user", "content": "a question"}]
        found: set[_Around] = set()
        try:
            before = self._apply(messages)
            for result in _RESULTS:
                reply = _calling(_THOUGHTS if thinking else "")
                tool = {"role": "tool", "name": _CALL["name"], "content": result}
                messages = [*messages, reply, {**tool, "tool_call_id": _ID}]
                after = self._apply(messages)
                if not after.startswith(before) or (thinking and "some thoughts" not in after):
                    return None
                found.add(self._split(after[len(before) :], result))
                before = after
        except (SettingError, ValueError):  # it knows no such role, or loses the result
            return None
        return found.pop() if len(found) == 1 else None

    def _split(self, text: str, result: str) -> _Around:
        """Split what follows a prompt: a call, its end, the result, the start of a reply.

        Raises:
            ValueError: if there is no result, or no token that ends a turn.
        """
        is_json = result not in text
        written = json.dumps(result)[1:-1] if is_json else result
        head, _, after = text.partition(written)
        end_id, _ = self._chat._between
        end = "" if end_id is None else self.tokenizer.decode([end_id])
        if not (end and after and end in head):
            raise ValueError("no token ends a turn, or the result is not shown as it is")
        return _Around(head[head.index(end) + len(end) :], after, is_json)


def _calling(content: str) -> Message:
    """A reply that calls the probe."""
    call = {"type": "function", "id": _ID, "function": _CALL}
    return {"role": "assistant", "content": content, "tool_calls": [call]}
