"""Samples next tokens: temperature, top-p, exclusion, one uniform number per token.

Everything is in float64, so that the log-probabilities of excluded completions add up exactly.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Completion

_BLOCK = 256
"""Tokens per block of the two-level inverse CDF."""
_SMALL = 4096
"""Largest vocabulary that is sampled without blocks."""


def next_token_probs(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return the probabilities (N, V), float64, of logits (N, V)."""
    if temperature != 1:
        logits = logits.double() / temperature
    probs = torch.softmax(logits, dim=-1, dtype=torch.float64)
    return keep_top_p(probs, top_p) if top_p < 1 else probs


def keep_top_p(probs: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens with total probability `top_p`, normalised, (N, V)."""
    ranked, order = probs.sort(dim=-1, descending=True)
    ranked[ranked.cumsum(-1) - ranked >= top_p] = 0.0
    ranked /= ranked.sum(-1, keepdim=True)
    return torch.zeros_like(probs).scatter(1, order, ranked)


def without_excluded(
    probs: Tensor, prefix: Sequence[int], excluded: Sequence[Completion]
) -> Tensor:
    """Remove the probability of excluded completions from a next-token distribution.

    Sampling token after token from the result is exactly sampling a completion that is not excluded
    (sampling without replacement: Shi, Bieber and Sutton 2020, arXiv:2002.09067).

    Args:
        probs: (V,) next-token probabilities after `prefix`, float64.
        prefix: tokens sampled so far.
        excluded: completions of the same prompt, with their `raw_logprobs`.

    Returns:
        (V,) remaining probabilities, not normalised; `probs` itself if nothing remains, or if there
        is nothing to remove.
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


def sample_tokens(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Sample one token per row by inverting the cumulative distribution.

    Two-level inverse CDF: block, then token. This avoids a cumulative sum over a vocabulary of many
    thousands.

    Args:
        weights: (N, V) probabilities, not necessarily normalised, float64.
        uniforms: (N,) in [0, 1), float64.

    Returns:
        (N,) tokens and (N,) the sums of the weights.

    >>> weights = torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64)
    >>> sample_tokens(weights, torch.tensor([0.5], dtype=torch.float64))[0].tolist()
    [2]
    """
    vocabulary = weights.shape[1]
    if vocabulary <= _SMALL:
        tokens, _, totals = _invert_cdf(weights, uniforms[:, None])
        return tokens[:, 0], totals[:, 0]
    whole = vocabulary - vocabulary % _BLOCK
    sums = weights[:, :whole].unflatten(1, (-1, _BLOCK)).sum(-1)
    sums = torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], dim=1)
    blocks, rest, totals = _invert_cdf(sums, uniforms[:, None])
    columns = blocks * _BLOCK + torch.arange(_BLOCK, device=weights.device)  # (N, _BLOCK)
    inside = weights.gather(1, columns.clamp(max=vocabulary - 1)) * (columns < vocabulary)
    offsets, _, _ = _invert_cdf(inside, rest)
    return (blocks * _BLOCK + offsets)[:, 0], totals[:, 0]


def _invert_cdf(weights: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the column where the cumulative sum passes a share of the total.

    Columns without weight are never found.

    Returns:
        The column, the share that is left within the column, and the total, each (N, 1).
    """
    cumulative = weights.cumsum(-1)
    totals = cumulative[:, -1:]
    targets = torch.minimum(shares * totals, torch.nextafter(totals, totals.new_zeros(())))
    columns = torch.searchsorted(cumulative, targets, right=True)
    found = weights.gather(1, columns)
    rest = (targets - cumulative.gather(1, columns) + found) / found
    return columns, rest.clamp(0, 1), totals
