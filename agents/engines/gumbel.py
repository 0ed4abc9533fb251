"""Gumbel noise along a tree of tokens: several draws without replacement in one pass.

Every response gets G = log pi + a Gumbel random number. Responses in descending order of G are a
sequence of draws without replacement, the first of them a plain sample (Gumbel-top-k; Kool, van
Hoof and Welling 2019, "Stochastic Beams and Where to Find Them", arXiv:1903.06059). The G of a
prefix is the largest of all responses that begin with it, so the k largest are found from the first
token on, with k prefixes at a time.
"""

import torch
from torch import Tensor


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
    return tokens, bound.masked_fill(best == -torch.inf, -torch.inf)


def _log1mexp(values: Tensor) -> Tensor:
    """log(1 - exp(x)) of x <= 0."""
    return torch.log(-torch.expm1(values))
