"""Small training runs: settings, ways to run them (whole, killed, in a process), what they wrote.

`python -m tests.helpers.runs FOLDER STEP` is the process that `run_and_kill` starts.
"""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import config_from_dict, config_to_dict, load_config
from sesa_agent.configs.schema import Config
from sesa_agent.evaluation.validation import validate
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.setup import resolve_auto
from sesa_agent.training.trainer import open_session, train

from .toy_game import ENV_ID

REPOSITORY = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

SMALL = (
    "sampling.num_tasks=2",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=3",
    "engine.max_new_tokens=2",
    "optim.steps=2",
    "eval.every=2",
    "eval.episodes=2",
)
"""Settings of `make_config`: two steps that take no time."""

SMALL_COMMAND = (
    "sampling.num_tasks=2",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=3",
    "engine.max_new_tokens=3",
    "optim.checkpoint_every=1",
    "eval.every=2",
    "eval.episodes=2",
    "eval.final_episodes=4",
    "eval.samples=2",
)
"""Settings for the command line: a run that takes about a second a step."""

ONE_UPDATE = ("optim.num_epochs=1", "optim.num_minibatches=1", "optim.warmup_steps=0")

DAPO = (
    "env.max_turns=2",
    "sampling.max_trajectories=2",
    "sampling.max_redraws=2",
    "loss.overlong_buffer=1",
)
"""Settings for the method `dapo` that resample groups and punish long responses."""


def make_config(model: Path, *overrides: str, env: str = ENV_ID, method: str = "sesa") -> Config:
    return resolve_auto(load_config(env, method, [f"model.path={model}", *SMALL, *overrides]))


def run(cfg: Config, folder: Path, watch=lambda *_: False, tell=lambda _: None) -> Policy:
    session = open_session(resolve_auto(cfg), folder)
    return train(session, partial(validate, cfg), watch, tell)


def run_and_kill(cfg: Config, folder: Path, step: int) -> None:
    """Train in a process of its own that is killed after a step is logged, before it is saved."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)))
    killed = run_python("-m", __name__, folder, step, cwd=REPOSITORY)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def run_python(*words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run Python on one thread; return its exit code and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, **more
    )


def read_metrics(folder: Path, times: bool = True) -> list[dict[str, float]]:
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    if times:
        return lines
    return [{key: v for key, v in line.items() if not is_time(key)} for line in lines]


def is_time(name: str) -> bool:
    return name.startswith("time") or name in ("progress/seconds", "progress/cpu_seconds")


def newest(folder: Path) -> Path:
    """The newest checkpoint of a run."""
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint


def read_weights(folder: Path) -> bytes:
    return (newest(folder) / "model" / "model.safetensors").read_bytes()


def main(folder: Path, step: int) -> None:
    """Train by the settings of a folder until the process kills itself."""
    torch.set_num_threads(1)
    cfg = config_from_dict(yaml.safe_load((folder / "config.yaml").read_text()))

    def watch(progress: Any, metrics: Any) -> bool:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    run(cfg, folder, watch)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
