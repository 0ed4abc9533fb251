"""Log-probabilities and entropies from logits, in memory that does not grow with the batch.

With a vocabulary of 150 000, the logits of one batch take gigabytes. Above `MAX_LOGITS` they are
computed in chunks of trained positions and recomputed in the backward pass
(`torch.utils.checkpoint`), so that only one chunk is held at a time. Below it there is one chunk,
and nothing is computed twice.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 2**25
"""Logits of one chunk: 128 MiB in float32; about five copies of them exist at a time."""
Statistic = Callable[[Tensor, Tensor], Tensor]
"""What is computed of distributions: log-probabilities (..., V) and tokens (...,) to (...,)."""


def entropies(log_p: Tensor, token_ids: Tensor) -> Tensor:
    """Entropies of distributions in nats: a `Statistic`."""
    return -(log_p.exp() * log_p).sum(-1)


ENTROPY: tuple[Statistic, ...] = (entropies,)


def token_logprobs(
    logits: Tensor,
    token_ids: Tensor,
    temperature: float,
    entropy_grad: bool,
    statistics: Sequence[Statistic] = ENTROPY,
) -> tuple[Tensor, ...]:
    """Return the log-probability of each token and statistics of its distribution.

    The softmax is computed in float32 whatever the dtype of the logits, except that float64 is
    kept.

    Args:
        logits: (..., V), each for the token at the same index.
        token_ids: (...,) int64.
        temperature: logits are divided by it.
        entropy_grad: whether gradients flow through the statistics.
        statistics: by default the entropy.

    Returns:
        Tensors of shape (...,): log-probabilities in nats, and a tensor for each statistic.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if temperature != 1:
        logits = logits / temperature
    log_p = torch.log_softmax(logits, dim=-1)
    chosen = log_p.gather(-1, token_ids[..., None])[..., 0]
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        found = [statistic(log_p, token_ids) for statistic in statistics]
    return chosen, *found


def chunked_logprobs(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    token_ids: Tensor,
    temperature: float,
    entropy_grad: bool,
    chunk: int,
    statistics: Sequence[Statistic] = ENTROPY,
) -> tuple[Tensor, ...]:
    """Return `token_logprobs` of `head(hidden)`, holding the logits of `chunk` positions at a time.

    Args:
        head: maps hidden states (M, H) to logits (M, V).
        hidden: (M, H), each for the token at the same index.
        token_ids: (M,) int64.
        temperature: logits are divided by it.
        entropy_grad: whether gradients flow through the statistics.
        chunk: number of positions at a time, at least 1.
        statistics: as of `token_logprobs`.

    Returns:
        Tensors of shape (M,), as `token_logprobs`.
    """

    def logprobs_of_chunk(part: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        return token_logprobs(head(part), ids, temperature, entropy_grad, statistics)

    parts: list[Any] = [
        checkpoint(logprobs_of_chunk, part, ids, use_reentrant=False, preserve_rng_state=False)
        for part, ids in zip(hidden.split(chunk), token_ids.split(chunk), strict=True)
    ]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def has_plain_head(model: Any, token_ids: Tensor) -> bool:
    """Return whether a model's logits are exactly its head's output.

    Some families scale or cap them. Trying one token shows it, so no list of families is needed.

    Args:
        model: a causal language model of transformers.
        token_ids: (1, 1) int64, any token.
    """
    head = model.get_output_embeddings()
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=token_ids, use_cache=False).last_hidden_state
        logits = model.forward(input_ids=token_ids, use_cache=False).logits
        return head is not None and torch.equal(head(hidden), logits)
