"""What generates text: the `Engine` protocol and its data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ..policy import Policy


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
    cached_tokens: int = 0
    """Prompt tokens that were not computed again, where the engine has a prefix cache."""
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

    def sleep(self) -> None:
        """Give back the memory that only generation needs, until weights are loaded again."""
        ...


@runtime_checkable
class StreamEngine(Engine, Protocol):
    """An engine whose requests end one by one, so that none waits for another."""

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        seed: int,
        excluded: Sequence[Completion] = (),
    ) -> str:
        """Queue a request with a seed of its own, and return its name."""
        ...

    def step(self) -> list[tuple[str, Completion]]:
        """Go on with all open requests; return those that have ended, by name.

        Raises:
            EngineError: if the engine fails.
        """
        ...


class EngineError(RuntimeError):
    """The engine has failed in the midst of work; what was saved before is whole."""
