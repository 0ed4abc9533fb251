"""`sesa-agent train`: progress while it runs, a checkpoint on Ctrl-C, a table at the end."""

import json
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sesa_agent.agents.engines.base import EngineError
from sesa_agent.agents.policy import Policy
from sesa_agent.commands.evaluate import evaluate_agent
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import code_words, config_to_dict
from sesa_agent.configs.schema import Config
from sesa_agent.configs.writing import DiskError, replace_text
from sesa_agent.configs.yaml_text import write_yaml
from sesa_agent.environments.workers.pool import close_pools
from sesa_agent.evaluation.evaluate import Evaluation
from sesa_agent.evaluation.validation import validate
from sesa_agent.runs import CONFIG_FILE
from sesa_agent.screen import (
    console,
    differs_from_success,
    progress_bar,
    result_table,
    say,
    say_success,
    warn,
)
from sesa_agent.training import trainer
from sesa_agent.training.agreement import check_shared_folder
from sesa_agent.training.distributed import (
    agreed,
    all_gather,
    is_rank_zero,
    leave_processes,
    naming_stalled,
    start_processes,
    world_size,
)
from sesa_agent.training.progress import Progress
from sesa_agent.training.prompt_choices import describe_choice
from sesa_agent.training.run_lock import locked
from sesa_agent.training.run_log import read_metrics
from sesa_agent.training.setup import Agent, build_agent
from sesa_agent.training.stopwatch import PHASES, profile

RESULT_FILE = "result.json"
"""Base against trained policy on the held-out puzzles, in the run folder."""


@dataclass(frozen=True)
class Run:
    """A training run, finished or stopped and saved."""

    folder: Path
    """The run folder; `train(resume=folder)` resumes a run that was stopped."""
    config: Config = field(repr=False)
    """Every setting, each "auto" decided."""
    policy: Policy = field(repr=False)
    """The trained policy; the newest checkpoint holds the same. Under torchrun each process has
    only its part of the weights: load the checkpoint instead."""
    results: dict[str, Evaluation] = field(repr=False)
    """"base" and "trained" on the held-out puzzles; empty if the run was stopped."""

    @property
    def was_stopped(self) -> bool:
        """Whether an interrupt ended the run before its time."""
        return not self.results

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured in the last step, by name (docs/metrics.md)."""
        return self.history()[-1]

    def history(self) -> list[dict[str, Any]]:
        """The metrics of every step, as for `pandas.DataFrame`; None stands for NaN."""
        return read_metrics(self.folder)


def run_training(cfg: Config, folder: Path) -> Run:
    """Train with a progress bar, save on Ctrl-C, and end with the table of base against trained."""
    start_processes(cfg)
    console.quiet = console.quiet or not is_rank_zero()
    try:
        with naming_stalled(cfg.optim.patience), locked(folder):
            check_shared_folder(folder)
            return _run_training(cfg, folder)
    finally:
        close_pools()


def _run_training(cfg: Config, folder: Path) -> Run:
    """`run_training` in a folder that no other process writes to."""
    # A wrong model fails before anything is written, and all ranks have looked by then.
    session = agreed(lambda: trainer.open_session(cfg, folder))
    choice, cfg = describe_choice(cfg, session.cfg), session.cfg
    if is_rank_zero():
        replace_text(folder / CONFIG_FILE, write_yaml(config_to_dict(cfg)))
    processes = f", {world_size()} processes" if world_size() > 1 else ""
    say(f"{cfg.method} on {cfg.env.id}, model {cfg.model.path}, run folder {folder}{processes}")
    say_success(cfg)
    if choice:
        say(choice)
    pool = session.agent.dialogue.pool
    if pool is not None:
        say(f"{cfg.env.id} is played in {pool.num_workers} worker processes: {pool.reason}.")
    if cfg.loss.credit == "trajectory" and cfg.loss.baseline == "max":
        warn("Warning: loss.baseline=max never gives a positive advantage. Take mean to learn.")
    with _resumable(folder, cfg):
        results = _train_and_measure(session)
    leave_processes(cfg)
    return Run(folder, cfg, session.agent.policy, results)


@contextmanager
def _resumable(folder: Path, cfg: Config) -> Iterator[None]:
    """Say how to resume a run that ends early."""
    again = resume_command(folder, cfg)
    try:
        with naming_stalled(cfg.optim.patience):
            yield
    except EngineError as error:
        raise EngineError(f"{error}. What was saved is whole; resume with: {again}") from error
    except DiskError as error:
        raise SettingError(f"{error} What was saved is whole; resume with: {again}") from error
    except KeyboardInterrupt:
        say(f"Stopped at once. Resume with: {again}")
        raise


def _train_and_measure(session: trainer.Session) -> dict[str, Evaluation]:
    """Train; return base and trained policy on held-out puzzles, nothing if it was stopped."""
    cfg, folder = session.cfg, session.folder
    base = None if session.progress.step else measure_policy(cfg, session.agent, "base")
    if _train(session):
        say(f"Stopped. Resume with: {resume_command(folder, cfg)}")
        return {}
    # The base of a resumed run is loaded again; that of a new one was measured as it began.
    base = base or measure_policy(cfg, build_agent(cfg), "base")
    trained = measure_policy(cfg, session.agent, "trained")
    return report_result(cfg, folder, {"base": base, "trained": trained})


def _train(session: trainer.Session) -> bool:
    """Train with a progress bar; returns whether an interrupt ended the run before its time."""
    cfg = session.cfg
    with stop_on_interrupt() as interrupt, progress_bar() as bar:
        task = bar.add_task("training", total=1.0, success="")

        def watch(progress: Progress, metrics: dict[str, float]) -> bool:
            bar.update(
                task,
                completed=min(1.0, progress.share_done(cfg.optim)),
                description=f"step {progress.step}/{cfg.optim.steps}",
                success=f"success {progress.success_rate:.2f}",
            )
            if "eval/success_rate" in metrics:
                bar.console.print(describe(progress, metrics))
            return bool(interrupt)

        trainer.train(session, partial(validate, cfg), watch, warn)
        was_stopped = any(all_gather(bool(interrupt)))
        if not was_stopped:
            bar.update(task, completed=1.0)
    return was_stopped


def measure_policy(cfg: Config, agent: Agent, name: str) -> Evaluation:
    """Measure the base or the trained policy on the held-out puzzles."""
    num_puzzles = cfg.eval.final_episodes
    with console.status(f"measuring the {name} policy on {num_puzzles} held-out puzzles"):
        return evaluate_agent(cfg, agent, num_puzzles, cfg.eval.samples)


def report_result(
    cfg: Config, folder: Path, results: dict[str, Evaluation]
) -> dict[str, Evaluation]:
    """Print, write and return how base and trained policy compare on held-out puzzles."""
    console.print(result_table(cfg.env.id, results))
    if is_rank_zero():
        values = {name: result.to_json() for name, result in results.items()}
        replace_text(folder / RESULT_FILE, json.dumps(values, indent=2) + "\n")
    say(describe_time(read_metrics(folder)))
    say(f"Curves: tensorboard --logdir {shlex.quote(str(folder))}")
    return results


def resume_command(folder: Path, cfg: Config) -> str:
    """The command that resumes a run, in as many processes as it has now."""
    num = world_size()
    program = f"torchrun --nproc-per-node {num} -m sesa_agent" if num > 1 else "sesa-agent"
    reward = [f"--reward {word.partition('=')[2]}" for word in code_words(cfg)]
    return " ".join([f"{program} train --resume {shlex.quote(str(folder))}", *reward])


def describe(progress: Progress, metrics: dict[str, float]) -> str:
    """One line about an evaluation during training."""
    success, mean_return = metrics["eval/success_rate"], metrics.get("eval/return")
    has_return = differs_from_success(mean_return, success)
    shown = f"return {mean_return:.3f}  " if has_return else ""
    return (
        f"step {progress.step - 1:4d}  success {success:.3f}  {shown}"
        f"groups with signal {metrics['rollout/signal_groups']:.2f}  "
        f"entropy {metrics.get('train/entropy', float('nan')):.3f}  "
        f"calls {progress.num_policy_calls}"
    )


def describe_time(lines: Sequence[Mapping[str, Any]]) -> str:
    """One line about where the time of a run's steps went."""
    shares = profile(lines)
    parts = [f"{PHASES[name]} {share:.0%}" for name, share in shares.items()]
    return f"Time: {lines[-1]['time_s'] / 60:.1f} minutes of steps: {', '.join(parts)}"


@contextmanager
def stop_on_interrupt() -> Iterator[list[int]]:
    """Collect the first Ctrl-C or SIGTERM, so that the step can end and be saved.

    A second one stops at once. Job schedulers send SIGTERM some time before they kill.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python gives signals to the main thread alone
        return

    def restore() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def on_signal(signum: int, frame: Any) -> None:
        received.append(signum)
        restore()
        again = "Ctrl-C again" if signum == signal.SIGINT else "Another SIGTERM"
        warn(f"Stopping after this step, then saving. {again} stops at once.")

    before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        restore()
