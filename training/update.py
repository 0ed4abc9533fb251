"""The update of the policy on one rollout.

Minibatches are computed in parts that fit into memory, equal rows once. A rollout that is followed
by one optimiser step needs no forward pass before it: in the step's own pass the policy still is
the one that drew the rollout, so pi_old is what that pass finds, held constant. Every correction of
a turn needs its own likelihoods alone, and a turn lies in one row: losses and gradients are those
of a batch that was scored beforehand, up to rounding.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..agents.policy import Policy
from ..configs.schema import Config, LossConfig, OptimConfig
from ..sampling import has_other_prompts
from ..sampling.trajectory import TrajectoryTree
from .advantages import ADVANTAGES, filter_groups, punish_overlong
from .batch import (
    Batch,
    collate,
    correct_engine_gap,
    correct_history_gap,
    equal_rows,
    merge_equal_rows,
)
from .checkpoint import load_optimizer
from .distributed import all_gather, all_reduce, all_reduce_gradients, own_rows
from .exploration import active_entropy_coef, changed_share, explore
from .losses import grpo_loss, mean_stats
from .metrics import gap_metrics
from .optimizer import MasterAdamW
from .score import score
from .stopwatch import Stopwatch


def build_optimizer(
    policy: Policy, cfg: OptimConfig, checkpoint: Path | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser of a policy, with its moments from a checkpoint.

    Learning rate and weight decay are those of `cfg`, also where the checkpoint has others.
    """
    optimizer = MasterAdamW(
        policy.parameters(),
        lr=cfg.lr,
        weight_decay=cfg.weight_decay,
        betas=(0.9, 0.95),
        fused=True,  # one pass over memory, and no copy of all weights as `foreach` makes on a GPU
    )
    if checkpoint:
        load_optimizer(checkpoint, optimizer)
        for group in optimizer.param_groups:
            group.update(lr=cfg.lr, weight_decay=cfg.weight_decay)
    return optimizer


def learn(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    trees: list[TrajectoryTree],
    cfg: Config,
    step: int,
    reference: Policy | None = None,
    entropy_coef: float = 0.0,
    clock: Stopwatch | None = None,
    share_done: float = 0.0,
) -> dict[str, float]:
    """Update the policy on one rollout.

    Args:
        policy: still the one that drew the rollout.
        optimizer: of the policy's parameters, or of copies that it gives their gradients.
        trees: one group each; there may be none.
        cfg: the run's configuration.
        step: seeds the order of the rows, and sets the learning rate while it warms up.
        reference: the initial policy, if `loss.kl_coef` is set.
        entropy_coef: where the coefficient of `loss.exploration=adaptive_entropy` stands.
        clock: times scoring, forward and backward passes, and the optimiser.
        share_done: of the run before this step; sets the learning rate while it cools down.

    Returns:
        Metrics of the update.
    """
    clock = clock or Stopwatch()
    loss, optim = cfg.loss, cfg.optim
    longest = cfg.engine.max_new_tokens
    trees = [punish_overlong(tree, loss.overlong_buffer, longest) for tree in trees]
    kept = [trees[i] for i in filter_groups(trees, loss.filter_ratio, loss.format_penalty)]
    credits = [ADVANTAGES[loss.credit](tree, loss) for tree in kept]
    pad_id = policy.tokenizer.pad_token_id or 0
    is_adaptive = loss.exploration == "adaptive_entropy"
    keep_zero_advantage = bool(loss.entropy_coef or loss.kl_coef or is_adaptive)
    batch = collate(kept, credits, pad_id, keep_zero_advantage)
    if not len(batch):
        return {"train/tokens": 0.0}
    metrics: dict[str, float] = {}
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence([cfg.seed, step]).generate_state(1)[0])
    )
    is_scored = needs_scores(loss, optim)
    if is_scored:
        with clock.phase("score"):
            batch, loss, metrics = _score_first(policy, batch, cfg, entropy_coef, generator)
    rate = learning_rate(optim, step, share_done)
    for group in optimizer.param_groups:
        group["lr"] = rate
    stats, norms = [], []
    for _ in range(optim.num_epochs):
        for minibatch in batch.minibatches(optim.num_minibatches, generator):
            optimizer.zero_grad()
            with clock.phase("backward"):
                minibatch, sums = add_gradients(
                    policy, minibatch, loss, optim.max_batch_tokens, is_scored, reference
                )
            stats += sums
            if not is_scored:
                metrics |= gap_metrics(minibatch, has_other_prompts(cfg.sampling))
            with clock.phase("optimizer"):
                norms.append(_update(optimizer, optim.max_grad_norm))
    optimizer.zero_grad()
    stats = [sums for part in all_gather(stats) for sums in part]
    metrics |= {f"train/{name}": value for name, value in mean_stats(stats).items()}
    return metrics | {
        "train/learning_rate": rate,
        "train/grad_norm": float(np.mean(norms)),
        "train/tokens": float(batch.num_tokens),
        "train/rows": float(len(batch)),
    }


def learning_rate(optim: OptimConfig, step: int, share_done: float) -> float:
    """The learning rate of a step: it warms up, stays, and cools down at the end of the run.

    Args:
        optim: the rate, `warmup_steps` and `cooldown`.
        step: counts from 0.
        share_done: of the run before this step, in [0, 1).

    >>> learning_rate(OptimConfig(lr=0.1, warmup_steps=4, cooldown=0.2), step=1, share_done=0.02)
    0.05
    """
    warm_up = min(1.0, (step + 1) / max(1, optim.warmup_steps))
    left = 1 - share_done
    cool_down = left / optim.cooldown if left < optim.cooldown else 1.0
    return optim.lr * warm_up * cool_down


def _score_first(
    policy: Policy, batch: Batch, cfg: Config, entropy_coef: float, generator: torch.Generator
) -> tuple[Batch, LossConfig, dict[str, float]]:
    """Note pi_old, and what a batch teaches in its light; returns the loss to take, and metrics."""
    loss = cfg.loss
    old_logprobs, old_entropy = score(policy, batch, cfg.optim.max_batch_tokens)
    batch = replace(batch, old_logprobs=old_logprobs)
    metrics = gap_metrics(batch, has_other_prompts(cfg.sampling))
    if loss.exploration == "adaptive_entropy":
        mean_entropy = float(old_entropy[batch.loss_mask].mean())
        coef = active_entropy_coef(entropy_coef, mean_entropy, loss.entropy_target)
        loss = replace(loss, entropy_coef=coef)
        metrics |= {"train/old_entropy": mean_entropy, "train/entropy_coef": coef}
    explored = explore(batch, old_entropy, loss, policy.tokenizer, generator)
    if explored is not batch:
        metrics["train/changed_tokens"] = changed_share(batch, explored)
    return correct_gaps(explored, loss), loss, metrics


def _update(optimizer: torch.optim.Optimizer, max_norm: float) -> float:
    """Take a step along the gradients of all processes; their norm before it was bounded."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    all_reduce_gradients(weights)
    norm = torch.nn.utils.clip_grad_norm_(weights, max_norm)
    optimizer.step()
    return float(norm)


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
    batch = correct_history_gap(batch, loss.history_correction)
    return correct_engine_gap(batch, loss.engine_importance_cap)


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
    different, packed = batch.select(firsts), policy.can_share_prefix
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
        all_reduce(old_logprobs)
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
