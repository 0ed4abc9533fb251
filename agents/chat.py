"""Turns messages into token ids; the only file that knows chat templates.

Tokens in, tokens out: prompts are assembled from ids, and sampled ids are kept verbatim, so that
training uses exactly the tokens that were sampled. A conversation of several turns needs a template
that only appends; `ChatFormat.check_appends` refuses all others.

The ids are those of the whole rendered conversation, for tokenizers of every kind: a text that
continues another is encoded as its continuation, not as a text of its own, which tokenizers of the
SentencePiece kind would begin with a space. Only where the tokenizer would join two texts they are
kept apart: at both ends of a sampled response, before what `append_to_question` adds, and between a
question and the template's text after it.

Only the template writes control tokens. Contents come from environments and earlier answers: the
names of control tokens in them, such as `<|im_end|>`, are plain text.
"""

import re
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, Protocol

from ..configs.errors import SettingError, first_line
from .prompts import replace_surrogates
from .response_text import FORMAT_TAGS
from .template_probe import probe

_SYSTEM, _USER, _LATER = "some system text", "first question", ("second question", "third question")
_THOUGHTS, _REPLY = "<think>some thoughts</think>", "<answer>some reply</answer>"
_OPENED_THOUGHTS = re.compile(r"<think>\s*\Z")
_CUT = "\udfff"
"""Stands where a text is encoded in two parts. A lone surrogate: no text contains it."""
_ANCHORS = ("\n", "a", ".", "0")
"""Texts to continue. One fits if no token spans its end."""
LONGEST_KEPT = 8_000
"""Characters of a text whose ids are kept for the next time."""
LONGEST_MARKUP = 100_000
"""Characters that a template may add to the contents of a conversation."""

Messages = list[tuple[str, str]]
"""Role and content of each message."""


class Chat(Protocol):
    """What a dialogue needs from a chat format; `ChatFormat` documents the methods."""

    prefill: str
    """The first text of every reply, which is part of the prompt; empty for none."""

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
        prefill: with which every reply begins. It ends each prompt, so it is never sampled.

    Raises:
        SettingError: if the tokenizer has no chat template, or one that cannot be used or loses the
            text of a message.
    """

    def __init__(self, tokenizer: Any, thinking: bool = False, prefill: str = ""):
        self.tokenizer, self.thinking, self.prefill = tokenizer, thinking, prefill
        self._check_template()
        rendered = self._render([("user", _USER)])
        if rendered.count(_USER) != 1:
            raise self._refusal("does not repeat the user's message once")
        self.tail = rendered.split(_USER)[1]
        """Text between the end of a user message and the start of the reply."""
        self.tail_ids = self._encode(self.tail + prefill)

    def opening(self, system: str, user: str) -> tuple[int, ...]:
        """Return the ids of a prompt that opens a conversation, up to the start of the reply."""
        if len(system) + len(user) > LONGEST_KEPT:
            return self._opening(system, user)
        return self._kept_opening(system, user)

    def reply(self, response_ids: tuple[int, ...], user: str) -> tuple[int, ...]:
        """Return the ids after a response: its end, the next user message, the start of a reply."""
        end, between = self._between
        ids = self._question(between + self._plain(user))
        if end is not None and response_ids and response_ids[-1] == end:
            return ids[ids.index(end) + 1 :]  # the sampled response ends with its end-of-turn token
        return ids

    def append_to_question(self, prompt_ids: tuple[int, ...], text: str) -> tuple[int, ...]:
        """Append text to the last user message of a prompt; all other ids stay the same."""
        head = prompt_ids[: len(prompt_ids) - len(self.tail_ids)]
        return (*head, *self._question(self._plain(text)))

    def conversation(self, messages: Messages) -> tuple[int, ...]:
        """Return the ids of a conversation up to the start of the next reply.

        Args:
            messages: the last one is the user's.

        Raises:
            SettingError: if the template refuses them.
        """
        roles = [role for role, _ in messages]
        if roles[:2] == ["system", "user"] and not self._takes_system:
            (_, system), (_, user), *later = messages
            messages = [*self._opening_messages(system, user), *later]
        plain = [(role, self._plain(text)) for role, text in messages]
        return self._question(self._render(plain).removesuffix(self.tail), is_start=True)

    def response(self, text: str) -> tuple[int, ...]:
        """Return the ids of a response as the model would write it, without the end of its turn."""
        return self._encode(self._plain(text))

    @cached_property
    def end_of_turn(self) -> tuple[int, ...]:
        """The id that ends a reply: that of the template, else that of the tokenizer, if any."""
        end = None if self._text_between() is None else self._between[0]
        end = self.tokenizer.eos_token_id if end is None else end
        return () if end is None else (end,)

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
        except SettingError:
            return False

    def _opening_messages(self, system: str, user: str) -> Messages:
        if self._takes_system:
            return [("system", system), ("user", user)]
        return [("user", f"{system}\n\n{user}")]

    @cached_property
    def _between(self) -> tuple[int | None, str]:
        """The text between a reply and the next user message, and its end-of-turn id, if any."""
        self.check_appends()
        text = self._text_between() or ""
        added = self.tokenizer.added_tokens_decoder
        for token_id in self._encode(text):
            name = added[token_id].content if token_id in added else ""
            if name in self._control and text.lstrip().startswith(name):
                return token_id, text
        return None, text

    def _text_between(self, thinking: bool = False) -> str | None:
        """Return the text between a reply and the next user message; None if it varies.

        White space that a template writes before a reply (Llama 2) is the model's to write.
        """
        reply = _THOUGHTS + _REPLY if thinking else _REPLY
        messages = self._opening_messages(_SYSTEM, _USER)
        texts = set()
        for question in _LATER:
            before = self._render(messages)
            messages = [*messages, ("assistant", reply), ("user", question)]
            try:
                after = self._render(messages)
            except SettingError:  # the template allows a single user message
                return None
            rest = after.removeprefix(before).lstrip()
            is_kept = after.startswith(before) and rest.startswith(reply)
            if not (is_kept and after.endswith(question + self.tail)):
                return None
            texts.add(rest[len(reply) : rest.rindex(question)])
        return texts.pop() if len(texts) == 1 else None

    def _opening(self, system: str, user: str) -> tuple[int, ...]:
        return self.conversation([("system", system), ("user", user)])

    @lru_cache(maxsize=20_000)  # noqa: B019 - the same boards come back again and again
    def _kept_opening(self, system: str, user: str) -> tuple[int, ...]:
        return self._opening(system, user)

    # ---- the template ----

    def _check_template(self) -> None:
        """Refuse a model without a template, or with one that never ends or fills the memory."""
        if not getattr(self.tokenizer, "chat_template", None):
            raise SettingError(
                f"{self._model} names a model without a chat template, which prompts need. Use an "
                "instruction-tuned model, or add a chat_template.jinja to its folder."
            )
        try:
            template = self.tokenizer.get_chat_template()
        except ValueError as error:  # several templates, and none is the default
            raise self._refusal(f"cannot be chosen: {first_line(error)}") from error
        opening = [("system", _SYSTEM), ("user", _USER)]
        longer = [*opening, ("assistant", _THOUGHTS + _REPLY), ("user", _LATER[0])]
        variables = {**self.tokenizer.special_tokens_map, "enable_thinking": self.thinking}
        problem = probe(template, [opening[1:], opening, longer[1:], longer], variables)
        if problem:
            raise self._refusal(problem)

    def _render(self, messages: Messages) -> str:
        """Render a conversation up to the start of the reply.

        Raises:
            SettingError: if the template raises, or writes far more than the contents.
        """
        rendered = self._apply([{"role": role, "content": text} for role, text in messages])
        if len(rendered) > LONGEST_MARKUP + 2 * sum(len(content) for _, content in messages):
            raise self._refusal(f"writes {len(rendered)} characters")
        return _OPENED_THOUGHTS.sub("", rendered)

    def _apply(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """Apply the template; `options` are more arguments of `apply_chat_template`."""
        options = {"add_generation_prompt": True, "enable_thinking": self.thinking, **options}
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except Exception as error:  # a template is a program: it raises all kinds
            raise self._refusal(f"fails: {type(error).__name__}: {first_line(error)}") from error

    @property
    def _model(self) -> str:
        name = getattr(self.tokenizer, "name_or_path", "")
        return f"model.path {name!r}" if name else "model.path"

    def _refusal(self, problem: str) -> SettingError:
        return SettingError(
            f"{self._model}: its chat template {problem}. Repair chat_template.jinja in the "
            "model's folder, or use another model."
        )

    # ---- text to ids ----

    def _question(self, text: str, is_start: bool = False) -> tuple[int, ...]:
        """Return the ids of a text that ends with a user message, of the tail and the prefill."""
        ids = self._encode(text + self.tail + self.prefill, is_start)
        if ids[len(ids) - len(self.tail_ids) :] == self.tail_ids:
            return ids
        return (*self._encode(text, is_start), *self.tail_ids)

    @cached_property
    def _control(self) -> list[str]:
        """Names of control tokens: special ones, and others with which the template marks turns."""
        markup = self._markup()
        names = {
            token.content
            for token in self.tokenizer.added_tokens_decoder.values()
            if token.special or (token.content in markup and not token.content[0].isalnum())
        }
        return sorted(name for name in names if len(name.strip()) > 1 and name not in FORMAT_TAGS)

    def _markup(self) -> str:
        """What the template writes around contents."""
        markup = self._render(self._opening_messages(_SYSTEM, _USER))
        return markup.replace(_SYSTEM, _CUT).replace(_USER, _CUT) + (self._text_between() or "")

    def _plain(self, text: str) -> str:
        """Make a content plain text: cut the names of control tokens, replace lone surrogates."""
        text = replace_surrogates(text)
        for name in self._control:
            while name in text:
                text = text.replace(name, name[0] + _CUT + name[1:])
        return text

    def _encode(self, text: str, is_start: bool = False) -> tuple[int, ...]:
        """Return the ids of a text that may have cuts, and may start a conversation."""
        first, *others = text.split(_CUT)
        start = self._ids(first) if is_start else self._continued_ids(first)
        return tuple(chain(start, *map(self._continued_ids, others)))

    def _continued_ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text that continues another one."""
        if self._adds_space:
            for anchor in _ANCHORS:
                before, ids = self._ids(anchor), self._ids(anchor + text)
                if ids[: len(before)] == before:
                    return ids[len(before) :]
        return self._ids(text)

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer begins a text with something, as those of SentencePiece do."""
        alone = self._ids("x")
        return all(self._ids(one + "x") != (*self._ids(one), *alone) for one in _ANCHORS)

    def _ids(self, text: str) -> tuple[int, ...]:
        return self._new_ids(text) if len(text) > LONGEST_KEPT else self._kept_ids(text)

    @lru_cache(maxsize=1_000)  # noqa: B019 - requests and replies to moves come back too
    def _kept_ids(self, text: str) -> tuple[int, ...]:
        return self._new_ids(text)

    def _new_ids(self, text: str) -> tuple[int, ...]:
        encoded = self.tokenizer.encode(replace_surrogates(text), add_special_tokens=False)
        return tuple(encoded)
