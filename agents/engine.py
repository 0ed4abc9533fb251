"""What generates text: the `Engine` protocol, its data, and a scripted engine for tests."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .policy import Policy


@dataclass(frozen=True)
class SamplingParams:
    """How responses are drawn."""

    temperature: float = 1.0
    top_p: float = 1.0
    """Draw from the smallest set of tokens that holds this much probability."""
    max_new_tokens: int = 24
    stop: tuple[str, ...] = ()
    """A response ends when its text contains one of these; the text keeps it."""
    seed: int = 0
    """Fixes all draws of one call; row i of the call has a stream of its own."""


@dataclass(frozen=True)
class Completion:
    """One response of L tokens."""

    text: str
    token_ids: tuple[int, ...]
    """(L,) the sampled ids, an end-of-sequence token included."""
    logprobs: tuple[float, ...]
    """(L,) natural log-probabilities under the distribution drawn from."""
    finish_reason: str
    """`stop` (a stop string), `eos`, `length`, or `failed`: there is no response, since the engine
    could not get one."""
    raw_logprobs: tuple[float, ...] = ()
    """(L,) the same before completions were excluded; other than `logprobs` where some were."""


@dataclass
class Usage:
    """What an engine has done so far."""

    calls: int = 0
    """Responses generated."""
    prompt_tokens: int = 0
    response_tokens: int = 0
    failed_calls: int = 0
    """Responses that could not be had."""
    last_failure: str = ""
    """Why, in words."""

    def add(self, prompts: Sequence[Sequence[int]], completions: Sequence[Completion]) -> None:
        """Count one call of `generate`."""
        self.calls += len(completions)
        self.prompt_tokens += sum(map(len, prompts))
        self.response_tokens += sum(len(completion.token_ids) for completion in completions)


class Engine(Protocol):
    """Draws responses to token prompts."""

    usage: Usage

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Draw one response to each prompt.

        Args:
            prompts: token ids, one sequence a row.
            params: how to draw.
            excluded: per row, completions drawn earlier for the very same prompt that must not be
                drawn again. An engine without this ability may ignore it; callers check.
        """
        ...

    def load_weights(self, policy: "Policy") -> None:
        """Take over the policy's present weights."""
        ...


ENGINES = {"hf": "sesa_agent.agents.hf_engine:HFEngine"}
"""Engines by the name that `engine.name` takes; imported when used."""


def load_engine(name: str, policy: "Policy", max_batch_tokens: int) -> Engine:
    """Build the engine of that name on the policy's weights."""
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(import_module(module), attribute)(policy, max_batch_tokens)


@dataclass
class ScriptedEngine:
    """An engine that answers from a script: for tests, ours and yours.

    Args:
        tokenizer: makes ids of texts.
        script: replies in order, or a function from the prompt's text to the reply.
    """

    tokenizer: Any
    script: Sequence[str] | Callable[[str], str]
    usage: Usage = field(default_factory=Usage)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Answer each prompt by the script; every token has probability one half."""
        completions = []
        for row, prompt in enumerate(prompts):
            text = self._reply(self.usage.calls + row, prompt)
            ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            logprobs = (math.log(0.5),) * len(ids)
            completions.append(Completion(text, ids, logprobs, "stop", logprobs))
        self.usage.add(prompts, completions)
        return completions

    def _reply(self, call: int, prompt: Sequence[int]) -> str:
        if callable(self.script):
            return self.script(self.tokenizer.decode(prompt))
        return self.script[call]

    def load_weights(self, policy: "Policy") -> None:
        """A script has no weights."""
