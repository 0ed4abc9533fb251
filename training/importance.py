"""Importance weights for responses that were not sampled from pi_old under the plain prompt.

Either the sampling prompt differs from the training prompt (the history gap), or the engine's
probabilities differ from the trainer's (the engine gap). Each correction weights the credit of a
turn or token by a bounded pi_old / mu.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..configs.schema import LossConfig
from .batch import Batch


def correct_gaps(batch: Batch, loss: LossConfig) -> Batch:
    """Apply the corrections set by `loss.history_correction` and `loss.engine_importance_cap`.

    Args:
        batch: with scored `old_logprobs`.
        loss: the loss settings.
    """
    batch = correct_history_gap(batch, loss.history_correction)
    return correct_engine_gap(batch, loss.engine_importance_cap)


def history_gap(batch: Batch) -> Tensor:
    """Return each turn's log importance ratio of the plain prompt to its sampling prompt.

    log pi_old(y | x) - log mu(y) in nats, summed over the tokens of the turn: shape (num_turns,).
    For proposals sampled under x it is 0 up to the engine's rounding; for turns without a row in
    the batch it is 0.
    """
    gap = (batch.old_logprobs - batch.sampling_logprobs)[batch.loss_mask]
    sums = torch.zeros(len(batch.proposal_index), dtype=gap.dtype, device=gap.device)
    return sums.index_add(0, batch.turn[batch.loss_mask], gap)


def correct_history_gap(batch: Batch, mode: str) -> Batch:
    """Weight turns whose sampling prompt differs from the plain prompt.

    Paper: responses are trained under x alone, without a correction. We: by default failures that
    the plain policy would hardly produce are penalised less, because penalising them fully only
    sharpens the present mode until the policy collapses. First proposals, sampled under the plain
    prompt, are not weighted; of proposals drawn without replacement the ratio is the probability
    that the earlier actions have left (`sampling/distinct.py`).

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
    """Return the gap between trainer and engine at the tokens of first proposals.

    |log pi_old(token) - log mu(token)| in nats, shape (num_tokens,). First proposals are sampled
    under the plain prompt, so the two should differ only by rounding.
    """
    return (batch.old_logprobs - batch.sampling_logprobs)[_is_first(batch)].abs()


def correct_engine_gap(batch: Batch, cap: float) -> Batch:
    """Weight each token of a first proposal by min(cap, pi_old / mu).

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
