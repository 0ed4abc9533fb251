"""Gumbel noise along a tree of tokens: several draws without replacement in one pass.

Every response gets G = log pi + a Gumbel random number. Responses in descending order of G are a
sequence of draws without replacement, the first of them a plain sample (Gumbel-top-k; Kool, van
Hoof and Welling 2019, "Stochastic Beams and Where to Find Them", arXiv:1903.06059). The G of a
prefix is the largest of all responses that begin with it, so the k largest are found from the first
token on, with k prefixes at a time.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 256
"""Tokens per block of a large vocabulary."""
_SMALL = 4096
"""Largest vocabulary without blocks."""
Noise = Callable[[int], Tensor]
"""Makes (N, n) exponentially distributed random numbers, float64, for a given n."""


def perturb_tokens(
    masses: Tensor, parents: Tensor, noise: Noise, count: int
) -> tuple[Tensor, Tensor]:
    """Draw the G of the most favoured tokens that can follow some prefixes.

    In a large vocabulary blocks of tokens are a level of the tree of their own: only tokens of the
    best blocks need random numbers.

    Args:
        masses: (N, V) probability of each prefix with each next token, float64.
        parents: (N,) G of the prefixes: the largest of their children's.
        noise: random numbers for the N prefixes.
        count: number of tokens wanted, k <= V.

    Returns:
        (N, k) tokens and their G, the largest first; G is -inf where nothing is left.
    """
    rows, vocabulary = masses.shape
    if vocabulary <= _SMALL:
        return perturb_children(masses.log(), parents, noise(vocabulary), count)
    padded = torch.nn.functional.pad(masses, (0, -vocabulary % _BLOCK)).unflatten(1, (-1, _BLOCK))
    num_blocks = min(count, padded.shape[1])
    sums = padded.sum(-1)
    blocks, bounds = perturb_children(sums.log(), parents, noise(sums.shape[1]), num_blocks)
    chosen = padded.gather(1, blocks[:, :, None].expand(-1, -1, _BLOCK)).flatten(0, 1)
    inside = noise(num_blocks * _BLOCK).reshape(rows * num_blocks, _BLOCK)
    places, found = perturb_children(chosen.log(), bounds.flatten(), inside, min(count, _BLOCK))
    tokens = (blocks.flatten()[:, None] * _BLOCK + places).reshape(rows, -1)
    best, order = found.reshape(rows, -1).topk(min(count, tokens.shape[1]), dim=1)
    return tokens.gather(1, order), best


def perturb_children(
    log_masses: Tensor, parents: Tensor, noise: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Draw the G of the tokens that can follow some prefixes, given the G of the prefixes.

    Args:
        log_masses: (N, V) log-probability of each prefix with each next token, float64; -inf for
            tokens that must not follow.
        parents: (N,) G of the prefixes: the largest of their children's.
        noise: (N, V) exponentially distributed random numbers, float64.
        count: number of largest children wanted, k <= V.

    Returns:
        (N, k) tokens and their G, the largest first; G is -inf where nothing is left.
    """
    free = log_masses - noise.log()  # Gumbel numbers, not yet bound to their parent's
    best, tokens = free.topk(count, dim=1)
    # The transform keeps the order, so the k largest are enough. Numerically stable as in the
    # paper's appendix B.3.
    gap = parents[:, None] - best + _log1mexp(best - best[:, :1])
    bound = parents[:, None] - gap.clamp(min=0) - torch.log1p(torch.exp(-gap.abs()))
    is_left = (best > -torch.inf) & (parents > -torch.inf)[:, None]
    return tokens, bound.masked_fill(~is_left, -torch.inf)


def _log1mexp(values: Tensor) -> Tensor:
    """log(1 - exp(x)) of x <= 0."""
    return torch.log(-torch.expm1(values))
