"""Generates with any causal language model of transformers, on any device.

Batches are bounded by tokens (`hf_batch.py`). Each token uses one uniform number per row
(`token_sampling.py`), so the sample of a row depends on the call's seed and the row's index, not on
the batching (up to rounding); so do the different responses to a prompt (`hf_distinct.py`).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..lora import merge_in_place, restore_weights
from ..response_text import ResponseDecoder
from ..sharding import gather_weights, release_weights
from .base import Completion, SamplingParams, Usage
from .hf_batch import CachedPrompts, PromptBatch, SampledBatch, weights_version
from .hf_distinct import DistinctBatch

if TYPE_CHECKING:
    from ..policy import Policy


class HFEngine:
    """Samples responses with the trainer's own model, so loading weights costs nothing.

    From `load_weights` to `sleep` a LoRA adapter is merged into the weights, and weights that are
    split over processes are gathered in each of them.

    Args:
        policy: the model and its tokenizer.
        max_batch_tokens: most prompt and response tokens in a batch.
    """

    def __init__(self, policy: "Policy", max_batch_tokens: int = 65536):
        self.model = policy.model
        self.tokenizer = policy.tokenizer
        self.decoder = ResponseDecoder(policy.tokenizer)
        self.max_batch_tokens = max_batch_tokens
        self.usage = Usage()
        self._cached: CachedPrompts | None = None
        self._unmerged: list[tuple[Any, Tensor]] = []

    def load_weights(self, policy: "Policy") -> None:
        """Share the policy's module, and with it its current weights; merge its adapter, if any."""
        self.sleep()
        self.model = policy.model
        gather_weights(self.model)
        self._unmerged = merge_in_place(policy.model)

    def sleep(self) -> None:
        """Drop the KV cache, and leave the model to the trainer as `load_weights` found it."""
        restore_weights(self._unmerged)
        release_weights(self.model)
        self._unmerged, self._cached = [], None

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Sample one response to each prompt; see `Engine.generate`."""
        generator = torch.Generator().manual_seed(params.seed)
        uniforms = torch.rand(
            len(prompts), params.max_new_tokens, generator=generator, dtype=torch.float64
        )
        completions: list[Completion | None] = [None] * len(prompts)
        batches = self._batches(prompts, [1] * len(prompts), params.max_new_tokens)
        for rows, cached in self._in_turn(batches):
            own = [prompts[row] for row in rows]
            batch = SampledBatch(self, own, params, uniforms[rows], cached)
            sampled = batch.run([excluded[r] for r in rows] if excluded else [()] * len(rows))
            self._keep(batch, len(batches))
            for row, completion in zip(rows, sampled, strict=True):
                completions[row] = completion
        result = [completion for completion in completions if completion is not None]
        self.usage.add(prompts, result)
        return result

    @torch.inference_mode()
    def generate_distinct(
        self,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]],
    ) -> list[list[Completion]]:
        """Draw several different responses to each prompt; see `DistinctEngine`."""
        seeds = np.random.SeedSequence(params.seed).generate_state(len(prompts), np.uint64)
        results: list[list[Completion]] = [[] for _ in prompts]
        batches = self._batches(prompts, counts, params.max_new_tokens)
        for rows, cached in self._in_turn(batches):
            own, numbers = [prompts[row] for row in rows], [int(seeds[row]) >> 1 for row in rows]
            batch = DistinctBatch(self, own, params, numbers, cached)
            drawn = batch.run([counts[row] for row in rows], [excluded[row] for row in rows])
            self._keep(batch, len(batches))
            for row, found in zip(rows, drawn, strict=True):
                results[row] = found
        for prompt, found in zip(prompts, results, strict=True):
            self.usage.add([prompt] * len(found), found)
        return results

    def _in_turn(
        self, batches: list[list[int]]
    ) -> Iterator[tuple[list[int], CachedPrompts | None]]:
        """Yield each batch with the prompts that are kept, which it may free early."""
        if len(batches) > 1 or self._is_stale():
            self._cached = None
        for rows in batches:
            cached, self._cached = self._cached, None
            yield rows, cached

    def _keep(self, batch: PromptBatch, num_batches: int) -> None:
        """Keep the prompts of a single batch, for prompts that come again or are extended.

        A tree's next proposals have the same prompts, and those of the next turn may extend them.
        Keeping only single batches bounds the memory.
        """
        if num_batches == 1:
            self._cached = batch.cached

    def _is_stale(self) -> bool:
        """Return whether the cache was computed with other weights."""
        cached = self._cached
        return cached is not None and cached.weights_version != weights_version(self.model)

    def _batches(
        self, prompts: Sequence[Sequence[int]], counts: Sequence[int], new_tokens: int
    ) -> list[list[int]]:
        """Batch rows of similar length, with at most `max_batch_tokens` padded tokens each.

        Args:
            prompts: the rows.
            counts: responses to each of them.
            new_tokens: most tokens of a response.
        """
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        batches: list[list[int]] = []
        size = 0
        for row in order:
            width = len(prompts[row]) + new_tokens
            size += counts[row]
            if batches and size * width <= self.max_batch_tokens:
                batches[-1].append(row)
            else:
                batches.append([row])
                size = counts[row]
        return batches
