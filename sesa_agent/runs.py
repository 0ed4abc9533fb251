"""What the commands do: runs on disk, progress on the screen, tables at the end."""

import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sesa_agent.agents.engine import Engine
from sesa_agent.agents.policy import BUNDLED, Policy
from sesa_agent.configs.load import config_from_dict, config_to_dict, env_names, load_config
from sesa_agent.configs.schema import Config, SettingError, check
from sesa_agent.evaluation.evaluate import Evaluation, evaluate
from sesa_agent.evaluation.model_card import write_model_card
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.seeds import puzzle_seeds
from sesa_agent.training import trainer
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.pretrain import COURSES, PretrainConfig
from sesa_agent.training.pretrain import pretrain as pretrain_model
from sesa_agent.training.setup import (
    build_dialogue,
    build_engine,
    build_env,
    build_policy,
    sampling_params,
)

console = Console()
CONFIG_FILE, RESULT_FILE = "config.yaml", "result.json"


# ---- train ----


def new_run(
    env: str, method: str, overrides: list[str], output: Path | None
) -> tuple[Config, Path]:
    """Resolve the settings of a new run and claim its folder.

    Raises:
        SettingError: if a setting is wrong, or the folder cannot be written or holds a run already.
    """
    if not env:
        raise SettingError(
            f"--env must be given: one of {', '.join(env_names())}, or a Gymnasium id. "
            "Try --env sokoban."
        )
    cfg = load_config(env, method, overrides)
    name = env.replace("/", "-").replace(":", "-")
    folder = output or Path(cfg.output or f"runs/{name}-{method}-{cfg.seed}")
    if (folder / CONFIG_FILE).exists():
        raise SettingError(
            f"--output {folder} holds a run already. Go on with it by --resume {folder}, "
            "or choose another folder by --output."
        )
    check_writable(folder, "--output")
    return trainer.resolve_auto(cfg), folder


def resumed_run(folder: Path, env: str, method: str, overrides: list[str]) -> tuple[Config, Path]:
    """Read the settings of a run that goes on.

    Raises:
        SettingError: if there is no run, it is one of another environment, or it cannot be written.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise SettingError(f"--resume {folder} is not a run folder: it has no {CONFIG_FILE}.")
    cfg = read_run(folder, env, method, overrides)
    check_writable(folder, "--resume")
    return cfg, folder


def read_run(folder: Path, env: str, method: str, overrides: list[str]) -> Config:
    """Read the settings in a run folder, with the user's changes.

    Raises:
        SettingError: if the file is broken, a change is not allowed, or the run is one of another
            environment than `env`.
    """
    try:
        values = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        check(isinstance(values, dict), str(folder / CONFIG_FILE), values, "a mapping of settings")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"{folder / CONFIG_FILE} is damaged: {reason}.") from error
    cfg = config_from_dict(values, method, overrides)
    if env:
        wanted = load_config(env).env.id
        check(
            wanted == cfg.env.id,
            "--env",
            env,
            f"the environment of the run in {folder} ({cfg.env.id})",
            "Leave --env out, or choose a run of that environment.",
        )
    return trainer.resolve_auto(cfg)


def check_writable(folder: Path, option: str) -> None:
    """Make sure that a folder can be written to, before any work is done; leave nothing behind.

    Raises:
        SettingError: if it cannot.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SettingError(
            f"{option} {folder} cannot be written: {error.strerror}. Choose another folder."
        ) from error
    finally:
        for path in missing:
            if path.is_dir():
                path.rmdir()


def run_training(cfg: Config, folder: Path) -> None:
    """Train with a progress bar, save on Ctrl-C, and end with the table of base against trained."""
    base = build_policy(cfg)  # a wrong model fails here, before the run folder is written to
    build_dialogue(cfg, base)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config_to_dict(cfg)), encoding="utf-8")
    say(f"{cfg.method} on {cfg.env.id}, model {cfg.model.path}, run folder {folder}")
    with stop_on_interrupt() as interrupt, progress_bar() as bar:
        task = bar.add_task("training", total=1.0, success="")

        def watch(progress: trainer.Progress, metrics: dict[str, float]) -> bool:
            bar.update(
                task,
                completed=share_done(progress, cfg),
                description=f"step {progress.step}/{cfg.optim.steps}",
                success=f"success {progress.success_rate:.2f}",
            )
            if "eval/success_rate" in metrics:
                bar.console.print(describe(progress, metrics))
            return bool(interrupt)

        policy = trainer.train(cfg, folder, lambda *args: measure(cfg, *args), watch)
        if not interrupt:
            bar.update(task, completed=1.0)
    if interrupt:
        say(f"Stopped. Go on with: sesa-agent train --resume {shlex.quote(str(folder))}")
        return
    report_result(cfg, folder, base, policy)


def measure(cfg: Config, engine: Engine, dialogue: Dialogue, seeds: list[int]) -> dict[str, float]:
    """Measure success on validation puzzles, as the trainer logs it."""
    params = sampling_params(cfg.engine, cfg.eval.temperature)
    result = evaluate(engine, dialogue, cfg.env.id, seeds, params)
    return {
        "eval/success_rate": result.success_rate,
        "eval/readable_rate": result.readable_rate,
        "eval/legal_rate": result.legal_rate,
        "eval/turns": result.mean_turns,
    }


def report_result(cfg: Config, folder: Path, base: Policy, trained: Policy) -> None:
    """Compare base and trained policy on held-out puzzles; write and print the result."""
    with console.status(f"measuring base and trained policy on {cfg.eval.final_episodes} puzzles"):
        results = {
            name: evaluate_policy(cfg, policy, cfg.eval.final_episodes)
            for name, policy in (("base", base), ("trained", trained))
        }
    values = {name: result.to_json() for name, result in results.items()}
    (folder / RESULT_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    console.print(result_table(cfg.env.id, results))
    say(f"Curves: tensorboard --logdir {shlex.quote(str(folder))}")


def say(line: str) -> None:
    """Print a line as it is: unbroken, so that a command in it can be copied."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def share_done(progress: trainer.Progress, cfg: Config) -> float:
    """How much of a run is done, from 0 to 1: by steps or by its budget, the nearer to its end."""
    budget = cfg.optim.max_policy_calls
    by_calls = progress.num_policy_calls / budget if budget else 0.0
    return min(1.0, max(progress.step / cfg.optim.steps, by_calls))


def describe(progress: trainer.Progress, metrics: dict[str, float]) -> str:
    """One line about an evaluation during training."""
    return (
        f"step {progress.step - 1:4d}  success {metrics['eval/success_rate']:.3f}  "
        f"groups with signal {metrics['rollout/signal_groups']:.2f}  "
        f"entropy {metrics.get('train/entropy', float('nan')):.3f}  "
        f"calls {progress.num_policy_calls}"
    )


@contextmanager
def stop_on_interrupt() -> Iterator[list[int]]:
    """Collect the first Ctrl-C, so that the step can end and be saved; a second stops at once."""
    received: list[int] = []

    def on_signal(signum: int, frame: Any) -> None:
        received.append(signum)
        signal.signal(signal.SIGINT, before)
        say("Stopping after this step, then saving. Ctrl-C again stops at once.")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


def progress_bar() -> Progress:
    """The bar: step, share done, time, time left, last measured success."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[success]}"),
        console=console,
    )


# ---- evaluate ----


def run_evaluation(
    target: str,
    env: str,
    overrides: list[str],
    episodes: int,
    samples: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Evaluate a run's newest checkpoint, or a model, and print the result."""
    check(episodes >= 1, "--episodes", episodes, "at least 1")
    check(samples >= 1, "--samples", samples, "at least 1")
    puzzle_seeds("test", episodes)  # raises if there are not so many
    if json_file:
        check(not json_file.is_dir(), "--json", str(json_file), "a file, not a folder")
        check_writable(json_file.parent, "--json")
    if (Path(target) / CONFIG_FILE).is_file():
        cfg = read_run(Path(target), env, "", overrides)
        checkpoint = latest_checkpoint(Path(target))
        if checkpoint is None:
            raise SettingError(f"{target} has no checkpoint yet. Train it: --resume {target}.")
        path = str(checkpoint / "model")
    else:
        check(bool(env), "--env", env, "given with a model", "Try --env sokoban.")
        cfg = trainer.resolve_auto(load_config(env, "sesa", [*overrides, f"model.path={target}"]))
        path = target
    policy = build_policy(cfg, path)
    with console.status(f"playing {episodes} held-out puzzles"):
        result = evaluate_policy(cfg, policy, episodes, samples, seed)
    console.print(result_table(cfg.env.id, {Path(target).name or target: result}))
    if json_file:
        values = {"target": target, "env": cfg.env.id, "seed": seed, **result.to_json()}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def evaluate_policy(
    cfg: Config, policy: Policy, episodes: int, samples: int = 1, seed: int = 0
) -> Evaluation:
    """Measure a policy on the held-out puzzles of an environment."""
    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    seeds = puzzle_seeds("test", episodes)
    params = sampling_params(cfg.engine, cfg.eval.temperature, seed)
    return evaluate(engine, dialogue, cfg.env.id, seeds, params, samples)


def result_table(env_id: str, results: dict[str, Evaluation]) -> Table:
    """Success with its interval and pass@k, a row per policy."""
    first = next(iter(results.values()))
    title = f"{env_id}: {first.num_episodes} held-out puzzles, T = {first.temperature:g}"
    table = Table(title=title, min_width=len(title))
    for name in ("policy", "success", "95 % interval", *(f"pass@{k}" for k in first.pass_at_k)):
        table.add_column(name)
    for name, result in results.items():
        interval = f"{result.low:.3f} to {result.high:.3f}"
        passes = [f"{value:.3f}" for value in result.pass_at_k.values()]
        table.add_row(name, f"{result.success_rate:.3f}", interval, *passes)
    return table


# ---- envs, pretrain ----


def show_environments() -> None:
    """Print our environments, their ids and what they accept."""
    table = Table(title="sesa-agent train --env NAME")
    for column in ("name", "Gymnasium id", "turns", "actions"):
        table.add_column(column)
    for name in env_names():
        cfg = load_config(name)
        spec = build_env(cfg).unwrapped.text_spec  # pyright: ignore[reportAttributeAccessIssue]
        table.add_row(name, cfg.env.id, str(cfg.env.max_turns), spec.actions)
    console.print(table)


def run_pretraining(output: Path, steps: int | None, seed: int, episodes: int) -> None:
    """Make the bundled model and write its card, with measured success in every game."""
    check(steps is None or steps >= 1, "--steps", steps, "at least 1")
    check(episodes >= 1, "--episodes", episodes, "at least 1")
    check_writable(output, "--output")
    recipe = PretrainConfig(seed=seed)
    recipe = replace(recipe, steps=steps) if steps is not None else recipe
    with progress_bar() as bar:
        task = bar.add_task("collecting play", total=recipe.steps, success="")
        pretrain_model(
            output,
            recipe,
            lambda step, loss: bar.update(
                task, completed=step, description="pre-training", success=f"loss {loss:.3f}"
            ),
        )
    names = {load_config(name).env.id: name for name in env_names()}
    results = {}
    for course in COURSES:
        cfg = load_config(names[course.env_id], "sesa", [f"model.path={output}"])
        results[course.env_id] = evaluate_policy(cfg, build_policy(cfg), episodes)
        console.print(result_table(course.env_id, {BUNDLED: results[course.env_id]}))
    write_model_card(output, recipe, results)
