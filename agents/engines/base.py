"""The `Engine` protocol, for whatever generates text, and its data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from ..policy import Policy


@dataclass(frozen=True)
class SamplingParams:
    """How responses are sampled."""

    temperature: float = 1.0
    top_p: float = 1.0
    """Sample from the smallest set of tokens with this total probability."""
    max_new_tokens: int = 24
    stop: tuple[str, ...] = ()
    """A response ends when its text contains one of these; the text keeps it."""
    seed: int = 0
    """Determines all samples of one call; each row has its own random stream."""


@dataclass(frozen=True)
class Completion:
    """One response of L tokens."""

    text: str
    token_ids: tuple[int, ...]
    """(L,) the sampled ids, including an end-of-sequence token."""
    logprobs: tuple[float, ...]
    """(L,) natural log-probabilities under the distribution that was sampled from."""
    finish_reason: str
    """`stop` (a stop string), `eos`, `length`, or `failed` if the engine got no response."""
    raw_logprobs: tuple[float, ...] = ()
    """(L,) the same without excluding any completions; differs from `logprobs` if some were."""


@dataclass
class Usage:
    """What an engine has done so far."""

    calls: int = 0
    """Number of responses generated."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were taken from the engine's prefix cache, if it has one."""
    response_tokens: int = 0
    failed_calls: int = 0
    """Number of calls that got no response."""
    last_failure: str = ""
    """Reason of the last failure, in words."""

    def add(self, prompts: Sequence[Sequence[int]], completions: Sequence[Completion]) -> None:
        """Count one call of `generate`."""
        self.calls += len(completions)
        self.prompt_tokens += sum(map(len, prompts))
        self.response_tokens += sum(len(completion.token_ids) for completion in completions)


class Engine(Protocol):
    """Samples responses to token prompts."""

    usage: Usage

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Sample one response to each prompt.

        Args:
            prompts: token ids, one sequence per row.
            params: how to sample.
            excluded: per row, completions of the same prompt that must not be sampled again. An
                engine that cannot exclude them may ignore it; callers check the responses.
        """
        ...

    def load_weights(self, policy: "Policy") -> None:
        """Take over the policy's current weights."""
        ...

    def sleep(self) -> None:
        """Release the memory that only generation needs, until weights are loaded again."""
        ...


@runtime_checkable
class DistinctEngine(Engine, Protocol):
    """An engine that draws several different responses to a prompt in one pass."""

    def generate_distinct(
        self,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]],
    ) -> list[list[Completion]]:
        """Draw responses to each prompt without replacement.

        Args:
            prompts: token ids, one sequence per row.
            counts: different responses wanted per row, each at least 1.
            params: how to sample.
            excluded: per row, completions of the same prompt that must not be drawn again.

        Returns:
            Per row up to `counts` responses, in the order in which they would be drawn one after
            another; fewer if there are no more. Their `logprobs` are their `raw_logprobs`.
        """
        ...


@runtime_checkable
class StreamEngine(Engine, Protocol):
    """An engine whose requests finish one by one, so that none waits for another."""

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        seed: int,
        excluded: Sequence[Completion] = (),
    ) -> str:
        """Queue a request with its own seed, and return its name."""
        ...

    def step(self) -> list[tuple[str, Completion]]:
        """Advance all open requests; return those that finished, by name.

        Raises:
            EngineError: if the engine fails.
        """
        ...


def generate_by_streaming(
    engine: StreamEngine,
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    excluded: Sequence[Sequence[Completion]] | None = None,
) -> list[Completion]:
    """`Engine.generate` of an engine whose requests finish one by one."""
    seeds = np.random.SeedSequence(params.seed).generate_state(max(1, len(prompts)), np.uint64)
    rows: dict[str, int] = {}
    for row, prompt in enumerate(prompts):
        avoided = excluded[row] if excluded else ()
        rows[engine.submit(prompt, params, int(seeds[row]), avoided)] = row
    completions: dict[int, Completion] = {}
    while len(completions) < len(rows):
        completions |= {rows[name]: completion for name, completion in engine.step()}
    return [completions[row] for row in range(len(prompts))]


class EngineError(RuntimeError):
    """The engine failed during a run; everything saved before is intact."""
