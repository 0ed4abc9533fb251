"""Messages to token ids: the only place that knows chat templates.

Tokens in, tokens out: a prompt is put together from ids and the sampled ids are kept verbatim between them, so that
what is trained is what was sampled. That needs a template which only ever appends; `ChatFormat.check_appends` refuses
the others.
"""

from functools import lru_cache
from typing import Any

_USER, _REPLY, _NEXT = "first question", "<answer>first reply</answer>", "second question"


from ..configs.schema import SettingError


class ChatFormat:
    """Builds prompts of one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.

    Raises:
        SettingError: if the tokenizer has no chat template, or one that loses the text of a message.
    """

    def __init__(self, tokenizer: Any):
        if not getattr(tokenizer, "chat_template", None):
            raise SettingError(
                "model.path names a model without a chat template, which it must have to be asked "
                "anything. Take an instruction-tuned model, or add a chat_template.jinja to its folder."
            )
        self.tokenizer = tokenizer
        rendered = self._render([("user", _USER)])
        if rendered.count(_USER) != 1:
            raise SettingError(
                "model.path: the chat template does not repeat the user's message once."
            )
        self.tail_ids = self._encode(rendered.split(_USER)[1])
        """Ids between the end of a user message and the start of the reply."""

    def opening(self, system: str, user: str) -> tuple[int, ...]:
        """Ids of a prompt that opens a conversation, up to the start of the reply."""
        try:
            rendered = self._render([("system", system), ("user", user)])
        except Exception as error:  # templates refuse roles with exceptions of their own
            if "system" not in str(error).lower():
                raise
            rendered = self._render([("user", f"{system}\n\n{user}")])
        head = rendered[: rendered.rindex(user) + len(user)]
        return (*self._encode(head), *self.tail_ids)

    def reply(self, response_ids: tuple[int, ...], user: str) -> tuple[int, ...]:
        """Ids that follow a sampled response: its end, the next user message, the start of the reply."""
        end, start = self._between()
        if end and response_ids and response_ids[-1] == end[0]:
            end = end[1:]  # the response was sampled up to its own end-of-turn token
        return (*end, *self._encode(start + user), *self.tail_ids)

    def append_to_question(self, prompt_ids: tuple[int, ...], text: str) -> tuple[int, ...]:
        """The prompt with more text at the end of its last user message; all else keeps its ids."""
        head = prompt_ids[: len(prompt_ids) - len(self.tail_ids)]
        return (*head, *self._encode(text), *self.tail_ids)

    def check_appends(self) -> None:
        """Refuse a template that rewrites earlier messages when later ones arrive.

        Raises:
            SettingError: if a conversation does not start with its own beginning.
        """
        before = self._render([("user", _USER)]) + _REPLY
        after = self._render([("user", _USER), ("assistant", _REPLY), ("user", _NEXT)])
        if not after.startswith(before) or after.count(_NEXT) != 1:
            raise SettingError(
                "model.context must be state for this model, because its chat template rewrites "
                "earlier messages (it is not prefix-preserving). Set model.context=state."
            )

    @lru_cache(maxsize=None)  # noqa: B019 - one per run, lives as long as the tokenizer
    def _between(self) -> tuple[tuple[int, ...], str]:
        """What stands between a reply and the next question: the end-of-turn ids, and the text up to the question."""
        self.check_appends()
        before = self._render([("user", _USER)]) + _REPLY
        after = self._render([("user", _USER), ("assistant", _REPLY), ("user", _NEXT)])
        text = after[len(before) : after.index(_NEXT)]
        ids = self._encode(text)
        eos = self.tokenizer.eos_token_id
        if ids and ids[0] == eos:
            return (eos,), text.removeprefix(self.tokenizer.decode([eos]))
        return (), text

    def _render(self, messages: list[tuple[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            tokenize=False,
            add_generation_prompt=True,
        )

    @lru_cache(maxsize=100_000)  # noqa: B019 - the same boards come back again and again
    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))
