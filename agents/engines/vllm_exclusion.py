"""Sampling without replacement inside vLLM: a logits processor that excludes completions.

vLLM loads it by name, so it is imported only where vLLM is installed. A request names its
`Exclusion` in its `extra_args`; both live in this process.
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
"""Key of the name of a request's exclusion in `extra_args`."""


class Exclusion:
    """Completions that a request must not sample, and its probabilities without the exclusion.

    Args:
        completions: of the same prompt, with their `raw_logprobs`.
        temperature: of the sampling.
    """

    def __init__(self, completions: Sequence[Completion], temperature: float):
        self.completions = completions
        self.temperature = temperature
        self._left: dict[int, float] = {}
        """Log of the remaining probability at each position."""
        self._reduced: dict[int, dict[int, float]] = {}
        """Plain log-probabilities, at each position, of tokens that lost probability."""

    def __call__(self, output_ids: list[int], logits: Tensor) -> Tensor:
        """Remove the excluded completions from the (V,) logits of the next token."""
        plain = torch.softmax(logits.double() / self.temperature, dim=-1)
        left = without_excluded(plain, output_ids, self.completions)
        place = len(output_ids)
        firsts = {done.token_ids[place] for done in self.completions if len(done.token_ids) > place}
        self._reduced[place] = {token: float(plain[token].log()) for token in firsts}
        self._left[place] = math.log(float(left.sum()))
        return (left.log() * self.temperature).to(logits.dtype)

    def raw_logprobs(self, ids: Sequence[int], logprobs: Sequence[float]) -> tuple[float, ...]:
        """Return the log-probabilities of a response without the exclusion."""
        return tuple(
            self._reduced[place].get(token, logprob + self._left[place])
            for place, (token, logprob) in enumerate(zip(ids, logprobs, strict=True))
        )


OPEN: dict[str, Exclusion] = {}
"""Exclusions of the open requests, by name."""


class WithoutExcluded(AdapterLogitsProcessor):
    """Applies the `Exclusion` of every request that has one."""

    def is_argmax_invariant(self) -> bool:
        """Return False: the most likely token may be excluded."""
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], Tensor], Tensor] | None:
        """Return the exclusion of a new request, if it has one."""
        name = (params.extra_args or {}).get(KEY)
        exclusion = OPEN.get(name) if name else None
        return exclusion and exclusion.__call__
