"""Next tokens from their probabilities: temperature, top-p, exclusion, one uniform number each.

All in float64: the log-probabilities of excluded completions must add up to what was drawn.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Completion

_BLOCK = 256
"""Columns whose probabilities are added up at once, before any of them is looked at by itself."""
_SMALL = 4096
"""A vocabulary that is not worth it."""


def next_token_probs(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities (N, V), float64, of logits (N, V)."""
    if temperature != 1:
        logits = logits.double() / temperature
    probs = torch.softmax(logits, dim=-1, dtype=torch.float64)
    return keep_top_p(probs, top_p) if top_p < 1 else probs


def keep_top_p(probs: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens that holds probability `top_p`, normalised, (N, V)."""
    ranked, order = probs.sort(dim=-1, descending=True)
    ranked[ranked.cumsum(-1) - ranked >= top_p] = 0.0
    ranked /= ranked.sum(-1, keepdim=True)
    return torch.zeros_like(probs).scatter(1, order, ranked)


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
        (V,) what is left, not normalised. If nothing is left or to be taken out, `probs` itself.
    """
    place, start = len(prefix), tuple(prefix)
    different = {done.token_ids: done for done in excluded}.values()
    begun = [c for c in different if len(c.token_ids) > place and c.token_ids[:place] == start]
    if not begun:
        return probs
    left = probs.clone()
    for completion in begun:
        token = completion.token_ids[place]
        left[token] -= probs[token] * math.exp(math.fsum(completion.raw_logprobs[place + 1 :]))
    left.clamp_(min=0)
    return left if float(left.sum()) > 1e-12 else probs


def draw_tokens(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one token per row by inverting the cumulative distribution.

    The block of columns comes first and then the column, which spares the running sum over a
    vocabulary of many thousands.

    Args:
        weights: (N, V) probabilities, not necessarily normalised, float64.
        uniforms: (N,) in [0, 1), float64.

    Returns:
        (N,) tokens and (N,) the sums of the weights.

    >>> weights = torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64)
    >>> draw_tokens(weights, torch.tensor([0.5], dtype=torch.float64))[0].tolist()
    [2]
    """
    vocabulary = weights.shape[1]
    if vocabulary <= _SMALL:
        tokens, _, totals = _find(weights, uniforms[:, None])
        return tokens[:, 0], totals[:, 0]
    whole = vocabulary - vocabulary % _BLOCK
    sums = weights[:, :whole].unflatten(1, (-1, _BLOCK)).sum(-1)
    sums = torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], dim=1)
    blocks, rest, totals = _find(sums, uniforms[:, None])
    columns = blocks * _BLOCK + torch.arange(_BLOCK, device=weights.device)  # (N, _BLOCK)
    inside = weights.gather(1, columns.clamp(max=vocabulary - 1)) * (columns < vocabulary)
    places, _, _ = _find(inside, rest)
    return (blocks * _BLOCK + places)[:, 0], totals[:, 0]


def _find(weights: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The column where the running sum passes a share of the total, the share within it, the total.

    All are (N, 1). A column without weight is never found.
    """
    cumulative = weights.cumsum(-1)
    totals = cumulative[:, -1:]
    targets = torch.minimum(shares * totals, torch.nextafter(totals, totals.new_zeros(())))
    columns = torch.searchsorted(cumulative, targets, right=True)
    found = weights.gather(1, columns)
    rest = (targets - cumulative.gather(1, columns) + found) / found
    return columns, rest.clamp(0, 1), totals
