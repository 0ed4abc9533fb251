"""The Python API: `from sesa_agent import train, evaluate, warm_start` (docs/python.md).

Each function corresponds to a command, with the same defaults, settings, checks, run folders and
results. Nothing is printed by default; warnings go to the logger `sesa_agent`. A user error raises
`SettingError`; the options of the command line that it names are arguments here.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium

from sesa_agent import environments
from sesa_agent.commands.evaluate import evaluate_policy
from sesa_agent.commands.evaluate_api import PREFIX
from sesa_agent.commands.evaluate_options import MAX_SAMPLES
from sesa_agent.commands.train import Run, run_training
from sesa_agent.commands.warm_start import run_warm_start
from sesa_agent.commands.warm_start_options import WarmStartOptions
from sesa_agent.commands.warm_start_result import WarmStart
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.load import code_words, load_config, override_word
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.evaluation.evaluate import Evaluation
from sesa_agent.option_settings import reward_option, with_options
from sesa_agent.runs import find_policy, new_run, resumed_run
from sesa_agent.screen import showing
from sesa_agent.training.setup import build_policy

Reward = str | Callable[..., Any]
"""A function that judges the answers to a task file, or `"module:function"` (docs/tasks.md)."""
Settings = Mapping[str, Any] | Sequence[str]
"""`{"optim.lr": 3e-4}`, or as typed on the command line: `["optim.lr=3e-4"]`."""


def train(
    env: str = "",
    method: str = "",
    *,
    reward: Reward = "",
    scale: str = "",
    model: str | os.PathLike[str] = "",
    steps: int | None = None,
    seed: int | None = None,
    output: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    settings: Settings = (),
    progress: bool = False,
) -> Run:
    """Train a policy, as `sesa-agent train` does.

    An interrupt (the stop button of a notebook, Ctrl-C) finishes the step, saves and returns; a
    second one raises KeyboardInterrupt immediately.

    Args:
        env: a short name such as "sokoban", or a Gymnasium id, which may be registered in the
            notebook itself, or a task file.
        method: the preset: a name or the path of a YAML file; by default "sesa".
        reward: the function that judges the answers to a task file; not stored, but imported again
            by its name.
        scale: the preset for a real model and its machine.
        model: folder or hub name of a causal language model; by default the bundled one.
        steps: number of training steps.
        seed: random seed.
        output: the run folder; by default `runs/<env>-<method>-<seed>`.
        resume: a run folder to resume, instead of a new run.
        settings: any other settings (docs/settings.md).
        progress: show the progress bar and the output of the command.

    Returns:
        The run: its folder, the trained policy, metrics, and results of base and trained policy on
        held-out puzzles.

    Raises:
        SettingError: in one line, for a user error; before a model is loaded, if possible.
        EngineError: if the engine failed; saved checkpoints are complete.
    """
    options = {
        "model.path": ("model", os.fspath(model) or None),
        "optim.steps": ("steps", steps),
        "seed": ("seed", seed),
        **reward_option(reward, env),
    }
    words = with_options(_words(settings), options)
    if resume is not None:
        check(output is None, "output", output, "left out with resume")
        check(not scale, "scale", scale, "left out with resume", "A run keeps its own.")
        cfg, folder = resumed_run(Path(resume), env, method, words)
    else:
        place = None if output is None else Path(output)
        cfg, folder = new_run(env, method or "sesa", words, place, scale)
    with showing(progress):
        return run_training(cfg, folder)


def evaluate(
    target: Run | str | os.PathLike[str],
    env: str = "",
    *,
    reward: Reward = "",
    episodes: int = 1024,
    samples: int = 1,
    ks: Sequence[int] = (),
    temperature: float | None = None,
    seed: int = 0,
    settings: Settings = (),
) -> Evaluation:
    """Measure success on held-out puzzles, as `sesa-agent evaluate` does.

    Args:
        target: the result of `train`, a run folder, or a model: "sesa-tiny", a folder or a hub
            name.
        env: as for `train`; required with a model.
        reward: as for `train`; required with the folder of a run that has one.
        episodes: number of held-out puzzles.
        samples: attempts at each puzzle.
        ks: values of k for pass@k, from 1 to `samples`; by default 1, 2, 4, ... and `samples`.
        temperature: sampling temperature; by default 0.5.
        seed: random seed of sampling.
        settings: any other settings.

    Returns:
        The measurement.

    Raises:
        SettingError: as `train`.
    """
    check(episodes >= 1, "episodes", episodes, "at least 1")
    check(1 <= samples <= MAX_SAMPLES, "samples", samples, f"1 to {MAX_SAMPLES}")
    check(seed >= 0, "seed", seed, "0 or more")
    check(all(1 <= k <= samples for k in ks), "ks", list(ks), f"from 1 to samples ({samples})")
    puzzle_seeds("test", episodes)  # raises if there are not enough puzzles
    named = {"eval.temperature": ("temperature", temperature), **reward_option(reward, env)}
    words = with_options(_words(settings), named)
    if isinstance(target, Run) and not reward:  # of this process: the user gave it its function
        words = [*code_words(target.config), *words]
    place = str(target.folder) if isinstance(target, Run) else os.fspath(target)
    if place.startswith(PREFIX):
        raise SettingError(f"Measure a model behind an API with: sesa-agent evaluate {place}")
    cfg, path = find_policy(place, env, words)
    policy = build_policy(cfg, path)
    return evaluate_policy(cfg, policy, episodes, samples, seed, ks)


def warm_start(
    env: str = "",
    model: str | os.PathLike[str] = "",
    *,
    reward: Reward = "",
    chats: str | os.PathLike[str] | None = None,
    run: Run | str | os.PathLike[str] | None = None,
    lessons: int = 40,
    lr: float = 1e-4,
    episodes: int = 64,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    settings: Settings = (),
    progress: bool = False,
) -> WarmStart:
    """Teach a model the form of answers before it is trained, as `sesa-agent warm-start` does.

    An interrupt ends the lessons; what the model has learned is written.

    Args:
        env: as for `train`; optional with `run`, which has its own.
        model: folder or hub name of a causal language model.
        reward: as for `train`.
        chats: a JSON Lines file of chats to teach instead of the play of the environment's own
            player.
        run: a run whose successes are taught instead (`--from`).
        lessons: most lessons, of 16 moves each.
        lr: learning rate of AdamW.
        episodes: validation puzzles for the figures before and after.
        seed: random seed.
        output: the model folder; by default `warm/<env>-<model>`.
        settings: any other settings.
        progress: show the progress bar and the output of the command.

    Returns:
        The model folder, for `model`, and what was measured before and after.

    Raises:
        SettingError: as `train`.
        KeyboardInterrupt: if it is interrupted before the first lesson is over.
    """
    named = {"model.path": ("model", os.fspath(model) or None), **reward_option(reward, env)}
    words = with_options(_words(settings), named)
    place = run.folder if isinstance(run, Run) else run
    chosen = WarmStartOptions(
        env,
        None if chats is None else Path(chats),
        None if place is None else Path(place),
        lessons=lessons,
        lr=lr,
        episodes=episodes,
        seed=seed,
        output=None if output is None else Path(output),
    )
    with showing(progress):
        return run_warm_start(chosen, words)


def make_env(env: str, *, step_timeout: float = 60.0, **options: Any) -> gymnasium.Env[Any, Any]:
    """Build a text environment as in training.

    Args:
        env: as for `train`; a short name includes the options of its file.
        step_timeout: seconds within which an environment of another package must answer.
        options: keyword arguments of the environment.

    Raises:
        SettingError: if the short name is unknown, or the environment cannot be put into words.
        gymnasium.error.Error: if the id is unknown.
    """
    cfg = load_config(env).env
    return environments.make_env(cfg.id, step_timeout=step_timeout, **{**cfg.options, **options})


def _words(settings: Settings) -> list[str]:
    """Settings as on the command line: texts literally, other values as JSON.

    >>> _words({"optim.lr": 3e-4, "model.thinking": True, "model.path": "sesa-tiny"})
    ['optim.lr=0.0003', 'model.thinking=true', 'model.path=sesa-tiny']
    """
    if not isinstance(settings, Mapping):
        check(not isinstance(settings, str), "settings", settings, "a dict or a list of key=value")
        return list(settings)
    return [override_word(key, value) for key, value in settings.items()]
