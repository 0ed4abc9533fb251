"""The loop: sample trees, credit their turns, update the policy.

Every random number follows from the run's seed, the step and the rank (`distributed.py`), so a run
that was stopped and resumed is, on the CPU, bit for bit the run that was not; with `optim.lag=1` it
draws the rollout that was in flight again (`ahead.py`). Log-probabilities are those under the plain
prompt x, before (`old_logprobs`) and after the update (paper, section 3.1), whatever prompt a
response was sampled under.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..agents.engines.base import Engine
from ..agents.policy import Policy
from ..configs.errors import SettingError, check
from ..configs.schema import Config, LossConfig, OptimConfig
from ..environments.ood_sets import refuse_ood_set
from ..sampling.dialogue import Dialogue
from ..sampling.player import Player
from ..sampling.trajectory import Task, TrajectoryTree
from .agreement import check_replicas, shared_checkpoint
from .ahead import Ahead, Drawn
from .checkpoint import latest_checkpoint, save_checkpoint
from .checkpoint_files import read_replay, read_state
from .distributed import agreed, all_gather, barrier, broadcast, is_rank_zero
from .exploration import TURN_ENTROPY, next_entropy_coef
from .loggers import check_loggers, open_loggers
from .metrics import mean_lag, rollout_metrics, variety_metrics
from .monitor import (
    NO_START,
    RESCUE,
    Symptom,
    advise,
    diagnose,
    find_drift,
    find_no_start,
    is_collapsing,
    latest_readable_rates,
    remember,
    rescued_config,
)
from .progress import Progress
from .readability import find_unreadable
from .replay import ReplayBuffer
from .rollout import Rollout, draw_round, find_cut_prompts, first_error, rollout, step_player
from .run_log import RunLog
from .score import with_plain_logprobs
from .setup import Agent, build_agent, build_chat, build_reference, settle_prompts
from .stopwatch import Stopwatch, time_metrics
from .tree_summary import TreeSummary
from .update import Learner, build_optimizer, learning_rate

Measure = Callable[[Engine, Dialogue, list[int]], dict[str, float]]
"""Measures the policy on some puzzles, called on every rank; what it returns is logged under
`eval/`."""
Watcher = Callable[[Progress, dict[str, float]], bool]
"""Called after every step with its metrics, on every rank; returns True to stop and save the
run."""
Tell = Callable[[str], None]
"""Shows what the monitor found, in words."""
PADDED = "Rows are padded and share no prefix, so updates are slower than they could be: {reason}."
"""What is said of a model that cannot share prefixes."""
RISE = (
    "The learning rate rises from {before:.2g} to {rate:.2g} at step {step}: with "
    "optim.steps={steps} the run cools down later than before. Set optim.lr for a smaller one."
)
"""What is said of a run that had cooled down and is resumed with more steps."""
NUM_SAMPLES = 2
"""Trees of a step that are saved, if any are, of those that rank zero has sampled."""


@dataclass(frozen=True)
class Session:
    """A run that is ready to train, from its beginning or from its newest checkpoint."""

    cfg: Config
    """The settings, each "auto" resolved."""
    rescued: Config
    """What the run continues with once the monitor has rescued it."""
    folder: Path
    """The run folder; metrics, sample trees and checkpoints go there."""
    agent: Agent
    learner: Learner
    progress: Progress
    """Changes with every step."""
    ahead: Ahead = field(default_factory=Ahead)
    """The rollout of the next step, with `optim.lag=1`."""


def open_session(cfg: Config, folder: Path) -> Session:
    """Load what a run needs. Whatever does not fit fails here, before anything is written.

    Args:
        cfg: the settings, each "auto" resolved.
        folder: the run folder, which need not exist.

    Raises:
        SettingError: in one line, for settings that do not fit the environment or the model, if no
            checkpoint of the run is whole, or if it is not visible to every process.
    """
    check_loggers(cfg.log)
    refuse_ood_set(cfg)
    rescued = rescued_config(cfg) if cfg.monitor.rescue == "auto" else cfg
    checkpoint = _find_checkpoint(folder)
    agent = build_agent(cfg, str(checkpoint / "model") if checkpoint else "")
    policy = agent.policy
    cfg = settle_prompts(cfg, build_chat(cfg, policy))
    rescued = replace(rescued, model=cfg.model)
    learner = Learner(
        policy,
        build_optimizer(policy, cfg.optim, checkpoint),
        build_reference(cfg, policy, is_initial=not checkpoint) if cfg.loss.kl_coef else None,
        Stopwatch(policy.model.device),
        ReplayBuffer.from_json(read_replay(checkpoint)) if checkpoint else None,
    )
    progress = Progress(**read_state(checkpoint)) if checkpoint else Progress()
    return Session(cfg, rescued, folder, agent, learner, progress)


def _find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from. Rank zero reads it once, and puts damaged ones aside."""
    found = agreed(lambda: latest_checkpoint(folder, repair=True) if is_rank_zero() else None)
    return shared_checkpoint(folder, found)


def train(
    session: Session,
    measure: Measure,
    watch: Watcher = lambda *_: False,
    tell: Tell = lambda _: None,
) -> Policy:
    """Train the policy of a run.

    Args:
        session: the run.
        measure: how success on the validation puzzles is measured.
        watch: progress display; may stop the run.
        tell: shows warnings, and that a rescue began; `events.jsonl` keeps them.

    Returns:
        The trained policy.

    Raises:
        SettingError: if the environment opens no puzzle, or a step makes numbers that are not
            finite; that step is not saved. If the budget is too small for the first puzzle.
        EngineError: if the engine fails; what was saved is whole.
        RuntimeError: if the processes hold different weights; what was saved is whole.
        DiskError: if log or checkpoint could not be written; what was saved is whole.
    """
    progress, policy = session.progress, session.agent.policy
    check_replicas(policy, f"Before step {progress.step}")
    session.learner.clock.lap()  # the time before the first step is no part of it
    with _open_log(session, tell) if is_rank_zero() else nullcontext() as log:
        if log and not policy.can_share_prefix and not progress.step:
            why = PADDED.format(reason=policy.padding_reason)
            _tell_news(log, 0, [Symptom("padded_rows", why)], tell)
        if log:
            _tell_news(log, progress.step, _find_rise(session), tell)
        while progress.share_done(session.cfg.optim) < 1:
            cfg = session.rescued if progress.is_rescued else session.cfg
            step = progress.step
            sampled, metrics = train_step(session, cfg, measure)
            found = _look_after(progress, metrics, cfg, sampled.summaries)
            vars(progress).update(broadcast(vars(progress)))  # other ranks' clocks differ
            if log:
                log.write(step, metrics)
                _tell_news(log, step, found, tell)
            wants_stop = any(all_gather(watch(progress, metrics)))
            if wants_stop or _is_saved(progress, cfg.optim):
                check_replicas(policy, f"After step {step}")
                if log:
                    log.write_trees(step, sampled.trees[:NUM_SAMPLES])
                _save(session)
            if wants_stop:
                break
    session.ahead.take()  # what was drawn for a step that is not taken is thrown away
    barrier()  # what rank zero has saved is there for all
    return policy


def train_step(session: Session, cfg: Config, measure: Measure) -> tuple[Rollout, dict[str, float]]:
    """Take one step: measure if it is time, sample trees, learn from them.

    With `optim.lag=1` the engine has sampled these trees before, and starts to sample those of the
    next step.

    Args:
        session: the run; its policy and its progress change.
        cfg: the settings of this step.
        measure: how success on the validation puzzles is measured.

    Returns:
        The rollout, its trees that will be saved with log-probabilities, and the metrics of the
        step.
    """
    learner, progress = session.learner, session.progress
    before = replace(progress)
    started = time.perf_counter()
    with learner.clock.phase("generate"):
        drawn = session.ahead.take() if cfg.optim.lag else None
    waited = time.perf_counter() - started
    session.agent.engine.load_weights(session.agent.policy)  # the engine now is pi_old
    metrics = _validate(session, cfg, measure) if progress.step % cfg.eval.every == 0 else {}
    started, cpu_started = time.perf_counter() - waited, time.process_time()
    sampled, num_tokens = _sample(session, cfg, drawn)
    generated = time.perf_counter()
    progress.add_rollout(sampled.within, num_tokens)
    progress.next_calls = sampled.left_out[0].num_calls if sampled.left_out else 0
    _check_budget(progress, cfg.optim)
    metrics |= rollout_metrics(sampled.summaries)
    metrics["rollout/left_out"] = float(len(sampled.left_out))
    if cfg.optim.lag:
        metrics["rollout/lag"] = mean_lag(sampled.summaries, before.step)
        if progress.share_done(cfg.optim) < 1:
            _draw_next(session, cfg)
    if cfg.sampling.name == "parallel":
        metrics |= variety_metrics(sampled.summaries)
    if _is_saved(progress, cfg.optim):  # scored by the policy before the update
        sampled = _with_scored_samples(sampled, session.agent.policy, cfg.optim)
    with _explained(session, cfg, before.step):
        metrics |= learner.update(sampled.taught, cfg, before, sampled.taught_returns)
    _remember_entropies(progress, metrics, cfg.loss)
    learned = time.perf_counter()
    progress.num_seconds += learned - started
    progress.num_cpu_seconds += time.process_time() - cpu_started
    times = {"time/rollout_s": generated - started, "time/learn_s": learned - generated}
    return sampled, metrics | progress.counts() | times | time_metrics(learner.clock.lap())


def _check_budget(progress: Progress, optim: OptimConfig) -> None:
    """Refuse a budget that is too small for the first puzzle: the run would learn nothing."""
    check(
        bool(progress.num_policy_calls) or not progress.next_calls,
        "optim.max_policy_calls",
        optim.max_policy_calls,
        f"at least {progress.next_calls}, the calls of the first puzzle",
        "Raise it, or lower sampling.max_trajectories or env.max_turns.",
    )


@contextmanager
def _explained(session: Session, cfg: Config, step: int) -> Iterator[None]:
    """Turn numbers that are no longer finite into one line: which settings, and how to resume."""
    try:
        yield
    except FloatingPointError as error:
        raise SettingError(
            f"Step {step} made {error} that are not finite, so it was not saved. Lower optim.lr "
            f"({cfg.optim.lr:g}), or check engine.temperature ({cfg.engine.temperature:g}) and "
            f"model.dtype ({cfg.model.dtype}); then resume from the last checkpoint: "
            f"--resume {session.folder} optim.lr=..."
        ) from error


def _find_rise(session: Session) -> list[Symptom]:
    """What to say if a resumed run had cooled down and goes on with a higher learning rate."""
    optim, progress = session.cfg.optim, session.progress
    share = progress.share_done(optim)
    if not optim.cooldown or progress.step < max(1, optim.warmup_steps) or share >= 1:
        return []
    before = session.learner.optimizer.param_groups[0]["lr"]
    rate = learning_rate(optim, progress.step, share)
    text = RISE.format(before=before, rate=rate, step=progress.step, steps=optim.steps)
    return [Symptom("learning_rate", text)] if rate > before else []


def _validate(session: Session, cfg: Config, measure: Measure) -> dict[str, float]:
    """Measure success on the validation puzzles, and note it in the progress."""
    agent = session.agent
    with session.learner.clock.phase("evaluate"):
        seeds = agent.dialogue.evaluation_seeds("validation", cfg.eval.episodes)
        metrics = measure(agent.engine, agent.dialogue, seeds)
    session.progress.success_rate = metrics.get("eval/success_rate", float("nan"))
    return metrics


def _sample(
    session: Session, cfg: Config, drawn: Callable[[], Drawn] | None
) -> tuple[Rollout, int]:
    """The rollout of the next step, and the tokens of its responses within the budget."""
    engine, step = session.agent.engine, session.progress.step
    num_before = engine.usage.response_tokens
    clock = session.learner.clock
    player = step_player(cfg, step, engine, session.agent.dialogue, clock.phase)
    trees = (lambda: drawn().trees) if drawn else None
    sampled = rollout(cfg, step, player, session.progress.calls_left(cfg.optim), trees)
    num_own = drawn().num_tokens if drawn else engine.usage.response_tokens - num_before
    num_tokens = sum(all_gather(num_own))
    num_tokens -= sum(tree.num_response_tokens for tree in sampled.left_out)
    engine.sleep()
    return sampled, num_tokens


def _draw_next(session: Session, cfg: Config) -> None:
    """Start to draw the trees of the next step, by the policy before this step's update."""
    engine, step = session.agent.engine, session.progress.step
    player = step_player(cfg, step, engine, session.agent.dialogue)
    session.ahead.start(partial(_draw, cfg, step, player))


def _draw(cfg: Config, step: int, player: Player) -> Drawn:
    num_before = player.engine.usage.response_tokens
    trees = draw_round(cfg, step, player)
    for tree in trees:
        tree.num_updates = step - 1
    return Drawn(trees, player.engine.usage.response_tokens - num_before)


def _open_log(session: Session, tell: Tell) -> RunLog:
    """Open the log of a run that begins, or resumes, with a step."""
    loggers = open_loggers(session.cfg, session.folder, tell)
    return RunLog(session.folder, resume_step=session.progress.step, loggers=loggers)


def _save(session: Session) -> None:
    save_checkpoint(
        session.folder,
        save_model=session.agent.policy.save_parts,
        optimizer=session.learner.optimizer if session.cfg.optim.save_optimizer else None,
        state=vars(session.progress),
        replay=session.learner.replay.to_json() if session.cfg.loss.replay_coef else None,
        keep=session.cfg.optim.keep_checkpoints,
    )


def _tell_news(log: RunLog, step: int, news: Sequence[Symptom], tell: Tell) -> None:
    """Log what is new, and show it."""
    for symptom in news:
        log.write_event(step, symptom.kind, symptom.text)
        tell(symptom.text)


def _with_scored_samples(sampled: Rollout, policy: Policy, optim: OptimConfig) -> Rollout:
    """The rollout, rank zero's first trees with the log-probability of every response."""
    samples = sampled.trees[:NUM_SAMPLES] if is_rank_zero() else []
    missing = [TrajectoryTree(Task("", 0))] * (NUM_SAMPLES - len(samples))
    scored = [  # all ranks pass through the model equally often
        with_plain_logprobs(policy, tree, optim.max_batch_tokens) for tree in samples + missing
    ]
    trees = [*scored[: len(samples)], *sampled.trees[len(samples) :]]
    return replace(sampled, trees=trees)


def _remember_entropies(progress: Progress, metrics: dict[str, float], loss: LossConfig) -> None:
    """Keep what `loss.exploration` needs to know of this step in the next ones."""
    entropy = metrics.get("train/old_entropy")
    if loss.exploration == "adaptive_entropy" and entropy is not None:
        coef = loss.entropy_coef if progress.entropy_coef is None else progress.entropy_coef
        progress.entropy_coef = next_entropy_coef(coef, entropy, loss.entropy_target)
    if loss.exploration == "siren" and progress.entropy_anchor is None:
        progress.entropy_anchor = entropy
    if loss.exploration == "epo":
        turns = range(sum(name.startswith(TURN_ENTROPY) for name in metrics))
        progress.remember_entropies([metrics[f"{TURN_ENTROPY}{turn}"] for turn in turns])


def _is_saved(progress: Progress, optim: OptimConfig) -> bool:
    """Whether a checkpoint and sample trees are due after the last step."""
    return progress.step % optim.checkpoint_every == 0 or progress.share_done(optim) >= 1


def _look_after(
    progress: Progress,
    metrics: dict[str, float],
    cfg: Config,
    trees: Sequence[TreeSummary],
) -> list[Symptom]:
    """Compare a step with the run's first ones, and begin a rescue if one is due.

    Returns:
        What is new: symptoms, with advice, the environment's first failure, the first prompts that
        were cut, and the rescue.
    """
    if progress.sampler != cfg.sampling.name:
        progress.sampler, progress.history, progress.symptoms = cfg.sampling.name, [], []
    progress.history = remember(progress.history, metrics, cfg.monitor.window)
    history, window = progress.history, cfg.monitor.window
    unreadable = find_unreadable(latest_readable_rates(history), trees, cfg)
    found = diagnose(history, window, progress.symptoms)
    if not any(symptom.kind == "too_hard" for symptom in found):
        found += find_no_start(history)
    if unreadable:  # then the rest follows from it
        found = [symptom for symptom in found if symptom.kind not in NO_START]
    found += unreadable
    if not cfg.optim.lag:  # what an update changes is no fault of the engine
        found += find_drift(history, window)
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
    cut = None if progress.has_cut_prompts else find_cut_prompts(trees, cfg)
    if cut:
        progress.has_cut_prompts = True
        news.append(cut)
    if cfg.monitor.rescue == "auto" and is_collapsing(found):
        progress.is_rescued = True
        news.append(RESCUE)
    return news
