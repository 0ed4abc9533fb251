"""Generates with any causal language model of transformers, on any device.

Equal prompts and what all prompts of a batch begin with are read once; keys and values are kept
where the model can (`kv_cache.py`), also those of prompts that are asked again, or that the next
turn goes on from. Batches are bounded by tokens, and each token takes one uniform number per row
(`token_sampling.py`). The draw of a row depends on the call's seed and the row's place, not on how
rows were batched (up to rounding).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .base import Completion, SamplingParams, Usage
from .kv_cache import CachedContext, WholeContext, open_context
from .token_sampling import draw_tokens, next_token_probs, without_excluded

if TYPE_CHECKING:
    from ..policy import Policy

_WORTH_BRANCHING = 256
"""Tokens that need not be read again, from which on a shared beginning is read by itself."""


@dataclass(frozen=True)
class _ReadPrompts:
    """Different prompts that were read, as they were before anything was drawn."""

    rows: dict[tuple[int, ...], int]
    context: CachedContext
    logits: Tensor
    """(N, V) float, of the tokens that come next."""
    weights: int
    """As of `_changes`."""


class HFEngine:
    """Draws responses with the trainer's own model: loading weights costs nothing.

    Args:
        policy: the model and its tokenizer.
        max_batch_tokens: prompt and response tokens generated at once.
    """

    def __init__(self, policy: "Policy", max_batch_tokens: int = 65536):
        self.model = policy.model
        self.tokenizer = policy.tokenizer
        self.max_batch_tokens = max_batch_tokens
        self.usage = Usage()
        self._read: _ReadPrompts | None = None

    def load_weights(self, policy: "Policy") -> None:
        """Share the policy's module, so that its present weights are ours."""
        self.model, self._read = policy.model, None

    def sleep(self) -> None:
        """Drop the keys and values of prompts; the model is the trainer's."""
        self._read = None

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Draw one response to each prompt; see `Engine.generate`."""
        generator = torch.Generator().manual_seed(params.seed)
        uniforms = torch.rand(
            len(prompts), params.max_new_tokens, generator=generator, dtype=torch.float64
        )
        completions: list[Completion | None] = [None] * len(prompts)
        batches = self._batches(prompts, params.max_new_tokens)
        # A tree's next proposals have the same prompts, and those of a next turn may go on from
        # them. What is kept is bounded as a batch is.
        keeps = len(batches) == 1
        if not keeps or self._read and self._read.weights != _changes(self.model):
            self._read = None
        for rows in batches:
            batch = _Batch(self, [prompts[r] for r in rows], params, uniforms[rows], self._read)
            self._read = None  # the batch drops it as soon as it has read on
            drawn = batch.run([excluded[r] for r in rows] if excluded else [()] * len(rows))
            if keeps:
                self._read = batch.read
            for row, completion in zip(rows, drawn, strict=True):
                completions[row] = completion
        result = [completion for completion in completions if completion is not None]
        self.usage.add(prompts, result)
        return result

    def _batches(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Rows of like length together, at most `max_batch_tokens` padded tokens at once."""
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        batches: list[list[int]] = []
        for row in order:
            width = len(prompts[row]) + new_tokens
            if batches and (len(batches[-1]) + 1) * width <= self.max_batch_tokens:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches


class _Batch:
    """Rows that are generated together."""

    def __init__(
        self,
        engine: HFEngine,
        prompts: list[Sequence[int]],
        params: SamplingParams,
        uniforms: Tensor,
        read: _ReadPrompts | None,
    ):
        self.model, self.tokenizer, self.params = engine.model, engine.tokenizer, params
        self.uniforms = uniforms.to(engine.model.device)
        self.prompts, self.read = prompts, read
        self.ids: list[list[int]] = [[] for _ in prompts]
        self.logprobs: list[list[float]] = [[] for _ in prompts]
        self.raw: list[list[float]] = [[] for _ in prompts]
        self.finish = ["length"] * len(prompts)
        self.eos = end_ids(self.model, self.tokenizer)

    def run(self, excluded: Sequence[Sequence[Completion]]) -> list[Completion]:
        """Read the prompts, then draw one token at a time; finished rows leave the batch."""
        context, logits = self._read_prompts()
        open_rows = list(range(len(self.prompts)))
        for step in range(self.params.max_new_tokens):
            tokens = self._draw(logits, open_rows, step, excluded)
            keep = [i for i, row in enumerate(open_rows) if not self._is_finished(row)]
            if not keep or step == self.params.max_new_tokens - 1:
                break
            if len(keep) < len(open_rows):
                context.select(keep)
                open_rows, tokens = [open_rows[i] for i in keep], [tokens[i] for i in keep]
            logits = context.read([[token] for token in tokens])
        return [self._completion(row) for row in range(len(self.prompts))]

    def _read_prompts(self) -> tuple[CachedContext | WholeContext, Tensor]:
        """What has read the prompts, a row each, and the logits (N, V) after them.

        Equal ones, and what all begin with, are read once.
        """
        different = list(dict.fromkeys(map(tuple, self.prompts)))
        if self.read and self.read.rows.keys() >= set(different):
            places, context, logits = self.read.rows, self.read.context.branch(), self.read.logits
        else:
            context, logits = self._read_different(different)
            places = {prompt: row for row, prompt in enumerate(different)}
            if isinstance(context, CachedContext) and context.can_branch:
                self.read = _ReadPrompts(places, context.branch(), logits, _changes(self.model))
        rows = [places[tuple(prompt)] for prompt in self.prompts]
        if rows != list(range(len(places))):
            context.select(rows)
            logits = logits[rows]
        return context, logits

    def _read_different(
        self, prompts: list[tuple[int, ...]]
    ) -> tuple[CachedContext | WholeContext, Tensor]:
        """Read prompts in full, or on from those read before where all of them begin with one."""
        known = self.read.rows if self.read else {}
        starts = known_starts(prompts, known)
        if self.read and all(starts):
            context = self.read.context.branch()
            pairs = zip(prompts, starts, strict=True)
            context.select([known[prompt[:start]] for prompt, start in pairs])
        else:
            self.read = None
            context = open_context(self.model)
            start = common_start(prompts)
            if context.can_branch and start * (len(prompts) - 1) >= _WORTH_BRANCHING:
                context.read([prompts[0][:start]])
                context.select([0] * len(prompts))
            else:
                start = 0
            starts = [start] * len(prompts)
        pairs = zip(prompts, starts, strict=True)
        return context, context.read([prompt[start:] for prompt, start in pairs])

    def _draw(
        self,
        logits: Tensor,
        rows: list[int],
        step: int,
        excluded: Sequence[Sequence[Completion]],
    ) -> list[int]:
        """Draw the next token of every open row."""
        plain = next_token_probs(logits, self.params.temperature, self.params.top_p)
        probs = plain
        limited = [(i, row) for i, row in enumerate(rows) if excluded[row]]
        if limited:
            probs = plain.clone()
            for i, row in limited:
                probs[i] = without_excluded(plain[i], self.ids[row], excluded[row])
        chosen, totals = draw_tokens(probs, self.uniforms[rows, step])
        logprobs = (probs.gather(1, chosen[:, None])[:, 0] / totals).log().tolist()
        raw_logprobs = plain.gather(1, chosen[:, None])[:, 0].log().tolist()
        tokens = chosen.tolist()
        for row, token, logprob, raw_logprob in zip(
            rows, tokens, logprobs, raw_logprobs, strict=True
        ):
            self.ids[row].append(token)
            self.logprobs[row].append(min(logprob, 0.0))
            self.raw[row].append(raw_logprob)
        return tokens

    def _is_finished(self, row: int) -> bool:
        if self.ids[row][-1] in self.eos:
            self.finish[row] = "eos"
        elif self.params.stop:
            # Each token adds at least a byte, so the stop string lies within as many last tokens.
            longest = max(len(stop.encode()) for stop in self.params.stop)
            recent = self.tokenizer.decode(self.ids[row][-longest - 1 :])
            if any(stop in recent for stop in self.params.stop):
                self.finish[row] = "stop"
        return self.finish[row] != "length"

    def _completion(self, row: int) -> Completion:
        text = self.tokenizer.decode(self.ids[row], skip_special_tokens=True)
        return Completion(
            text,
            tuple(self.ids[row]),
            tuple(self.logprobs[row]),
            self.finish[row],
            tuple(self.raw[row]),
        )


def _changes(model: Any) -> int:
    """How often torch has seen the weights change: prompts read before the last time are stale."""
    return sum(weight._version for weight in model.parameters())


def common_start(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, such that each has one or more left to be read."""
    first, last = (
        min(map(list, prompts)),
        max(map(list, prompts)),
    )  # what these two share, all share
    longest = min(map(len, prompts)) - 1
    pairs = zip(first[:longest], last[:longest], strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), longest)


def known_starts(
    prompts: Sequence[tuple[int, ...]], known: Collection[tuple[int, ...]]
) -> list[int]:
    """Tokens of the longest known prompt that each prompt goes on from; 0 where there is none.

    >>> known_starts([(1, 2, 3), (1, 2), (4, 5)], {(1,), (1, 2)})
    [2, 1, 0]
    """
    lengths = sorted({len(prompt) for prompt in known}, reverse=True)
    return [
        next((n for n in lengths if n < len(prompt) and prompt[:n] in known), 0)
        for prompt in prompts
    ]


def end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a response, by the tokenizer and by the model's generation settings."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = ids if isinstance(ids, list) else [ids]
    return {token for token in (*ids, tokenizer.eos_token_id) if token is not None}
