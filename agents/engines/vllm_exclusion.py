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

NOTHING = 1e-12
"""A probability that is taken for rounding."""
KEY = "sesa_exclusion"
"""Key of the name of a request's exclusion in `extra_args`."""


class Exclusion:
    """Completions that a request must not sample, and its probabilities without the exclusion.

    Args:
        completions: of the same prompt, with their `raw_logprobs`.
        temperature: of the sampling.
    """

    def __init__(self, completions: Sequence[Completion], temperature: float):
        self.completions = list({done.token_ids: done for done in completions}.values())
        self.temperature = temperature
        self._left: dict[int, float] = {}
        """Log of the remaining probability at each position where some was removed."""
        self._reduced: dict[int, dict[int, float]] = {}
        """Plain log-probabilities there of the tokens that lost probability."""

    def __call__(self, output_ids: list[int], logits: Tensor) -> Tensor:
        """Remove the excluded completions from the (V,) logits of the next token.

        As `token_sampling.without_excluded`, but only the tokens that lose probability are touched,
        and nothing is computed once the response differs from all of them.
        """
        place, start = len(output_ids), tuple(output_ids)
        begun = [c for c in self.completions if c.token_ids[:place] == start]
        rest: dict[int, float] = {}
        for done in begun:
            if len(done.token_ids) > place:
                share = math.exp(math.fsum(done.raw_logprobs[place + 1 :]))
                token = done.token_ids[place]
                rest[token] = rest.get(token, 0.0) + share
        if not rest:
            return logits
        scaled = logits.double() / self.temperature
        total = float(torch.logsumexp(scaled, dim=-1))
        tokens = list(rest)
        plain = [logprob - total for logprob in scaled[tokens].tolist()]
        kept = [max(1 - rest[token], 0.0) for token in tokens]
        removed = math.fsum(math.exp(p) * (1 - keep) for p, keep in zip(plain, kept, strict=True))
        if removed >= 1 - NOTHING:  # as if nothing were excluded
            return logits
        self._left[place] = math.log1p(-removed)
        self._reduced[place] = dict(zip(tokens, plain, strict=True))
        logits[tokens] += self.temperature * torch.tensor(kept).log().to(logits)
        return logits

    def raw_logprobs(self, ids: Sequence[int], logprobs: Sequence[float]) -> tuple[float, ...]:
        """Return the log-probabilities of a response without the exclusion."""
        return tuple(
            self._reduced.get(place, {}).get(token, logprob + self._left.get(place, 0.0))
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
