"""Draws without replacement inside vLLM: a logits processor that takes completions out.

Loaded by vLLM by its name, and only where vLLM is installed. A request names its `Exclusion` in its
`extra_args`; both live in this process.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor  # pyright: ignore[reportMissingImports]

from .base import Completion
from .token_sampling import without_excluded

KEY = "sesa_exclusion"
"""Where `extra_args` holds the name of a request's exclusion."""


class Exclusion:
    """What a request must not draw, and what its tokens' probabilities would have been.

    Args:
        completions: of the same prompt, with their `raw_logprobs`.
        temperature: of the draw.
    """

    def __init__(self, completions: Sequence[Completion], temperature: float):
        self.completions = completions
        self.temperature = temperature
        self._left: dict[int, float] = {}
        """Log of the probability left at each place."""
        self._touched: dict[int, dict[int, float]] = {}
        """Plain log-probabilities, at each place, of the tokens that lost some."""

    def __call__(self, output_ids: list[int], logits: Tensor) -> Tensor:
        """Take the excluded completions out of the (V,) logits of the next token."""
        plain = torch.softmax(logits.double() / self.temperature, dim=-1)
        left = without_excluded(plain, output_ids, self.completions)
        place = len(output_ids)
        firsts = {done.token_ids[place] for done in self.completions if len(done.token_ids) > place}
        self._touched[place] = {token: float(plain[token].log()) for token in firsts}
        self._left[place] = math.log(float(left.sum()))
        return (left.log() * self.temperature).to(logits.dtype)

    def raw_logprobs(self, ids: Sequence[int], logprobs: Sequence[float]) -> tuple[float, ...]:
        """Return what the log-probabilities of a response were before anything was excluded."""
        return tuple(
            self._touched[place].get(token, logprob + self._left[place])
            for place, (token, logprob) in enumerate(zip(ids, logprobs, strict=True))
        )


OPEN: dict[str, Exclusion] = {}
"""Exclusions of the requests that are under way, by name."""


class WithoutExcluded(AdapterLogitsProcessor):
    """Applies the `Exclusion` of every request that has one."""

    def is_argmax_invariant(self) -> bool:
        """The likeliest token may be excluded."""
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], Tensor], Tensor] | None:
        """Find a new request's exclusion."""
        name = (params.extra_args or {}).get(KEY)
        exclusion = OPEN.get(name) if name else None
        return exclusion and exclusion.__call__
