"""An engine that replies from a script: for tests, ours and yours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .base import Completion, SamplingParams, Usage

if TYPE_CHECKING:
    from ..policy import Policy


@dataclass
class ScriptedEngine:
    """An engine that replies from a script: for tests, ours and yours.

    Args:
        tokenizer: turns the replies into ids.
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
        """Reply to each prompt from the script; every token has probability one half."""
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
        """Do nothing: a script has no weights."""

    def sleep(self) -> None:
        """Do nothing: a script needs no memory."""
