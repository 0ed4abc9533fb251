"""Turns messages into token ids; the only file that knows chat templates.

Tokens in, tokens out: prompts are assembled from ids, and sampled ids are kept verbatim, so that
training uses exactly the tokens that were sampled. A conversation of several turns needs a template
that only appends; `ChatFormat.check_appends` refuses all others.
"""

import re
from functools import cached_property, lru_cache
from typing import Any, Protocol

import jinja2

from ..configs.errors import SettingError

_SYSTEM, _USER, _LATER = "some system text", "first question", ("second question", "third question")
_THOUGHTS, _REPLY = "<think>some thoughts</think>", "<answer>some reply</answer>"
_OPENED_THOUGHTS = re.compile(r"<think>\s*\Z")

Messages = list[tuple[str, str]]
"""Role and content of each message."""


class Chat(Protocol):
    """What a dialogue needs from a chat format; `ChatFormat` documents the methods."""

    def opening(self, system: str, user: str) -> tuple[int, ...]: ...  # noqa: D102

    def reply(self, response_ids: tuple[int, ...], user: str) -> tuple[int, ...]: ...  # noqa: D102

    def append_to_question(  # noqa: D102
        self, prompt_ids: tuple[int, ...], text: str
    ) -> tuple[int, ...]: ...

    def check_appends(self, thinking: bool = False) -> None: ...  # noqa: D102


class ChatFormat:
    """Builds prompts for one tokenizer.

    If the template opens a `<think>` block for the reply, the block is removed: thoughts are part
    of the reply, and `PromptStyle.request` asks for them.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        thinking: passed to the template as `enable_thinking`, which switches thoughts off in some.

    Raises:
        SettingError: if the tokenizer has no chat template, or one that cannot be used or loses the
            text of a message.
    """

    def __init__(self, tokenizer: Any, thinking: bool = False):
        if not getattr(tokenizer, "chat_template", None):
            raise SettingError(
                "model.path names a model without a chat template, which prompts need. Use an "
                "instruction-tuned model, or add a chat_template.jinja to its folder."
            )
        self.tokenizer, self.thinking = tokenizer, thinking
        try:
            rendered = self._render([("user", _USER)])
        except jinja2.TemplateError as error:
            raise SettingError(
                f"model.path names a model whose chat template is damaged: {error}."
            ) from error
        if rendered.count(_USER) != 1:
            raise SettingError(
                "model.path: the chat template does not repeat the user's message once."
            )
        self.tail = rendered.split(_USER)[1]
        """Text between the end of a user message and the start of the reply."""
        self.tail_ids = self._encode(self.tail)

    @lru_cache(maxsize=20_000)  # noqa: B019 - the same boards come back again and again
    def opening(self, system: str, user: str) -> tuple[int, ...]:
        """Return the ids of a prompt that opens a conversation, up to the start of the reply."""
        rendered = self._render(self._opening_messages(system, user))
        return (*self._encode(rendered.removesuffix(self.tail)), *self.tail_ids)

    def reply(self, response_ids: tuple[int, ...], user: str) -> tuple[int, ...]:
        """Return the ids after a response: its end, the next user message, the start of a reply."""
        end, start = self._between
        if end and response_ids and response_ids[-1] == end[0]:
            end = ()  # the sampled response already ends with its end-of-turn token
        return (*end, *self._encode(start + user), *self.tail_ids)

    def append_to_question(self, prompt_ids: tuple[int, ...], text: str) -> tuple[int, ...]:
        """Append text to the last user message of a prompt; all other ids stay the same."""
        head = prompt_ids[: len(prompt_ids) - len(self.tail_ids)]
        return (*head, *self._encode(text), *self.tail_ids)

    def check_appends(self, thinking: bool = False) -> None:
        """Refuse a template that rewrites earlier messages when later ones arrive.

        Args:
            thinking: whether replies contain thoughts, which many templates remove later.

        Raises:
            SettingError: if a longer conversation does not begin with the shorter one.
        """
        if self._text_between(thinking) is None:
            raise SettingError(
                "model.context must be state for this model, because its chat template rewrites "
                "earlier messages (it is not prefix-preserving). Set model.context=state."
            )

    @cached_property
    def _takes_system(self) -> bool:
        """Whether the template shows system messages: some refuse them, others drop them."""
        try:
            return _SYSTEM in self._render([("system", _SYSTEM), ("user", _USER)])
        except jinja2.TemplateError:
            return False

    def _opening_messages(self, system: str, user: str) -> Messages:
        if self._takes_system:
            return [("system", system), ("user", user)]
        return [("user", f"{system}\n\n{user}")]

    @cached_property
    def _between(self) -> tuple[tuple[int, ...], str]:
        """What is between a reply and the next user message: the end-of-turn id, then text."""
        self.check_appends()
        text = self._text_between() or ""
        first = self._encode(text)[:1]
        token = self.tokenizer.added_tokens_decoder.get(*first) if first else None
        if token and token.special and text.startswith(token.content):
            return first, text.removeprefix(token.content)
        return (), text

    def _text_between(self, thinking: bool = False) -> str | None:
        """Return the text between a reply and the next user message; None if it varies."""
        reply = _THOUGHTS + _REPLY if thinking else _REPLY
        messages = self._opening_messages(_SYSTEM, _USER)
        texts = set()
        for question in _LATER:
            before = self._render(messages) + reply
            messages = [*messages, ("assistant", reply), ("user", question)]
            try:
                after = self._render(messages)
            except jinja2.TemplateError:  # the template allows a single user message
                return None
            if not (after.startswith(before) and after.endswith(question + self.tail)):
                return None
            texts.add(after[len(before) : after.rindex(question)])
        return texts.pop() if len(texts) == 1 else None

    def _render(self, messages: Messages) -> str:
        rendered = self.tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self.thinking,
        )
        return _OPENED_THOUGHTS.sub("", rendered)

    @lru_cache(maxsize=1_000)  # noqa: B019 - so do requests and replies to moves
    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))
