"""The loop: draw trees, credit their turns, update the policy.

Every random number follows from the run's seed, the step and the process (`distributed.py`), so a
run that was stopped and resumed is, on the CPU, bit for bit the run that was not. Likelihoods are
those under the plain prompt x, before (`old_logprobs`) and after the update (paper, section 3.1),
whatever prompt a response was drawn under.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from ..agents.engines.base import Engine
from ..agents.policy import Policy
from ..configs.schema import Config, OptimConfig
from ..environments.splits import evaluation_seeds, training_seeds
from ..sampling import choose_sampler
from ..sampling.dialogue import Dialogue
from ..sampling.trajectory import Task, TrajectoryTree
from .advantages import has_signal
from .checkpoint import latest_checkpoint, read_state, save_checkpoint
from .distributed import (
    agreed,
    all_gather,
    barrier,
    broadcast,
    is_rank_zero,
    own_rng,
    parallel_map,
)
from .env_errors import first_error, played_trees
from .exploration import next_entropy_coef
from .loggers import check_loggers, open_loggers
from .metrics import rollout_metrics, variety_metrics
from .monitor import (
    RESCUE,
    Symptom,
    advise,
    diagnose,
    find_drift,
    is_collapsing,
    remember,
    rescued_config,
)
from .progress import Progress
from .run_log import RunLog
from .score import with_plain_logprobs
from .setup import (
    build_dialogue,
    build_engine,
    build_policy,
    build_reference,
    resolve_auto,
    sampling_params,
)
from .stopwatch import Stopwatch, time_metrics
from .update import build_optimizer, learn

Measure = Callable[[Engine, Dialogue, list[int]], dict[str, float]]
"""Measures the policy on some puzzles, called in every process; what it returns is logged under
`eval/`."""
PADDED = "Rows are padded, not packed, so updates are slower than they could be: {reason}."
"""What is told of a model that cannot read packed rows."""
NUM_SAMPLES = 2
"""Trees of a step that are written down, where any are."""
Watcher = Callable[[Progress, dict[str, float]], bool]
"""Told of every step and its metrics, in every process; returns True to have the run stopped and
saved."""
Tell = Callable[[str], None]
"""Told in words what the monitor found."""


def train(
    cfg: Config,
    folder: Path,
    measure: Measure,
    watch: Watcher = lambda *_: False,
    tell: Tell = lambda _: None,
) -> Policy:
    """Train the policy of a run, from its newest checkpoint if it has one.

    Args:
        cfg: the resolved configuration.
        folder: the run folder; metrics, sample trees and checkpoints go there.
        measure: how success on the validation puzzles is measured.
        watch: progress display; may stop the run.
        tell: shows warnings, and that a rescue began; `events.jsonl` keeps them.

    Returns:
        The trained policy.

    Raises:
        SettingError: in one line, for settings that do not fit the environment or the model.
    """
    cfg = resolve_auto(cfg)
    check_loggers(cfg.log)
    rescued = rescued_config(cfg) if cfg.monitor.rescue == "auto" else cfg
    checkpoint = latest_checkpoint(folder)
    policy = build_policy(cfg, str(checkpoint / "model") if checkpoint else "")
    reference = build_reference(cfg, policy) if cfg.loss.kl_coef else None
    dialogue = build_dialogue(cfg, policy)
    engine = agreed(lambda: build_engine(cfg, policy))
    optimizer = build_optimizer(policy, cfg.optim, checkpoint)
    clock = _start_clock(policy, engine, dialogue)
    progress = Progress(**read_state(checkpoint)) if checkpoint else Progress()
    with _open_log(cfg, folder, progress.step, tell) if is_rank_zero() else nullcontext() as log:
        if log and policy.padding_reason and not checkpoint:
            why = PADDED.format(reason=policy.padding_reason)
            _tell_news(log, 0, [Symptom("padded_rows", why)], tell)
        while progress.share_done(cfg.optim) < 1:
            step = progress.step
            metrics: dict[str, float] = {}
            engine.load_weights(policy)  # the engine now is pi_old
            if step % cfg.eval.every == 0:
                with clock.phase("evaluate"):
                    seeds = evaluation_seeds(dialogue.make(), "validation", cfg.eval.episodes)
                    metrics |= measure(engine, dialogue, seeds)
                progress.success_rate = metrics.get("eval/success_rate", float("nan"))
            measured = time.perf_counter()
            now = rescued if progress.is_rescued else cfg
            tokens_before = engine.usage.response_tokens
            trees, taught = rollout(now, step, engine, dialogue)
            num_tokens = sum(all_gather(engine.usage.response_tokens - tokens_before))
            engine.sleep()
            rolled_out = time.perf_counter()
            ahead = replace(progress)
            ahead.add_step(trees, num_tokens, rolled_out - measured)
            samples = trees[:NUM_SAMPLES]
            if broadcast(_is_saved(ahead, cfg.optim)):
                samples = _scored(samples, policy, cfg.optim)  # by the policy that drew them
            metrics |= rollout_metrics(trees, now.loss)
            if now.sampling.name == "parallel":
                metrics |= variety_metrics(trees)
            coef = progress.entropy_coef
            coef = cfg.loss.entropy_coef if coef is None else coef
            done = progress.share_done(cfg.optim)
            metrics |= learn(policy, optimizer, taught, now, step, reference, coef, clock, done)
            if "train/old_entropy" in metrics:
                entropy, target = metrics["train/old_entropy"], cfg.loss.entropy_target
                progress.entropy_coef = next_entropy_coef(coef, entropy, target)
            learned = time.perf_counter()
            progress.add_step(trees, num_tokens, learned - measured)
            metrics |= progress.counts() | {
                "time/rollout_s": rolled_out - measured,
                "time/learn_s": learned - rolled_out,
            }
            metrics |= time_metrics(clock.lap())
            found = _look_after(progress, metrics, now, trees)
            vars(progress).update(broadcast(vars(progress)))  # other processes' clocks differ
            if log:
                log.write(step, metrics)
                _tell_news(log, step, found, tell)
            wants_stop = any(all_gather(watch(progress, metrics)))
            if log and (wants_stop or _is_saved(progress, cfg.optim)):
                log.write_trees(step, samples)
                save_checkpoint(
                    folder,
                    save_model=policy.save,
                    optimizer=optimizer,
                    state=vars(progress),
                    keep=cfg.optim.keep_checkpoints,
                )
            if wants_stop:
                break
    barrier()  # what the first process has saved is there for all
    return policy


def _open_log(cfg: Config, folder: Path, step: int, tell: Tell) -> RunLog:
    """Open the log of a run that begins, or goes on, with a step."""
    return RunLog(folder, resume_step=step, loggers=open_loggers(cfg, folder, tell))


def _start_clock(policy: Policy, engine: Engine, dialogue: Dialogue) -> Stopwatch:
    """A stopwatch that knows when responses are drawn, and when they are played."""
    clock = Stopwatch(policy.model.device)
    clock.watch(engine, "generate", ("generate", "submit", "step"))
    clock.watch(dialogue, "environment", ("open", "play", "read"))
    return clock


def _tell_news(log: RunLog, step: int, news: Sequence[Symptom], tell: Tell) -> None:
    """Write down what is new, and say it."""
    for symptom in news:
        log.write_event(step, symptom.kind, symptom.text)
        tell(symptom.text)


def _scored(
    trees: Sequence[TrajectoryTree], policy: Policy, optim: OptimConfig
) -> list[TrajectoryTree]:
    """Trees with the log-probabilities of all that was said in them."""
    return [with_plain_logprobs(policy, tree, optim.max_batch_tokens) for tree in trees]


def _is_saved(progress: Progress, optim: OptimConfig) -> bool:
    """Whether checkpoint and sample trees are due after the last step."""
    return progress.step % optim.checkpoint_every == 0 or progress.share_done(optim) >= 1


def _look_after(
    progress: Progress,
    metrics: dict[str, float],
    cfg: Config,
    trees: Sequence[TrajectoryTree],
) -> list[Symptom]:
    """Hold a step against the run's first ones, and begin a rescue if one is due.

    Returns:
        What is new: symptoms, with advice, the environment's first failure, and the rescue.
    """
    if progress.sampler != cfg.sampling.name:
        progress.sampler, progress.history, progress.symptoms = cfg.sampling.name, [], []
    progress.history = remember(progress.history, metrics, cfg.monitor.window)
    found = diagnose(progress.history, cfg.monitor.window, progress.symptoms)
    found += find_drift(progress.history, cfg.monitor.window)
    news = [
        replace(symptom, text=f"{symptom.text} {advise(symptom, cfg)}".rstrip())
        for symptom in found
        if symptom.kind not in progress.symptoms
    ]
    progress.symptoms = [symptom.kind for symptom in found]
    error = None if progress.has_env_errors else first_error(trees)
    if error:
        progress.has_env_errors = True
        news.append(error)
    if cfg.monitor.rescue == "auto" and is_collapsing(found):
        progress.is_rescued = True
        news.append(RESCUE)
    return news


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
        All trees that were drawn, and those to learn from: all that were played, or with
        `sampling.max_redraws` at most the first `sampling.num_tasks` that have signal.

    Raises:
        SettingError: if the environment could not open a single puzzle.
    """
    sampling, params = cfg.sampling, sampling_params(cfg.engine)
    # The puzzles of all rounds are set aside, drawn or not: a step's must not depend on how many
    # rounds the steps before it took, which a resumed run does not know.
    seeds = training_seeds(cfg.seed, step, sampling.num_tasks * (1 + sampling.max_redraws))
    rng = own_rng(cfg.seed, step)
    draw = choose_sampler(sampling.name, engine)
    trees: list[TrajectoryTree] = []
    with_signal: list[TrajectoryTree] = []
    for start in range(0, len(seeds), sampling.num_tasks):
        tasks = [Task(cfg.env.id, seed) for seed in seeds[start : start + sampling.num_tasks]]
        trees += parallel_map(
            lambda part: draw(part, engine, dialogue, sampling, params, rng),
            tasks,
            TrajectoryTree.to_json,
            TrajectoryTree.from_json,
        )
        with_signal = [tree for tree in trees if len(tree) and has_signal(tree, cfg.loss)]
        if len(with_signal) >= sampling.num_tasks:
            break
    played = played_trees(trees)
    return trees, with_signal[: sampling.num_tasks] if sampling.max_redraws else played
