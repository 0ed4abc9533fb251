"""The same from Python: `from sesa_agent import train, evaluate, make_env` (docs/python.md).

Each function is its command: the same defaults, settings, checks, run folders and results. Nothing
is printed unless it is asked for; warnings go to the logger `sesa_agent`. What a user got wrong
raises `SettingError`, which names the options of the command line; here they are arguments.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium

from sesa_agent import environments
from sesa_agent.commands.evaluate import evaluate_policy
from sesa_agent.commands.evaluate_api import PREFIX
from sesa_agent.commands.train import Run, run_training
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.load import load_config
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.evaluation.evaluate import Evaluation
from sesa_agent.runs import find_policy, new_run, resumed_run
from sesa_agent.screen import showing
from sesa_agent.training.setup import build_policy

Settings = Mapping[str, Any] | Sequence[str]
"""`{"optim.lr": 3e-4}`, or as typed on the command line: `["optim.lr=3e-4"]`."""


def train(
    env: str = "",
    method: str = "",
    *,
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

    An interrupt (the stop button of a notebook, Ctrl-C) ends the step, saves and returns; a second
    one raises KeyboardInterrupt at once.

    Args:
        env: a short name such as "sokoban", or a Gymnasium id; one that was registered in the
            notebook itself will do.
        method: the preset; "sesa" unless given.
        scale: the preset of a real model and its machine.
        model: folder or hub name of a causal language model; the bundled one unless given.
        steps: rollout-and-update steps.
        seed: of everything random.
        output: the run folder; `runs/<env>-<method>-<seed>` unless given.
        resume: a run folder to go on with, instead of a new run.
        settings: any other setting (docs/settings.md).
        progress: show the bar and the lines of the command.

    Returns:
        The run: its folder, the trained policy, metrics, and base against trained policy on
        held-out puzzles.

    Raises:
        SettingError: in one line, for whatever the user got wrong, before a model is loaded where
            that can be seen.
        EngineError: if the engine broke down; what was saved is whole.
    """
    named = {"model.path": os.fspath(model) or None, "optim.steps": steps, "seed": seed}
    words = [*_words(settings), *_words({k: v for k, v in named.items() if v is not None})]
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
    episodes: int = 1024,
    samples: int = 1,
    ks: Sequence[int] = (),
    temperature: float | None = None,
    seed: int = 0,
    settings: Settings = (),
) -> Evaluation:
    """Measure success on held-out puzzles, as `sesa-agent evaluate` does.

    Args:
        target: what `train` returned, a run folder, or a model: "sesa-tiny", a folder or a hub
            name.
        env: as for `train`; must be given with a model.
        episodes: held-out puzzles.
        samples: attempts at each puzzle.
        ks: the k of pass@k, from 1 to `samples`; by default 1, 2, 4, ... and `samples`.
        temperature: of sampling; .5 unless given.
        seed: of the draws.
        settings: any other setting.

    Returns:
        The measurement.

    Raises:
        SettingError: as `train`.
    """
    check(episodes >= 1, "episodes", episodes, "at least 1")
    check(samples >= 1, "samples", samples, "at least 1")
    check(all(1 <= k <= samples for k in ks), "ks", list(ks), f"from 1 to samples ({samples})")
    puzzle_seeds("test", episodes)  # raises if there are not so many
    words = _words(settings)
    words += [f"eval.temperature={temperature}"] if temperature is not None else []
    place = str(target.folder) if isinstance(target, Run) else os.fspath(target)
    if place.startswith(PREFIX):
        raise SettingError(f"A model behind an API is measured by: sesa-agent evaluate {place}")
    cfg, path = find_policy(place, env, words)
    policy = build_policy(cfg, path)
    return evaluate_policy(cfg, policy, episodes, samples, seed, ks)


def make_env(env: str, *, step_timeout: float = 60.0, **options: Any) -> gymnasium.Env[Any, Any]:
    """Build a text environment, as it is trained on.

    Args:
        env: as for `train`; a short name brings the options of its file along.
        step_timeout: seconds in which an environment of another package must answer.
        options: keyword arguments of the environment.

    Raises:
        SettingError: if the short name is unknown, or no words can be found for the environment.
        gymnasium.error.Error: if the id is unknown.
    """
    cfg = load_config(env).env
    return environments.make_env(cfg.id, step_timeout=step_timeout, **{**cfg.options, **options})


def _words(settings: Settings) -> list[str]:
    """Settings as they would be typed: a text as it stands, anything else as JSON.

    >>> _words({"optim.lr": 3e-4, "model.thinking": True, "model.path": "sesa-tiny"})
    ['optim.lr=0.0003', 'model.thinking=true', 'model.path=sesa-tiny']
    """
    if not isinstance(settings, Mapping):
        check(not isinstance(settings, str), "settings", settings, "a dict or a list of key=value")
        return list(settings)
    return [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in settings.items()
    ]
