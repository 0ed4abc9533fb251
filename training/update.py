"""The update of the policy on one rollout.

Minibatches are computed in parts that fit into memory. A rollout that is followed by a single
optimiser step needs no forward pass before it: in the step's own pass the policy still is the one
that sampled the rollout, so pi_old is what that pass computes, held constant. Every correction of a
turn needs its own log-probabilities alone, and a turn lies in one row: losses and gradients are
those of a batch that was scored beforehand, up to rounding.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..agents.finite import all_finite
from ..agents.logprobs import ENTROPY
from ..agents.policy import Policy
from ..agents.sharding import whole
from ..configs.schema import Config, LossConfig, OptimConfig
from ..sampling import SAMPLERS
from ..sampling.trajectory import TrajectoryTree
from .advantages import (
    ADVANTAGES,
    choose_groups,
    drop_if_flat,
    leaf_returns,
    punish_overlong,
)
from .batch import Batch, collate
from .checkpoint_files import has_optimizer
from .distributed import all_gather, all_reduce, gather_lists, largest, rank, world_size
from .exploration import (
    EXPLORATIONS,
    STATISTICS,
    WITH_ALL_TOKENS,
    Scores,
    bonus_entropy,
    changed_share,
    entropy_metrics,
)
from .importance import correct_gaps
from .losses import LOSSES, mean_stats
from .metrics import gap_metrics
from .micro_batches import Part, deal_rows, idle_row, merge_equal_rows, own_parts
from .optimizer import MasterAdamW, parameters_of
from .optimizer_files import load_optimizer
from .progress import Progress
from .replay import ReplayBuffer
from .row_exchange import find_own_rows, gather_rows, number_across_ranks
from .score import score
from .stopwatch import Stopwatch


def build_optimizer(
    policy: Policy, cfg: OptimConfig, checkpoint: Path | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser of a policy, with its moments from a checkpoint that holds them.

    Weight decay and `beta2` are those of `cfg`, also where the checkpoint has others. The learning
    rate is that of the checkpoint's last step until the next `update` sets its own.
    """
    optimizer = MasterAdamW(
        policy.parameters(),
        policy.rounds_weights,
        lr=cfg.lr,
        weight_decay=cfg.weight_decay,
        betas=(0.9, cfg.beta2),
        fused=True,  # one pass over memory, and no copy of all weights as `foreach` makes on a GPU
    )
    if checkpoint and has_optimizer(checkpoint):
        load_optimizer(checkpoint, optimizer)
        for group in optimizer.param_groups:
            group.update(weight_decay=cfg.weight_decay)
        optimizer.set_beta2(cfg.beta2)
    return optimizer


class Learner:
    """Updates a policy on rollouts.

    Args:
        policy: pi; at each `update` still the one that sampled the rollout.
        optimizer: of the policy's parameters, or of copies that it gives their gradients.
        reference: the initial policy, if `loss.kl_coef` is set.
        clock: times scoring, forward and backward passes, and the optimiser.
        replay: the trajectories to imitate, if `loss.replay_coef` is set.
    """

    def __init__(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        reference: Policy | None = None,
        clock: Stopwatch | None = None,
        replay: ReplayBuffer | None = None,
    ):
        self.policy, self.optimizer, self.reference = policy, optimizer, reference
        self.clock, self.replay = clock or Stopwatch(), replay or ReplayBuffer()

    def update(
        self,
        trees: list[TrajectoryTree],
        cfg: Config,
        progress: Progress,
        returns: list[np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Update the policy on one rollout.

        Args:
            trees: this rank's groups, maybe none; in rank order they are those of the rollout.
            cfg: the run's configuration.
            progress: the run before this step: its number seeds the order of the rows, and sets the
                learning rate while it warms up; the share done sets it while it cools down.
            returns: of the leaves of each tree, if they are known.

        Returns:
            Metrics of the update.

        Raises:
            FloatingPointError: on all ranks, naming what is not finite. Gradients are checked
                before they reach the weights.
        """
        optim = cfg.optim
        batch = deal_rows(self.policy, self._collate(trees, cfg, progress, returns))
        num_rows, num_tokens = np.sum(all_gather([len(batch), batch.num_tokens]), axis=0)
        if not num_rows:
            return {"train/tokens": 0.0}
        num_groups = largest(batch.num_groups)
        seed = np.random.SeedSequence([cfg.seed, progress.step]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        loss, metrics = cfg.loss, {}
        is_scored = needs_scores(loss, optim)
        if is_scored:
            with self.clock.phase("score"):
                batch, loss, metrics = self._score(batch, cfg, progress, generator)
        rate = learning_rate(optim, progress.step, progress.share_done(optim))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        stats, norms = [], []
        for _ in range(optim.num_epochs):
            minibatches = batch.minibatches(optim.num_minibatches, generator, num_groups)
            for minibatch in minibatches:
                with self.clock.phase("backward"):
                    if len(minibatches) > 1:  # one alone has been dealt
                        minibatch = deal_rows(self.policy, minibatch)
                    minibatch, sums = self.add_gradients(
                        minibatch, loss, optim.max_batch_tokens, is_scored
                    )
                stats += sums
                if not is_scored:
                    metrics |= gap_metrics(minibatch, _uses_other_prompts(cfg))
                with self.clock.phase("optimizer"):
                    norms.append(step_optimizer(self.optimizer, optim.max_grad_norm))
        self._check_finite(batch)
        stats = [sums for part in all_gather(stats) for sums in part]
        metrics |= {f"train/{name}": value for name, value in mean_stats(stats).items()}
        return metrics | {
            "train/learning_rate": rate,
            "train/grad_norm": float(np.mean(norms)),
            "train/tokens": float(num_tokens),
            "train/rows": float(num_rows),
        }

    def add_gradients(
        self, batch: Batch, loss: LossConfig, max_tokens: int, is_scored: bool
    ) -> tuple[Batch, list[dict[str, float]]]:
        """Add the gradients of a minibatch to those of the policy.

        Args:
            batch: N rows of this rank, maybe none, on the CPU.
            loss: what is minimised.
            max_tokens: tokens of a part, as of `own_parts`.
            is_scored: whether the batch has `old_logprobs` and its gaps are corrected. Otherwise
                the policy is pi_old.

        Returns:
            The batch with `old_logprobs`, and the sums that the loss returns of each part.
        """
        old_logprobs, stats = torch.zeros_like(batch.old_logprobs), []
        for part in own_parts(self.policy, batch, max_tokens):
            if part.is_idle:
                self._pass_idly(part.distinct_rows(batch), loss)
                continue
            rows, sums = self._add_part(batch, part, loss, is_scored)
            length = rows.old_logprobs.shape[1]
            old_logprobs[part.rows, :length] = rows.old_logprobs.to(old_logprobs.dtype)
            stats.append(sums)
        if not is_scored:
            batch = replace(batch, old_logprobs=old_logprobs)
        return batch, stats

    def _collate(
        self,
        trees: list[TrajectoryTree],
        cfg: Config,
        progress: Progress,
        returns: list[np.ndarray] | None,
    ) -> Batch:
        """What this rank's groups that pass the filter are to be taught, and what is replayed."""
        loss = cfg.loss
        if loss.overlong_buffer:
            longest, returns = cfg.engine.max_new_tokens, None
            trees = [punish_overlong(tree, loss.overlong_buffer, longest) for tree in trees]
        if returns is None:
            returns = [leaf_returns(tree, loss.format_penalty) for tree in trees]
        everyones = all_gather([group.tolist() for group in returns])
        first = sum(map(len, everyones[: rank()]))
        groups = [np.array(group) for part in everyones for group in part]
        chosen = [place - first for place in choose_groups(groups, loss)]
        chosen = [place for place in chosen if 0 <= place < len(trees)]
        kept = [trees[place] for place in chosen]
        rule = ADVANTAGES[loss.credit]
        credits = [rule(trees[place], returns[place], loss) for place in chosen]
        if loss.drop_flat_groups:
            credits = [drop_if_flat(credit) for credit in credits]
        total = sum(gather_lists([credit.denominator for credit in credits], float, float))
        if loss.replay_coef:
            replayed = self.replay.credits(loss, progress.share_done(cfg.optim), total)
            if rank() == world_size() - 1:  # there they follow the groups of all ranks
                kept, credits = kept + replayed[0], credits + replayed[1]
            self.replay.add(trees, returns, loss, progress.step)
        needs_all = loss.exploration in WITH_ALL_TOKENS
        keep_zero_advantage = bool(loss.entropy_coef or loss.kl_coef or needs_all)
        pad_id = self.policy.tokenizer.pad_token_id or 0
        own = collate(kept, credits, pad_id, keep_zero_advantage, denominator=total)
        return number_across_ranks(own)

    def _score(
        self, batch: Batch, cfg: Config, progress: Progress, generator: torch.Generator
    ) -> tuple[Batch, LossConfig, dict[str, float]]:
        """Compute pi_old and what the batch teaches in its light; returns the loss to take, too."""
        loss, max_tokens = cfg.loss, cfg.optim.max_batch_tokens
        wanted = (*ENTROPY, *STATISTICS.get(loss.exploration, ()))
        old_logprobs, entropy, *others = score(self.policy, batch, max_tokens, wanted)
        batch = replace(batch, old_logprobs=old_logprobs)
        metrics = gap_metrics(batch, _uses_other_prompts(cfg))
        if loss.exploration == "none":
            return correct_gaps(batch, loss), loss, metrics
        # Methods compare tokens with all others, so every rank gathers the rows of all.
        whole = gather_rows(batch)
        entropy, *others = (
            gather_rows(replace(batch, old_logprobs=values)).old_logprobs
            for values in (entropy, *others)
        )
        scores = Scores(
            entropy,
            self.policy.tokenizer,
            generator,
            tuple(others),
            progress.turn_entropies,
            progress.share_done(cfg.optim),
            progress.entropy_anchor,
        )
        explored = EXPLORATIONS[loss.exploration](whole, scores, loss)
        if explored is not whole:
            metrics["train/changed_tokens"] = changed_share(whole, explored)
        metrics |= entropy_metrics(whole, scores, loss, progress.entropy_coef)
        loss = replace(loss, entropy_coef=metrics.get("train/entropy_coef", loss.entropy_coef))
        if world_size() > 1:
            explored = explored.select(find_own_rows(whole, batch))
        return correct_gaps(explored, loss), loss, metrics

    def _add_part(
        self, batch: Batch, part: Part, loss_cfg: LossConfig, is_scored: bool
    ) -> tuple[Batch, dict[str, float]]:
        """Add the gradients of one part; returns its rows scored, and the sums."""
        rows, distinct = batch.select(part.rows), batch.select(part.distinct)
        has_bonus = bool(loss_cfg.entropy_coef)
        logprobs, entropy = self.policy.logprobs(distinct, has_bonus, bonus_entropy(loss_cfg))
        with torch.no_grad():
            reference = self.reference.logprobs(distinct)[0] if self.reference else None
        corrected = rows
        if not is_scored:
            rows = replace(rows, old_logprobs=logprobs.detach()[part.kinds])
            corrected = correct_gaps(rows, loss_cfg)
        merged = merge_equal_rows(corrected, part.kinds)
        loss, sums = LOSSES[loss_cfg.name](logprobs, entropy, merged, loss_cfg, reference)
        loss.backward()
        return rows, sums

    def _pass_idly(self, rows: Batch, loss_cfg: LossConfig) -> None:
        """Pass through the models in the order of `_add_part`, with gradients of zero."""
        has_bonus = bool(loss_cfg.entropy_coef)
        logprobs, entropy = self.policy.logprobs(rows, has_bonus, bonus_entropy(loss_cfg))
        with torch.no_grad():
            if self.reference:
                self.reference.logprobs(rows)
        ((logprobs.sum() + entropy.sum()) * 0).backward()

    def _check_finite(self, batch: Batch) -> None:
        """Check what is about to be saved, and that the policy still computes with it."""
        _refuse("weights", all_finite(self.policy.parameters()))
        states = self.optimizer.state.values()
        moments = [v for state in states for v in state.values() if isinstance(v, Tensor)]
        _refuse("moments of the optimizer", all_finite(moments))
        with torch.no_grad():  # weights of 1e10 are finite, but their products are not
            logprobs, _ = self.policy.logprobs(batch.select([0]) if len(batch) else idle_row())
        _refuse("log-probabilities", all_finite([logprobs]))


def step_optimizer(optimizer: torch.optim.Optimizer, max_norm: float) -> float:
    """Step along the gradients of all ranks, with their norm bounded.

    Returns:
        Their norm before it was bounded.

    Raises:
        FloatingPointError: on all ranks, if they are not finite; the weights stay as they are.
    """
    norm = whole(torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), max_norm))
    _refuse("gradients", all_finite([norm]))
    optimizer.step()
    optimizer.zero_grad()
    return float(norm)


def _refuse(name: str, is_finite: bool) -> None:
    """Raise on all ranks if what has this name is not finite on one of them."""
    if all_reduce(torch.tensor(float(not is_finite))):
        raise FloatingPointError(name)


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


def needs_scores(loss: LossConfig, optim: OptimConfig) -> bool:
    """Whether pi_old must be known before the first forward pass of an update.

    It must where the policy changes before the last pass, and where tokens are compared with all
    others of the batch (`training/exploration.py`).
    """
    return optim.num_epochs * optim.num_minibatches > 1 or loss.exploration != "none"


def _uses_other_prompts(cfg: Config) -> bool:
    return SAMPLERS[cfg.sampling.name].uses_other_prompts(cfg.sampling)
