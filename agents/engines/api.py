"""Generates with a chat completions endpoint (OpenAI's, or any compatible server).

For evaluation only, because an endpoint gives no weights. It gives no tokenizer either, so a
prompt's tokens are the bytes of its chat messages as JSON (`MessagesChat`): dialogues are built as
for any model, and the endpoint applies its own chat template.

    sesa-agent evaluate api:MODEL --base-url http://localhost:8000/v1 --env sokoban
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ...configs.errors import SettingError, check
from ..prompts import replace_surrogates
from .answer_cache import AnswerCache
from .base import Completion, SamplingParams, Usage
from .chat_endpoint import Answer, CallFailed, Endpoint

if TYPE_CHECKING:
    from ..policy import Policy

OURS = ("model", "messages", "stream", "n")
"""Fields of a request that the user cannot change."""
FAILURES_IN_A_ROW = 8
"""Number of failed calls in a row after which the endpoint counts as gone; at least the number of
concurrent requests."""
FAILED = Completion("", (), (), "failed")

_NEXT_REPLY = '"}, {"role": "assistant", "content": "'


class MessagesChat:
    """Prompts as chat messages in JSON, with each byte as a token.

    A prompt is the list of messages up to the text of the reply. The tokens of a response are its
    text as JSON writes it, so prompts and responses can be concatenated as token ids.
    """

    prefill = ""
    """An endpoint writes its replies from their beginning."""

    def opening(self, system: str, user: str) -> tuple[int, ...]:
        """Return the tokens of a prompt that opens a conversation, up to the start of the reply."""
        start = b'[{"role": "system", "content": "'
        return (*start, *escaped(system), *_user_message(user))

    def reply(self, response_ids: tuple[int, ...], user: str) -> tuple[int, ...]:
        """Return the tokens after a response: the next user message, the start of the reply."""
        return _user_message(user)

    def append_to_question(self, prompt_ids: tuple[int, ...], text: str) -> tuple[int, ...]:
        """Append text to the last user message of a prompt."""
        return (*prompt_ids[: -len(_NEXT_REPLY)], *escaped(text), *_NEXT_REPLY.encode())

    def check_appends(self, thinking: bool = False) -> None:
        """Do nothing: messages are only ever appended."""


def _user_message(text: str) -> tuple[int, ...]:
    start = b'"}, {"role": "user", "content": "'
    return (*start, *escaped(text), *_NEXT_REPLY.encode())


def escaped(text: str) -> tuple[int, ...]:
    """Return the tokens of a text: its JSON string in ASCII, without the quotes."""
    return tuple(json.dumps(replace_surrogates(text))[1:-1].encode())


def read_messages(prompt_ids: Sequence[int]) -> list[dict[str, str]]:
    """Return the chat messages of a prompt, without the reply that it asks for.

    >>> read_messages(MessagesChat().opening("Play.", "Your move?"))[1]
    {'role': 'user', 'content': 'Your move?'}
    """
    return json.loads(bytes(prompt_ids) + b'"}]')[:-1]


class APIEngine:
    """Samples responses from an endpoint, several at once.

    Responses are cut here after the first stop string. Endpoints would remove the stop string, and
    then a complete answer could not be distinguished from one without its end. Random numbers are
    the endpoint's own; `params.seed` has no influence.

    Args:
        endpoint: where the responses come from.
        model: its name there.
        concurrency: number of requests at the same time.
        request: more fields for every request; None removes one, as in `{"temperature": None}`.
        log: stores the answers, and returns those it already has.
        watch: called after every answer or failure.

    Raises:
        SettingError: if `request` changes a field that the user cannot change.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        concurrency: int = 8,
        request: Mapping[str, Any] | None = None,
        log: AnswerCache | None = None,
        watch: Callable[[Usage], None] = lambda usage: None,
    ):
        self.endpoint, self.model, self.concurrency = endpoint, model, concurrency
        self.request = dict(request or {})
        for name in OURS:
            check(name not in self.request, "--request", name, "without " + ", ".join(OURS))
        self.log, self.watch = log or AnswerCache(None), watch
        self.usage = Usage()
        self.num_cut = 0
        """Number of answers that reached the maximum length."""
        self.num_uncounted = 0
        """Number of answers whose tokens the server did not count."""
        self._failures_in_a_row = 0

    def load_weights(self, policy: "Policy") -> None:
        """Refuse, because an endpoint's weights cannot be changed.

        Raises:
            SettingError: always.
        """
        raise SettingError(
            f"api:{self.model} cannot be trained, only evaluated. Train a model with weights."
        )

    def sleep(self) -> None:
        """Do nothing: an endpoint manages its own memory."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Request one response to each prompt; see `Engine.generate`.

        `excluded` is ignored, because it needs probabilities; samplers retry duplicates.

        Returns:
            Completions without log-probabilities; `failed` if the call failed.

        Raises:
            SettingError: if the endpoint refuses a request, or no longer answers.
        """
        bodies = [self._body(prompt, params) for prompt in prompts]
        keys = [self.log.key(body) for body in bodies]
        missing = [row for row, key in enumerate(keys) if key not in self.log.answers]
        for answer in (self.log.answers[key] for key in keys if key in self.log.answers):
            self._count(answer)
        asked = [bodies[row] for row in missing]
        for place, answer in in_threads(self._ask, asked, self.concurrency):
            self._note(keys[missing[place]], answer)
        return [self._completion(self.log.answers.get(key), params.stop) for key in keys]

    def _body(self, prompt: Sequence[int], params: SamplingParams) -> dict[str, Any]:
        body = {
            "model": self.model,
            "messages": read_messages(prompt),
            "temperature": params.temperature,
            "max_tokens": params.max_new_tokens,
        }
        body |= {"top_p": params.top_p} if params.top_p != 1 else {}
        return {name: value for name, value in (body | self.request).items() if value is not None}

    def _ask(self, body: dict[str, Any]) -> Answer | CallFailed:
        try:
            return self.endpoint.ask(body)
        except CallFailed as failure:
            return failure

    def _note(self, key: str, answer: Answer | CallFailed) -> None:
        """Store an answer, or count a failure."""
        if isinstance(answer, Answer):
            self._failures_in_a_row = 0
            self.log.add(key, answer)
            self._count(answer)
        else:
            self._failures_in_a_row += 1
            self.usage.failed_calls += 1
            self.usage.last_failure = str(answer)
        self.watch(self.usage)
        if self._failures_in_a_row >= max(FAILURES_IN_A_ROW, self.concurrency):
            raise SettingError(
                f"--base-url {self.endpoint.base_url} does not answer: {self._failures_in_a_row} "
                f"calls in a row failed, the last with {self.usage.last_failure}."
            )

    def _count(self, answer: Answer) -> None:
        self.usage.calls += 1
        self.usage.prompt_tokens += answer.prompt_tokens or 0
        self.usage.response_tokens += answer.response_tokens or 0
        self.num_uncounted += answer.prompt_tokens is None or answer.response_tokens is None

    def _completion(self, answer: Answer | None, stop: Sequence[str]) -> Completion:
        if answer is None:
            return FAILED
        text = cut_after_stop(answer.text, stop)
        if text.endswith(tuple(stop)):
            return Completion(text, escaped(text), (), "stop")
        is_cut = answer.finish_reason == "length"
        self.num_cut += is_cut
        return Completion(text, escaped(text), (), "length" if is_cut else "eos")


def cut_after_stop(text: str, stop: Sequence[str]) -> str:
    """Return the text up to the end of the first stop string.

    >>> cut_after_stop("<answer>Up</answer> or <answer>Down</answer>", ["</answer>"])
    '<answer>Up</answer>'
    """
    ends = [text.index(word) + len(word) for word in stop if word in text]
    return text[: min(ends, default=len(text))]


def in_threads(
    work: Callable[[Any], Any], items: Sequence[Any], num_threads: int
) -> Iterator[tuple[int, Any]]:
    """Process items in threads; yield the index and the result of each as it finishes.

    The first exception is raised here, and no further item is started. The threads are daemons, so
    an interrupted program does not wait for items in progress.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    finished: SimpleQueue[tuple[int, Any, Exception | None]] = SimpleQueue()
    stopped = threading.Event()
    for place in range(len(items)):
        waiting.put(place)

    def run() -> None:
        while not stopped.is_set():
            try:
                place = waiting.get_nowait()
            except Empty:
                return
            try:
                finished.put((place, work(items[place]), None))
            except Exception as error:
                stopped.set()
                finished.put((place, None, error))

    try:
        for _ in range(min(num_threads, len(items))):
            threading.Thread(target=run, daemon=True).start()
        for _ in items:
            place, result, error = finished.get()
            if error:
                raise error
            yield place, result
    finally:
        stopped.set()
