"""Generates with any causal language model of transformers, on any device.

One prefill and a KV cache per batch, equal prompts prefilled once, batches bounded by tokens, one
uniform number per token and row. The draw of a row depends on the call's seed and the row's place,
not on how rows were batched (up to rounding).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .engine import Completion, SamplingParams, Usage

if TYPE_CHECKING:
    from .policy import Policy


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

    def load_weights(self, policy: "Policy") -> None:
        """Share the policy's module, so that its present weights are ours."""
        self.model = policy.model

    def sleep(self) -> None:
        """The model is the trainer's, and caches end with their batch."""

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
        for rows in self._batches(prompts, params.max_new_tokens):
            batch = _Batch(self, [prompts[r] for r in rows], params, uniforms[rows])
            drawn = batch.run([excluded[r] for r in rows] if excluded else [()] * len(rows))
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
    ):
        self.model, self.tokenizer, self.params = engine.model, engine.tokenizer, params
        self.uniforms = uniforms.to(engine.model.device)
        self.prompts = prompts
        self.ids: list[list[int]] = [[] for _ in prompts]
        self.logprobs: list[list[float]] = [[] for _ in prompts]
        self.raw: list[list[float]] = [[] for _ in prompts]
        self.finish = ["length"] * len(prompts)
        self.eos = end_ids(self.model, self.tokenizer)

    def run(self, excluded: Sequence[Sequence[Completion]]) -> list[Completion]:
        """Prefill, then one token at a time; finished rows leave the batch."""
        device = self.model.device
        different = list(dict.fromkeys(map(tuple, self.prompts)))
        inputs, mask = _left_pad(different, self.tokenizer.pad_token_id or 0)
        inputs, mask = inputs.to(device), mask.to(device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        open_rows, cache = list(range(len(self.prompts))), None
        for step in range(self.params.max_new_tokens):
            output = self.model(
                input_ids=inputs,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            logits = output.logits[:, -1].float()
            if step == 0 and len(different) < len(self.prompts):
                place = {prompt: row for row, prompt in enumerate(different)}
                index = torch.tensor([place[tuple(p)] for p in self.prompts], device=device)
                cache.batch_select_indices(index)
                logits, mask, positions = logits[index], mask[index], positions[index]
            tokens = self._draw(logits, open_rows, step, excluded)
            keep = [i for i, row in enumerate(open_rows) if not self._is_finished(row)]
            if not keep or step == self.params.max_new_tokens - 1:
                break
            if len(keep) < len(open_rows):
                index = torch.tensor(keep, device=device)
                cache.batch_select_indices(index)
                mask, positions = mask[index], positions[index]
                open_rows, tokens = [open_rows[i] for i in keep], [tokens[i] for i in keep]
            inputs = torch.tensor(tokens, device=device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(tokens), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return [self._completion(row) for row in range(len(self.prompts))]

    def _draw(
        self,
        logits: Tensor,
        rows: list[int],
        step: int,
        excluded: Sequence[Sequence[Completion]],
    ) -> list[int]:
        """Draw the next token of every open row by inverting the cumulative distribution."""
        plain = torch.softmax(logits.double() / self.params.temperature, dim=-1)  # (N, V)
        if self.params.top_p < 1:
            plain = keep_top_p(plain, self.params.top_p)
        probs = plain
        if any(excluded[row] for row in rows):
            probs = torch.stack(
                [
                    without_excluded(plain[i], self.ids[row], excluded[row])
                    for i, row in enumerate(rows)
                ]
            )
        cumulative = probs.cumsum(-1)
        targets = self.uniforms[rows, step][:, None] * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, targets, right=True).clamp(max=probs.shape[1] - 1)
        logprobs = (probs.gather(1, chosen) / cumulative[:, -1:]).log()[:, 0].tolist()
        raw_logprobs = plain.gather(1, chosen)[:, 0].log().tolist()
        tokens = chosen[:, 0].tolist()
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


def without_excluded(
    probs: Tensor, prefix: Sequence[int], excluded: Sequence[Completion]
) -> Tensor:
    """Take the probability of excluded completions out of a next-token distribution.

    Drawing token after token from the result is exactly drawing a whole completion that is none of
    the excluded ones (sampling without replacement: Shi, Bieber and Sutton 2020, arXiv:2002.09067).

    Args:
        probs: (V,) next-token probabilities after `prefix`, float64.
        prefix: tokens drawn so far.
        excluded: completions of the same prompt, with their `raw_logprobs`.

    Returns:
        (V,) what is left, not normalised. If nothing is left, `probs` itself.
    """
    place, left = len(prefix), probs.clone()
    for completion in {done.token_ids: done for done in excluded}.values():
        ids = completion.token_ids
        if len(ids) > place and ids[:place] == tuple(prefix):
            rest = math.exp(math.fsum(completion.raw_logprobs[place + 1 :]))
            left[ids[place]] -= probs[ids[place]] * rest
    left.clamp_(min=0)
    return left if float(left.sum()) > 1e-12 else probs


def keep_top_p(probs: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens that holds probability `top_p`, normalised, (N, V)."""
    ranked, order = probs.sort(dim=-1, descending=True)
    ranked[ranked.cumsum(-1) - ranked >= top_p] = 0.0
    ranked /= ranked.sum(-1, keepdim=True)
    return torch.zeros_like(probs).scatter(1, order, ranked)


def _left_pad(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids (N, P) and attention mask (N, P), prompts to the right."""
    width = max(map(len, prompts))
    inputs = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        inputs[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return inputs, mask


def end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a response, by the tokenizer and by the model's generation settings."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = ids if isinstance(ids, list) else [ids]
    return {token for token in (*ids, tokenizer.eos_token_id) if token is not None}
