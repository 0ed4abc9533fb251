"""Importance weights for responses that the plain policy did not sample.

A response is sampled under another prompt than the one it is trained under (the history gap), or by
an engine whose probabilities differ from the trainer's (the engine gap). Each correction weighs the
credit of a turn or token by pi_old / mu, bounded.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..configs.schema import LossConfig
from .batch import Batch


def correct_gaps(batch: Batch, loss: LossConfig) -> Batch:
    """Apply `loss.history_correction` and `loss.engine_importance_cap`.

    Args:
        batch: with scored `old_logprobs`.
        loss: names both corrections.
    """
    batch = correct_history_gap(batch, loss.history_correction)
    return correct_engine_gap(batch, loss.engine_importance_cap)


def history_gap(batch: Batch) -> Tensor:
    """Return how likely the plain policy finds each turn, against the prompt it was drawn under.

    log pi_old(y | x) - log mu(y) in nats, over all tokens of the turn: shape (num_turns,). 0 up to
    the engine's rounding for proposals that were drawn under x, and 0 for turns without a row in
    the batch.
    """
    gap = (batch.old_logprobs - batch.sampling_logprobs)[batch.loss_mask]
    sums = torch.zeros(len(batch.proposal_index), dtype=gap.dtype, device=gap.device)
    return sums.index_add(0, batch.turn[batch.loss_mask], gap)


def correct_history_gap(batch: Batch, mode: str) -> Batch:
    """Weigh turns that were drawn under another prompt than the one they are trained under.

    Paper: the history is left out of the likelihood and nothing corrects for it. We: by default a
    failure that the plain policy would hardly produce is not pushed down as if it were likely,
    because that only sharpens the present mode, down to a policy that never varies. First proposals
    are drawn under the plain prompt and are left as they are.

    Args:
        batch: with scored `old_logprobs`.
        mode: "none"; "negatives" (negative *= min(1, ratio)); "truncated" (positive, negative *=
            min(2, ratio)).

    Raises:
        ValueError: if `mode` is unknown.
    """
    if mode not in ("none", "negatives", "truncated"):
        raise ValueError(
            f"loss.history_correction must be none, negatives or truncated, got {mode!r}."
        )
    if mode == "none":
        return batch
    ratio = history_gap(batch).exp().clamp(max=1.0 if mode == "negatives" else 2.0)
    ratio = torch.where(batch.proposal_index == 0, 1.0, ratio)
    factor = torch.cat([ratio, ratio.new_ones(1)])[batch.turn]  # (N, T); turn -1 picks the last, 1
    if mode == "negatives":
        return replace(batch, negative=batch.negative * factor)
    return replace(batch, positive=batch.positive * factor, negative=batch.negative * factor)


def engine_gap(batch: Batch) -> Tensor:
    """Return how far trainer and engine are apart at the tokens of first proposals.

    |log pi_old(token) - log mu(token)| in nats, shape (num_tokens,): these are drawn under the
    plain prompt, so only rounding may part the two.
    """
    return (batch.old_logprobs - batch.sampling_logprobs)[_is_first(batch)].abs()


def correct_engine_gap(batch: Batch, cap: float) -> Batch:
    """Weigh each token of a first proposal by min(cap, pi_old / mu), for an engine that differs.

    Truncated importance sampling (Yao et al. 2025, "Your efficient RL framework secretly brings you
    off-policy RL training"). Later proposals are left to `correct_history_gap`.

    Args:
        batch: with scored `old_logprobs`.
        cap: the largest weight, at least 1; 0 for no correction.
    """
    if not cap:
        return batch
    ratio = (batch.old_logprobs - batch.sampling_logprobs).exp().clamp(max=cap)
    factor = torch.where(_is_first(batch), ratio, 1.0)
    return replace(batch, positive=batch.positive * factor, negative=batch.negative * factor)


def _is_first(batch: Batch) -> Tensor:
    """(N, T) bool, True on trained tokens of first proposals."""
    firsts = torch.cat([batch.proposal_index == 0, batch.loss_mask.new_zeros(1)])
    return firsts[batch.turn] & batch.loss_mask  # turn -1 picks the last, False
