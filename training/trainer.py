"""The loop: draw trees, credit their turns, update the policy.

Every random number follows from the run's seed and the step, so a run that was stopped and resumed
is, on the CPU, bit for bit the run that was not. Likelihoods are those under the plain prompt x,
before (`old_logprobs`) and after the update (paper, section 3.1), whatever prompt a response was
drawn under.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..agents.engine import Engine
from ..agents.policy import Policy
from ..configs.schema import Config, LossConfig, OptimConfig
from ..sampling import SAMPLERS, has_other_prompts
from ..sampling.dialogue import Dialogue
from ..sampling.seeds import evaluation_seeds, training_seeds
from ..sampling.trajectory import Task, TrajectoryTree
from .advantages import ADVANTAGES, filter_groups, has_signal, punish_overlong
from .batch import Batch, collate, correct_history_gap
from .checkpoint import latest_checkpoint, load_optimizer, read_state, save_checkpoint
from .losses import grpo_loss, mean_stats
from .metrics import gap_metrics, rollout_metrics
from .run_log import RunLog
from .setup import build_dialogue, build_engine, build_policy, resolve_auto, sampling_params

Measure = Callable[[Engine, Dialogue, list[int]], dict[str, float]]
"""Measures the policy on some puzzles; what it returns is logged under `eval/`."""


@dataclass
class Progress:
    """Where a run stands; `Watcher` sees it after every step."""

    step: int = 0
    """Steps that are finished."""
    num_policy_calls: int = 0
    """Responses generated in training rollouts so far."""
    num_response_tokens: int = 0
    """Tokens of the responses that stand in trees."""
    success_rate: float = float("nan")
    """The last measured success on the validation puzzles."""


Watcher = Callable[[Progress, dict[str, float]], bool]
"""Told of every step and its metrics; returns True to have the run stopped and saved."""


def train(cfg: Config, folder: Path, measure: Measure, watch: Watcher = lambda *_: False) -> Policy:
    """Train the policy of a run, from its newest checkpoint if it has one.

    Args:
        cfg: the resolved configuration.
        folder: the run folder; metrics, sample trees and checkpoints go there.
        measure: how success on the validation puzzles is measured.
        watch: progress display; may stop the run.

    Returns:
        The trained policy.

    Raises:
        SettingError: in one line, for settings that do not fit the environment or the model.
    """
    cfg = resolve_auto(cfg)
    checkpoint = latest_checkpoint(folder)
    policy = build_policy(cfg, str(checkpoint / "model") if checkpoint else "")
    reference = build_policy(cfg) if cfg.loss.kl_coef else None
    dialogue, engine = build_dialogue(cfg, policy), build_engine(cfg, policy)
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=cfg.optim.lr, weight_decay=cfg.optim.weight_decay, betas=(0.9, 0.95)
    )
    progress = Progress()
    if checkpoint:
        load_optimizer(checkpoint, optimizer)
        for group in optimizer.param_groups:  # the settings have the last word, not the checkpoint
            group.update(lr=cfg.optim.lr, weight_decay=cfg.optim.weight_decay)
        progress = Progress(**read_state(checkpoint))
    with RunLog(folder, resume_step=progress.step) as log:
        while not _is_finished(progress, cfg.optim):
            step, started = progress.step, time.perf_counter()
            metrics: dict[str, float] = {}
            engine.load_weights(policy)  # the engine now is pi_old
            if step % cfg.eval.every == 0:
                seeds = evaluation_seeds(dialogue.make(), "validation", cfg.eval.episodes)
                metrics |= measure(engine, dialogue, seeds)
                progress.success_rate = metrics.get("eval/success_rate", float("nan"))
            measured = time.perf_counter()
            trees, taught = rollout(cfg, step, engine, dialogue)
            rolled_out = time.perf_counter()
            metrics |= rollout_metrics(trees, cfg.loss)
            metrics |= learn(policy, optimizer, taught, cfg, step, reference)
            learned = time.perf_counter()
            progress.step += 1
            progress.num_policy_calls += sum(tree.num_calls for tree in trees)
            progress.num_response_tokens += sum(
                len(turn.response_ids) for tree in trees for turn in tree.turns
            )
            metrics |= {
                "progress/policy_calls": progress.num_policy_calls,
                "progress/response_tokens": progress.num_response_tokens,
                "time/evaluate_s": measured - started,
                "time/rollout_s": rolled_out - measured,
                "time/learn_s": learned - rolled_out,
            }
            log.write(step, metrics)
            wants_stop = watch(progress, metrics)
            is_last = _is_finished(progress, cfg.optim)
            if wants_stop or is_last or progress.step % cfg.optim.checkpoint_every == 0:
                log.write_trees(step, trees[:2])
                save_checkpoint(
                    folder,
                    save_model=policy.save,
                    optimizer=optimizer,
                    state=vars(progress),
                    keep=cfg.optim.keep_checkpoints,
                )
            if wants_stop:
                break
    return policy


def learn(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    trees: list[TrajectoryTree],
    cfg: Config,
    step: int,
    reference: Policy | None = None,
) -> dict[str, float]:
    """Update the policy on one rollout.

    Args:
        policy: still the one that drew the rollout.
        optimizer: of the policy's parameters.
        trees: one group each; there may be none.
        cfg: the run's configuration.
        step: seeds the order of the rows, and sets the learning rate while it warms up.
        reference: the initial policy, if `loss.kl_coef` is set.

    Returns:
        Metrics of the update.
    """
    loss, optim = cfg.loss, cfg.optim
    longest = cfg.engine.max_new_tokens
    trees = [punish_overlong(tree, loss.overlong_buffer, longest) for tree in trees]
    kept = [trees[i] for i in filter_groups(trees, loss.filter_ratio, loss.format_penalty)]
    credits = [ADVANTAGES[loss.credit](tree, loss) for tree in kept]
    pad_id = policy.tokenizer.pad_token_id or 0
    batch = collate(kept, credits, pad_id, keep_untaught=bool(loss.entropy_coef or loss.kl_coef))
    if not len(batch):
        return {"train/tokens": 0.0}
    batch = replace(batch, old_logprobs=score(policy, batch, optim.max_batch_tokens))
    metrics = gap_metrics(batch, has_other_prompts(cfg.sampling))
    batch = correct_history_gap(batch, loss.history_gap)
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence([cfg.seed, step]).generate_state(1)[0])
    )
    warm_up = min(1.0, (step + 1) / max(1, optim.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = optim.lr * warm_up
    stats, norms = [], []
    for _ in range(optim.num_epochs):
        for minibatch in batch.minibatches(optim.num_minibatches, generator):
            optimizer.zero_grad()
            for part in minibatch.micro_batches(optim.max_batch_tokens):
                stats.append(_backward(policy, part, loss, reference))
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), optim.max_grad_norm)
            norms.append(float(norm))
            optimizer.step()
    optimizer.zero_grad()
    metrics |= {f"train/{name}": value for name, value in mean_stats(stats).items()}
    return metrics | {
        "train/grad_norm": float(np.mean(norms)),
        "train/tokens": float(batch.num_tokens),
        "train/rows": float(len(batch)),
    }


@torch.no_grad()
def score(policy: Policy, batch: Batch, max_tokens: int) -> Tensor:
    """Log-probabilities of the batch's tokens under the plain prompt, (N, T), 0 if not trained."""
    scores = torch.zeros_like(batch.old_logprobs)
    for rows in batch.micro_batch_rows(max_tokens):
        part = batch.select(rows)
        logprobs, _ = policy.logprobs(part)
        logprobs = torch.where(part.loss_mask, logprobs, 0.0).to(scores.dtype)
        scores[torch.tensor(rows), : logprobs.shape[1]] = logprobs
    return scores


def _backward(
    policy: Policy, part: Batch, loss_cfg: LossConfig, reference: Policy | None
) -> dict[str, float]:
    """Add the gradients of one micro-batch."""
    logprobs, entropy = policy.logprobs(part, entropy_grad=bool(loss_cfg.entropy_coef))
    with torch.no_grad():
        reference_logprobs = reference.logprobs(part)[0] if reference else None
    loss, stats = grpo_loss(logprobs, entropy, part, loss_cfg, reference_logprobs)
    loss.backward()
    return stats


def rollout(
    cfg: Config, step: int, engine: Engine, dialogue: Dialogue
) -> tuple[list[TrajectoryTree], list[TrajectoryTree]]:
    """Draw the trees of one step.

    Args:
        cfg: the run's configuration.
        step: seeds the puzzles and all random numbers.
        engine: holds the policy that is to be trained.
        dialogue: how the policy plays.

    Returns:
        All trees that were drawn, and those to learn from: all, or with `sampling.max_redraws` the
        first `sampling.num_tasks` that have signal, which may be fewer or none.
    """
    sampling, params = cfg.sampling, sampling_params(cfg.engine)
    # The puzzles of all rounds are set aside, drawn or not: a step's must not depend on how many
    # rounds the steps before it took, which a resumed run does not know.
    seeds = training_seeds(cfg.seed, step, sampling.num_tasks * (1 + sampling.max_redraws))
    rng = np.random.default_rng([cfg.seed, step])
    trees: list[TrajectoryTree] = []
    with_signal: list[TrajectoryTree] = []
    for start in range(0, len(seeds), sampling.num_tasks):
        tasks = [Task(cfg.env.id, seed) for seed in seeds[start : start + sampling.num_tasks]]
        trees += SAMPLERS[sampling.name](tasks, engine, dialogue, sampling, params, rng)
        with_signal = [tree for tree in trees if has_signal(tree, cfg.loss)]
        if len(with_signal) >= sampling.num_tasks:
            break
    return trees, with_signal[: sampling.num_tasks] if sampling.max_redraws else trees


def _is_finished(progress: Progress, optim: OptimConfig) -> bool:
    is_spent = 0 < optim.max_policy_calls <= progress.num_policy_calls
    return progress.step >= optim.steps or is_spent
