"""Rows of prompts that transformers generates together.

Equal prompts are computed once, and so are the prefix that all prompts of a batch share and the
beginnings that responses have in common. If the
model supports a KV cache (`kv_cache.py`), the cache of the last prompts is kept, for prompts that
come again and for later turns that extend them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...configs.errors import SettingError
from .base import Completion, SamplingParams
from .kv_cache import KVCache, NoKVCache, open_kv_cache
from .token_sampling import next_token_probs, sample_tokens, without_excluded

if TYPE_CHECKING:
    from .hf import HFEngine

_MIN_SAVED_TOKENS = 256
"""A shared prefix is computed separately if it saves at least this many tokens."""


@dataclass(frozen=True)
class CachedPrompts:
    """The KV cache of different prompts, before any token was sampled."""

    rows: dict[tuple[int, ...], int]
    """The row of each prompt."""
    cache: KVCache
    logits: Tensor
    """(N, V) float, of the next tokens."""
    weights_version: int
    """`weights_version` of the model that computed it."""


class PromptBatch:
    """Prompts that are computed together.

    Args:
        engine: its model and tokenizer.
        prompts: token ids, one sequence per row.
        params: how responses are sampled.
        cached: the prompts of the last batch, which this one may repeat or extend.
    """

    def __init__(
        self,
        engine: "HFEngine",
        prompts: list[Sequence[int]],
        params: SamplingParams,
        cached: CachedPrompts | None,
    ):
        self.model, self.decoder, self.params = engine.model, engine.decoder, params
        self.prompts, self.cached = prompts, cached
        self.eos = end_ids(self.model, engine.tokenizer)

    def prefill(self) -> tuple[KVCache | NoKVCache, Tensor, list[int]]:
        """Compute the prompts; equal ones, and the prefix that all share, once.

        Returns:
            A cache with a row for every different prompt, the logits (N, V) after them, and the row
            of each prompt.
        """
        different = list(dict.fromkeys(map(tuple, self.prompts)))
        if self.cached and self.cached.rows.keys() >= set(different):
            rows_of, cache, logits = (
                self.cached.rows,
                self.cached.cache.branch(),
                self.cached.logits,
            )
        else:
            cache, logits = self._prefill_different(different)
            rows_of = {prompt: row for row, prompt in enumerate(different)}
            if isinstance(cache, KVCache) and cache.can_branch:
                version = weights_version(self.model)
                self.cached = CachedPrompts(rows_of, cache.branch(), logits, version)
        return cache, logits, [rows_of[tuple(prompt)] for prompt in self.prompts]

    def _prefill_different(
        self, prompts: list[tuple[int, ...]]
    ) -> tuple[KVCache | NoKVCache, Tensor]:
        """Compute prompts in full, or only their ends if each one extends a cached prompt."""
        known = self.cached.rows if self.cached else {}
        starts = cached_prefix_lengths(prompts, known)
        if self.cached and all(starts):
            cache = self.cached.cache.branch()
            pairs = zip(prompts, starts, strict=True)
            cache.select([known[prompt[:start]] for prompt, start in pairs])
        else:
            self.cached = None
            cache = open_kv_cache(self.model)
            start = common_prefix_length(prompts)
            if cache.can_branch and start * (len(prompts) - 1) >= _MIN_SAVED_TOKENS:
                cache.extend([prompts[0][:start]])
                cache.select([0] * len(prompts))
            else:
                start = 0
            starts = [start] * len(prompts)
        pairs = zip(prompts, starts, strict=True)
        return cache, cache.extend([prompt[start:] for prompt, start in pairs])

    def finish_reason(self, ids: Sequence[int]) -> str:
        """Why a response that begins with these ids ends here; "length" if it does not."""
        if ids[-1] in self.eos:
            return "eos"
        if self.params.stop:
            # Each token adds at least one byte, so this many last tokens contain the stop string.
            longest = max(len(stop.encode()) for stop in self.params.stop)
            recent = self.decoder.text(ids[-longest - 1 :])
            if any(stop in recent for stop in self.params.stop):
                return "stop"
        return "length"

    def next_probs(self, logits: Tensor) -> Tensor:
        """Probabilities (N, V), float64, of the next tokens.

        Raises:
            SettingError: if they are not finite.
        """
        plain = next_token_probs(logits, self.params.temperature, self.params.top_p)
        if plain[:, 0].isnan().any():  # one NaN or infinite logit makes a whole row NaN
            raise SettingError(
                "The model's probabilities of the next token are not finite at temperature "
                f"{self.params.temperature:g}: its weights are damaged or too large, or the "
                "temperature is too small. Choose another model or checkpoint, or raise it."
            )
        return plain


class SampledBatch(PromptBatch):
    """Responses that are sampled independently of each other.

    Args:
        engine: as in `PromptBatch`, like `prompts`, `params` and `cached`.
        prompts: one per response.
        params: how to sample.
        uniforms: (N, T) numbers in [0, 1), one per row and token.
        cached: the prompts of the last batch.
    """

    def __init__(
        self,
        engine: "HFEngine",
        prompts: list[Sequence[int]],
        params: SamplingParams,
        uniforms: Tensor,
        cached: CachedPrompts | None,
    ):
        super().__init__(engine, prompts, params, cached)
        self.uniforms = uniforms.to(engine.model.device)
        self.ids: list[list[int]] = [[] for _ in prompts]
        self.logprobs: list[list[float]] = [[] for _ in prompts]
        self.raw: list[list[float]] = [[] for _ in prompts]
        self.finish = ["length"] * len(prompts)

    def run(self, excluded: Sequence[Sequence[Completion]]) -> list[Completion]:
        """Compute the prompts, then sample token by token; finished rows leave the batch.

        Responses that have begun alike are computed once: those of a sure policy cost little.
        """
        cache, logits, places = self.prefill()
        open_rows = list(range(len(self.prompts)))
        for step in range(self.params.max_new_tokens):
            self._sample(logits, [places[row] for row in open_rows], open_rows, step, excluded)
            open_rows = [row for row in open_rows if not self._is_finished(row)]
            if not open_rows or step == self.params.max_new_tokens - 1:
                break
            begun: dict[tuple[int, int], int] = {}
            for row in open_rows:
                key = places[row], self.ids[row][-1]
                places[row] = begun.setdefault(key, len(begun))
            parents = [parent for parent, _ in begun]
            if parents != list(range(logits.shape[0])):
                cache.select(parents)
            logits = cache.extend([[token] for _, token in begun])
        return [self._completion(row) for row in range(len(self.prompts))]

    def _sample(
        self,
        logits: Tensor,
        places: list[int],
        rows: list[int],
        step: int,
        excluded: Sequence[Sequence[Completion]],
    ) -> None:
        """Sample the next token of every open row, from the logits at its place."""
        plain = self.next_probs(logits)[places]
        probs = plain
        limited = [(i, row) for i, row in enumerate(rows) if excluded[row]]
        if limited:
            probs = plain.clone()
            for i, row in limited:
                probs[i] = without_excluded(plain[i], self.ids[row], excluded[row])
        chosen, totals = sample_tokens(probs, self.uniforms[rows, step])
        logprobs = (probs.gather(1, chosen[:, None])[:, 0] / totals).log().tolist()
        raw_logprobs = plain.gather(1, chosen[:, None])[:, 0].log().tolist()
        for row, token, logprob, raw_logprob in zip(
            rows, chosen.tolist(), logprobs, raw_logprobs, strict=True
        ):
            self.ids[row].append(token)
            self.logprobs[row].append(min(logprob, 0.0))
            self.raw[row].append(raw_logprob)

    def _is_finished(self, row: int) -> bool:
        self.finish[row] = self.finish_reason(self.ids[row])
        return self.finish[row] != "length"

    def _completion(self, row: int) -> Completion:
        return Completion(
            self.decoder.text(self.ids[row]),
            tuple(self.ids[row]),
            tuple(self.logprobs[row]),
            self.finish[row],
            tuple(self.raw[row]),
        )


def weights_version(model: Any) -> int:
    """Return torch's count of in-place changes of the weights; a cache with another is stale."""
    return sum(weight._version for weight in model.parameters())


def common_prefix_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return the length of the prefix that all prompts share, leaving each at least one token."""
    # All prompts share what the first and the last in lexicographic order share.
    first, last = min(map(list, prompts)), max(map(list, prompts))
    longest = min(map(len, prompts)) - 1
    pairs = zip(first[:longest], last[:longest], strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), longest)


def cached_prefix_lengths(
    prompts: Sequence[tuple[int, ...]], known: Collection[tuple[int, ...]]
) -> list[int]:
    """Return the length of the longest known prompt that each prompt extends; 0 if there is none.

    >>> cached_prefix_lengths([(1, 2, 3), (1, 2), (4, 5)], {(1,), (1, 2)})
    [2, 1, 0]
    """
    lengths = sorted({len(prompt) for prompt in known}, reverse=True)
    return [
        next((n for n in lengths if n < len(prompt) and prompt[:n] in known), 0)
        for prompt in prompts
    ]


def end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Return all tokens that end a response, from the tokenizer and the generation settings."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = ids if isinstance(ids, list) else [ids]
    return {token for token in (*ids, tokenizer.eos_token_id) if token is not None}
