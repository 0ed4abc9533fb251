"""Small runs and comparisons as files, for the tests of the report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sesa_agent.commands.experiment_tables import summarise
from sesa_agent.configs.load import config_to_dict, load_config
from sesa_agent.evaluation.experiments.compare import compare
from sesa_agent.evaluation.experiments.paper import PASS_RATIO, SUCCESS
from sesa_agent.evaluation.experiments.sentences import comparison_to_json
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree, Turn
from sesa_agent.training.run_log import RunLog
from sesa_agent.training.setup import resolve_auto

BOARD = "#####\n#PXO#\n#####"
NUM_STEPS = 9


def tree(observation: str = BOARD, action: str | None = "Right") -> TrajectoryTree:
    """Two first turns; the first wins, the second is followed by a losing turn."""
    turn = Turn(
        observation, (1,), (2,), (-0.5,), f"<answer>{action}</answer>", action, 0.0, False, False
    )
    grown = TrajectoryTree(Task("sesa/Sokoban-v0", 17), num_calls=3)
    grown.add(ROOT, replace(turn, reward=1.0, terminated=True, success=True))
    second = grown.add(ROOT, replace(turn, action="Left"))
    grown.add(second, replace(turn, action="Up", truncated=True))
    return grown


def evaluation(rate: float, num_puzzles: int = 200, temperature: float = 0.5) -> dict[str, Any]:
    """The output of `Evaluation.to_json`; puzzles are won in order, so runs agree on most."""
    num_won = round(rate * num_puzzles)
    return {
        "num_episodes": num_puzzles,
        "temperature": temperature,
        "success_rate": num_won / num_puzzles,
        "wins": " ".join("1" if place < num_won else "0" for place in range(num_puzzles)),
        "low": rate - 0.05,
        "high": rate + 0.05,
        "pass_at_k": {"1": rate},
        "pass_ratio": 1.5,
    }


def write_run(
    folder: Path,
    trees: tuple[TrajectoryTree, ...] = (),
    settings: tuple[str, ...] = (),
    result: dict[str, Any] | None = None,
) -> Path:
    """A run of nine steps on Sokoban, evaluated at every other, with one event."""
    cfg = resolve_auto(load_config("sokoban", "ragen", list(settings)))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)), encoding="utf-8")
    with RunLog(folder) as log:
        for step in range(NUM_STEPS):
            log.write(step, metrics(step))
        log.write_trees(NUM_STEPS - 1, trees or (tree(),))
        log.write_event(4, "entropy", "The policy hardly varies its responses.")
    if result:
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


def metrics(step: int, slope: float = 0.05) -> dict[str, float]:
    """A line of a log."""
    evaluated = {"eval/success_rate": 0.1 + slope * step} if step % 2 == 0 else {}
    return {
        **evaluated,
        "rollout/signal_groups": 0.9 - 0.1 * step,
        "rollout/distinct_answers": 3.0,
        "train/entropy": 1.0 / (1 + step),
        "time/rollout_s": 2.0,
        "time/learn_s": 1.0,
        "progress/policy_calls": 100 * (step + 1),
        "progress/response_tokens": 700 * (step + 1),
        "progress/env_steps": 90 * (step + 1),
        "progress/seconds": 3.0 * (step + 1),
    }


def arm(env: str, label: str, seed: int, rate: float) -> dict[str, Any]:
    """What `run_arm` would return."""
    slope = (rate - 0.1) / 8
    curve = [
        {
            "step": step,
            "policy_calls": 100 * step,
            "response_tokens": 700 * step,
            "env_steps": 90 * step,
            "seconds": 3.0 * step,
            "eval/success_rate": 0.1 + slope * step,
            "rollout/signal_groups": 0.5,
        }
        for step in range(0, 9, 2)
    ]
    is_base = label == "base"
    return {
        "label": label,
        "env": env,
        "method": "" if is_base else label,
        "settings": [],
        "seed": seed,
        "start_from": "",
        "steps": 0 if is_base else NUM_STEPS,
        "policy_calls": 0 if is_base else 900,
        "response_tokens": 0 if is_base else 6300,
        "env_steps": 0 if is_base else 810,
        "seconds": 0.0 if is_base else 27.0,
        "measurements": [],
        "measured": {"T=0.5": evaluation(rate), "T=1": evaluation(rate, temperature=1.0)},
        "curve": [] if is_base else curve,
    }


def arms(envs: tuple[str, ...] = ("sokoban",)) -> list[dict[str, Any]]:
    """The base model, and three seeds each of `ragen` and a far better `sesa`."""
    rng = np.random.default_rng(0)
    rates = {"ragen": 0.2, "sesa": 0.5}
    return [
        found
        for env in envs
        for found in (
            arm(env, "base", 0, 0.1),
            *(
                arm(env, label, seed, rate + float(rng.integers(-4, 5)) / 200)
                for label, rate in rates.items()
                for seed in range(3)
            ),
        )
    ]


def write_comparison(path: Path, found: list[dict[str, Any]]) -> Path:
    """A comparison's file, as `sesa-agent compare` writes it."""
    values = {
        "experiment": path.stem,
        "command": "sesa-agent compare --env sokoban --seeds 3",
        "versions": {"sesa-agent": "0.1.0", "torch": "2.13.0"},
        "seeds": [0, 1, 2],
        "source": "Table 1",
        "models": {"sokoban": "sesa-tiny"},
        "table": summarise(found, (SUCCESS, PASS_RATIO)),
        "comparison": {"reference": "sesa", **comparison_to_json(compare(found, "sesa"))},
        "arms": found,
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    return path
