"""The gradients of a minibatch, in parts that fit into memory; equal rows are computed once.

A rollout that is followed by one optimiser step needs no forward pass before it: in the step's own
pass the policy still is the one that drew the rollout, so pi_old is what that pass finds, held
constant. Every correction of a turn needs its own likelihoods alone, and a turn lies in one row:
losses and gradients are those of a batch that was scored beforehand, up to rounding.
"""

from dataclasses import replace

import torch

from ..agents.policy import Policy
from ..configs.schema import LossConfig, OptimConfig
from .batch import Batch, correct_engine_gap, correct_history_gap, equal_rows, merge_equal_rows
from .distributed import add_up, own_rows
from .losses import grpo_loss


def needs_scores(loss: LossConfig, optim: OptimConfig) -> bool:
    """Whether pi_old must be known before the first forward pass of an update.

    It must where the policy changes before the last pass, and where tokens are held against all
    others of the batch (`training/exploration.py`).
    """
    return optim.num_epochs * optim.num_minibatches > 1 or loss.exploration != "none"


def correct_gaps(batch: Batch, loss: LossConfig) -> Batch:
    """Weigh what was drawn under other prompts, or by an engine that differs.

    Args:
        batch: with scored `old_logprobs`.
        loss: names the corrections.
    """
    batch = correct_history_gap(batch, loss.history_gap)
    return correct_engine_gap(batch, loss.engine_gap_cap)


def add_gradients(
    policy: Policy,
    batch: Batch,
    loss: LossConfig,
    max_tokens: int,
    is_scored: bool,
    reference: Policy | None = None,
) -> tuple[Batch, list[dict[str, float]]]:
    """Add the gradients of a minibatch to those of the policy; of several processes each its share.

    Args:
        policy: pi.
        batch: N rows, on the CPU.
        loss: what is minimised.
        max_tokens: packed or padded tokens of a part, at least.
        is_scored: whether `old_logprobs` of the batch are known and its gaps corrected. Otherwise
            the policy is pi_old.
        reference: the initial policy, if `loss.kl_coef` is set.

    Returns:
        The batch with `old_logprobs`, and the sums that `grpo_loss` returns of each part.
    """
    firsts, places = equal_rows(batch)
    different, packed = batch.select(firsts), not policy.why_not_packed
    copies: list[list[int]] = [[] for _ in firsts]
    for row, place in enumerate(places):
        copies[place].append(row)
    old_logprobs, stats = torch.zeros_like(batch.old_logprobs), []
    for group in different.micro_batch_rows(max_tokens, own_rows(different, packed), packed):
        rows = [row for place in group for row in copies[place]]
        part, sums = _add_part(policy, batch.select(rows), loss, is_scored, reference)
        old_logprobs[rows, : part.old_logprobs.shape[1]] = part.old_logprobs.to(old_logprobs.dtype)
        stats.append(sums)
    if not is_scored:
        add_up(old_logprobs)
        batch = replace(batch, old_logprobs=old_logprobs)
    return batch, stats


def _add_part(
    policy: Policy, part: Batch, loss_cfg: LossConfig, is_scored: bool, reference: Policy | None
) -> tuple[Batch, dict[str, float]]:
    """Add the gradients of rows that are computed together; returns them scored, and the sums."""
    firsts, places = equal_rows(part)
    different = part.select(firsts)
    logprobs, entropy = policy.logprobs(different, entropy_grad=bool(loss_cfg.entropy_coef))
    with torch.no_grad():
        reference_logprobs = reference.logprobs(different)[0] if reference else None
    corrected = part
    if not is_scored:
        part = replace(part, old_logprobs=logprobs.detach()[places])
        corrected = correct_gaps(part, loss_cfg)
    merged = merge_equal_rows(corrected)
    loss, sums = grpo_loss(logprobs, entropy, merged, loss_cfg, reference_logprobs)
    loss.backward()
    return part, sums
