"""Draws several different responses to each prompt in one pass (`gumbel.py`).

They are draws without replacement: the same law as one after another with the earlier ones
excluded, for the price of as many independent responses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .base import Completion, SamplingParams
from .gumbel import perturb_tokens
from .hf_batch import CachedPrompts, PromptBatch
from .token_sampling import without_excluded

if TYPE_CHECKING:
    from .hf import HFEngine


@dataclass(frozen=True)
class _Prefix:
    """The beginning of a response, or a whole one."""

    ids: tuple[int, ...]
    raw: tuple[float, ...]
    """Log-probabilities of its tokens."""
    perturbed: float
    """G: decides which are kept, and in which order they were drawn."""
    row: int = 0
    """Its row in the cache before its last token."""
    finish: str = "length"

    @property
    def logprob(self) -> float:
        return sum(self.raw)


class DistinctBatch(PromptBatch):
    """Prompts with several different responses each.

    Args:
        engine: as in `PromptBatch`, like `prompts`, `params` and `cached`.
        prompts: one per group of responses.
        params: how to sample.
        seeds: of the random numbers of each prompt.
        cached: the prompts of the last batch.
    """

    def __init__(
        self,
        engine: "HFEngine",
        prompts: list[Sequence[int]],
        params: SamplingParams,
        seeds: Sequence[int],
        cached: CachedPrompts | None,
    ):
        super().__init__(engine, prompts, params, cached)
        device = engine.model.device
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def run(
        self, counts: Sequence[int], excluded: Sequence[Sequence[Completion]]
    ) -> list[list[Completion]]:
        """Draw up to `counts[i]` responses to prompt i, none of them excluded, in order."""
        cache, logits, rows = self.prefill()
        if rows != list(range(logits.shape[0])):
            cache.select(rows)
            logits = logits[rows]
        kept = [[_Prefix((), (), 0.0, row)] for row in range(len(self.prompts))]
        for step in range(self.params.max_new_tokens):
            kept = self._extend(kept, logits, counts, excluded)
            going = [p for group in kept for p in group if p.finish == "length"]
            if not going or step == self.params.max_new_tokens - 1:
                break
            rows = [prefix.row for prefix in going]
            if rows != list(range(logits.shape[0])):
                cache.select(rows)
            logits = cache.extend([[prefix.ids[-1]] for prefix in going])
        return [[self._completion(prefix) for prefix in group] for group in kept]

    def _extend(
        self,
        kept: list[list[_Prefix]],
        logits: Tensor,
        counts: Sequence[int],
        excluded: Sequence[Sequence[Completion]],
    ) -> list[list[_Prefix]]:
        """The best prefixes of every prompt, one token longer where they are not whole."""
        plain = self.next_probs(logits)
        going = [[p for p in group if p.finish == "length"] for group in kept]
        flat = [prefix for group in going for prefix in group]
        reached = plain.new_tensor([prefix.logprob for prefix in flat]).exp()
        masses = self._left(plain, going, excluded) * reached[:, None]
        parents = plain.new_tensor([prefix.perturbed for prefix in flat])
        sizes = [len(group) for group in going]
        count = min(max(counts), plain.shape[1])
        tokens, perturbed = perturb_tokens(
            masses, parents, lambda number: self._noise(plain, sizes, number), count
        )
        raw = plain.gather(1, tokens).log().tolist()
        children = zip(tokens.tolist(), raw, perturbed.tolist(), strict=True)
        best, row = [], 0
        for group, open_prefixes, wanted in zip(kept, going, counts, strict=True):
            found = [prefix for prefix in group if prefix.finish != "length"]
            for prefix in open_prefixes:
                found += [
                    _Prefix((*prefix.ids, token), (*prefix.raw, logprob), value, row)
                    for token, logprob, value in zip(*next(children), strict=True)
                    if value > -np.inf
                ][:wanted]
                row += 1
            found.sort(key=lambda prefix: -prefix.perturbed)
            best.append([self._ended(prefix) for prefix in found[:wanted]])
        return best

    def _left(
        self,
        plain: Tensor,
        going: list[list[_Prefix]],
        excluded: Sequence[Sequence[Completion]],
    ) -> Tensor:
        """The next-token probabilities (N, V) without those of excluded responses."""
        left, row = plain, 0
        for group, avoided in zip(going, excluded, strict=True):
            for prefix in group:
                if avoided:
                    left = plain.clone() if left is plain else left
                    left[row] = without_excluded(plain[row], prefix.ids, avoided)
                row += 1
        return left

    def _noise(self, like: Tensor, sizes: Sequence[int], number: int) -> Tensor:
        """(N, n) exponentially distributed numbers; those of a prompt depend on its seed alone."""
        noise = like.new_empty(like.shape[0], number)
        for part, generator in zip(noise.split(list(sizes)), self.generators, strict=True):
            part.exponential_(generator=generator)
        return noise

    def _ended(self, prefix: _Prefix) -> _Prefix:
        if prefix.finish != "length":
            return prefix
        reason = self.finish_reason(prefix.ids)
        if reason == "length":
            return prefix
        return _Prefix(prefix.ids, prefix.raw, prefix.perturbed, prefix.row, reason)

    def _completion(self, prefix: _Prefix) -> Completion:
        text = self.decoder.text(list(prefix.ids))
        return Completion(text, prefix.ids, prefix.raw, prefix.finish, prefix.raw)
