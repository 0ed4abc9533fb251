"""A step with a small language model on a CPU: `sesa` and `ragen` at as many calls.

    python benchmarks/speed/real_step.py --model FOLDER [--rounds 3] [--words KEY=VALUE ...]
        [--before FILE] [--output FILE]

The model should answer readably: `sesa-agent warm-start --env countdown --model smollm2` writes
one. Both methods take 4 puzzles of Countdown with 3 numbers up to 10, and 16 proposals or rollouts
of each. They alternate in one process on one thread; figures are CPU seconds. Rollouts are compared
per call. For updates the share of the machine's peak is given: the operations of forward and
backward pass over what the fastest product of the same type could do in the time. `--before` adds
the steps of an earlier version, which this file wrote there (`--output`). Writes
`results/real_step.json`.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from sesa_agent.configs.load import load_config
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.training.progress import Progress
from sesa_agent.training.rollout import rollout, step_player
from sesa_agent.training.setup import (
    build_chat,
    build_dialogue,
    build_engine,
    build_policy,
    resolve_auto,
    settle_prompts,
)
from sesa_agent.training.update import Learner, build_optimizer

RESULTS = Path(__file__).parents[2] / "results" / "real_step.json"
SETTINGS = (
    "model.device=cpu",
    "model.dtype=float32",
    "engine.name=hf",
    "engine.max_new_tokens=32",
    "env.options={max_number: 10, min_count: 3, max_count: 3}",
    "sampling.num_tasks=4",
    "sampling.max_trajectories=16",
    "sampling.num_proposals=16",
    "loss.filter_ratio=1",
    "loss.entropy_coef=0",
    "optim.num_epochs=1",
    "optim.num_minibatches=1",
    "optim.lr=1e-6",
)
METHODS = ("sesa", "ragen")
TARGET = 1.5
"""Most CPU seconds per call of a `sesa` rollout, relative to `ragen`."""


@dataclass(frozen=True)
class Step:
    """One step of a method."""

    rollout_s: float
    update_s: float
    calls: int
    response_tokens: int
    distinct: float
    """Distinct readable actions of a puzzle, mean."""
    trained_tokens: int


class Side:
    """A method with a model of its own."""

    def __init__(self, method: str, words: list[str]):
        cfg = resolve_auto(load_config("countdown", method, [*SETTINGS, *words]))
        self.policy = build_policy(cfg)
        self.cfg = settle_prompts(cfg, build_chat(cfg, self.policy))
        self.engine = build_engine(self.cfg, self.policy)
        self.dialogue = build_dialogue(self.cfg, self.policy)
        self.learner = Learner(self.policy, build_optimizer(self.policy, self.cfg.optim))

    def step(self, number: int) -> Step:
        """A rollout and an update."""
        before = self.engine.usage.calls, self.engine.usage.response_tokens
        start = time.process_time()
        found = rollout(self.cfg, number, step_player(self.cfg, number, self.engine, self.dialogue))
        middle = time.process_time()
        metrics = self.update(found.taught, number)
        return Step(
            rollout_s=middle - start,
            update_s=time.process_time() - middle,
            calls=self.engine.usage.calls - before[0],
            response_tokens=self.engine.usage.response_tokens - before[1],
            distinct=statistics.mean(count_actions(tree) for tree in found.trees),
            trained_tokens=int(metrics["train/tokens"]),
        )

    def update(self, trees: list[TrajectoryTree], number: int) -> dict[str, float]:
        """An update on some trees."""
        return self.learner.update(trees, self.cfg, Progress(step=number))

    def peak_share(self, number: int) -> float:
        """Share of the peak that the products of an update reach."""
        found = rollout(self.cfg, number, step_player(self.cfg, number, self.engine, self.dialogue))
        with FlopCounterMode(display=False) as counter:
            self.update(found.taught, number)
        start = time.process_time()
        self.update(found.taught, number)
        seconds = time.process_time() - start
        return counter.get_total_flops() / seconds / peak(self.policy.model.dtype)


def count_actions(tree: TrajectoryTree) -> int:
    """Distinct readable actions of a tree."""
    return len({turn.action for turn in tree.turns} - {None})


def speed_ups(before: dict[str, Any], now: dict[str, Any]) -> dict[str, float]:
    """How much longer a step took before, at equal work: per call, or per distinct action."""
    factors = {}
    for name, steps in now.items():
        for work, unit in (("calls", "call"), ("distinct", "distinct action")):
            for parts, what in (
                (("rollout_s",), "a rollout"),
                (("rollout_s", "update_s"), "a step"),
            ):
                costs = [
                    sum(step[part] for step in side for part in parts)
                    / sum(step[work] for step in side)
                    for side in (before[name], steps)
                ]
                factors[f"{what} of {name} per {unit}"] = costs[0] / costs[1]
    return factors


def peak(dtype: torch.dtype) -> float:
    """Operations per second of large products of this type, on one thread."""
    size, best = 1024, 0.0
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    for _ in range(4):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", required=True, help="a model folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", nargs="*", default=[], help="further settings")
    parser.add_argument("--before", type=Path, help="the file of an earlier version")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sides = {name: Side(name, [f"model.path={args.model}", *args.words]) for name in METHODS}
    steps: dict[str, list[Step]] = {name: [] for name in METHODS}
    for side in sides.values():
        side.step(0)  # warm-up
    for number in range(1, args.rounds + 1):
        for name, side in sides.items():
            steps[name].append(side.step(number))
            print(name, steps[name][-1], flush=True)
    per_call = {name: [s.rollout_s / s.calls for s in found] for name, found in steps.items()}
    pairs = zip(per_call["sesa"], per_call["ragen"], strict=True)
    result: dict[str, Any] = {
        "dtype": str(sides["sesa"].policy.model.dtype),
        "rollout_per_call_sesa_by_ragen": statistics.median(a / b for a, b in pairs),
        "peak_share_of_update": {name: s.peak_share(args.rounds + 1) for name, s in sides.items()},
        "steps": {name: [asdict(step) for step in found] for name, found in steps.items()},
    }
    table = Table("method", "calls", "distinct", "rollout, CPU s", "update, CPU s", "share of peak")
    for name, found in steps.items():
        table.add_row(
            name,
            f"{statistics.mean(s.calls for s in found):.0f}",
            f"{statistics.mean(s.distinct for s in found):.1f}",
            f"{statistics.median(s.rollout_s for s in found):.2f}",
            f"{statistics.median(s.update_s for s in found):.2f}",
            f"{result['peak_share_of_update'][name]:.2f}",
        )
    console = Console()
    console.print(table)
    ratio = result["rollout_per_call_sesa_by_ragen"]
    console.print(f"a call of sesa costs {ratio:.2f} calls of ragen (at most {TARGET})")
    if args.before:
        before = json.loads(args.before.read_text(encoding="utf-8"))["steps"]
        result["before"] = before
        result["speed_up"] = speed_ups(
            before, {n: [asdict(s) for s in f] for n, f in steps.items()}
        )
        for name, factor in result["speed_up"].items():
            console.print(f"{name} took {factor:.2f} times as long before")
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
