"""What it costs to draw proposals at once: calls, rounds and time, by how many are drawn.

    python benchmarks/speed/proposals.py [--model FOLDER] [--rounds 3]

The same decisions are filled without replacement with several values of the two constants of
`sampling/distinct.py`: the share of calls that may repeat one another, and how many draws each
draw allows in the next batch. "one by one" draws every proposal alone, with all that is known
excluded; "all at once" draws all that are missing independently; "one pass" draws them without
replacement (`agents/engines/gumbel.py`). All have the same law, so only cost differs.
`--model` adds a model of yours in Countdown, such as one that `sesa-agent warm-start` wrote.
Writes `results/proposals.json`. One thread; times are CPU seconds, and the ways alternate.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.configs.load import load_config
from sesa_agent.environments.splits import training_seeds
from sesa_agent.sampling import distinct
from sesa_agent.sampling.player import Player, together
from sesa_agent.sampling.proposer import Decision, propose
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.setup import build_dialogue, build_policy, resolve_auto, sampling_params

RESULTS = Path(__file__).parents[2] / "results" / "proposals.json"
WAYS = {
    "one by one": (0.0, 1),
    "share .02, growth 1": (0.02, 1),
    "share .05, growth 1": (0.05, 1),
    "share .1, growth 1": (0.1, 1),
    "share .2, growth 1": (0.2, 1),
    "share .05, growth 2": (0.05, 2),
    "share .05, growth 4": (0.05, 4),
    "all at once": (1e9, 10**6),
    "one pass": (0.0, 0),
}
"""`REPEATED_SHARE` and `GROWTH` of each way; no growth for the engine's own way."""
GAMES = {
    "sesa-tiny, Sokoban, G = 3": ("sokoban", [], 48, 3),
    "sesa-tiny, Countdown, G = 4": ("countdown", [], 32, 4),
    "sesa-tiny, Countdown, G = 16": ("countdown", [], 8, 16),
    "sesa-tiny-answers, Path Exploration, G = 24": ("path_exploration", [], 5, 24),
}
"""Environment, settings, decisions and G of each case."""


@dataclass(frozen=True)
class Cost:
    """Of all decisions of a case together."""

    distinct: int
    """Distinct readable actions."""
    unreadable: int
    calls: int
    rounds: int
    """Calls of the engine, one after another."""
    cpu_s: float


class CountingEngine(HFEngine):
    """Counts passes through all tokens."""

    rounds = 0

    def generate(self, *args: Any, **options: Any) -> Any:
        """Generate as usual."""
        self.rounds += 1
        return super().generate(*args, **options)

    def generate_distinct(self, *args: Any, **options: Any) -> Any:
        """Generate as usual."""
        self.rounds += 1
        return super().generate_distinct(*args, **options)


class BatchEngine(CountingEngine):
    """Has to draw in batches, as other engines."""

    generate_distinct: Any = None


class Case:
    """Decisions at the start of some puzzles."""

    def __init__(self, game: str, words: Sequence[str], num_tasks: int, width: int):
        words = ["model.device=cpu", "engine.name=hf", *words]
        self.cfg = resolve_auto(load_config(game, "sesa", words))
        self.policy = build_policy(self.cfg)
        self.dialogue = build_dialogue(self.cfg, self.policy)
        self.params = sampling_params(self.cfg.engine, stop=self.dialogue.style.stop)
        self.width = width
        tasks = [Task(self.cfg.env.id, seed) for seed in training_seeds(0, 0, num_tasks)]
        self.positions = [self.dialogue.start(task) for task in tasks]

    def fill(self, share: float, growth: int, seed: int) -> Cost:
        """Fill all decisions in one way."""
        engine = (BatchEngine if growth else CountingEngine)(self.policy)
        player = Player(engine, self.dialogue, self.params, np.random.default_rng(seed))
        decisions = [Decision(position, self.width) for position in self.positions]
        sampling = replace(self.cfg.sampling, proposer="without_replacement")
        work = [propose(decision, player, sampling) for decision in decisions]
        with patch.multiple(distinct, REPEATED_SHARE=share, GROWTH=growth):
            start = time.process_time()
            player.drive(together(*work))
            seconds = time.process_time() - start
        return Cost(
            distinct=sum(len(decision.readable) for decision in decisions),
            unreadable=sum(decision.actions.count(None) for decision in decisions),
            calls=engine.usage.calls,
            rounds=engine.rounds,
            cpu_s=seconds,
        )


def measure(case: Case, num_rounds: int) -> dict[str, list[Cost]]:
    """Fill the decisions in all ways, alternately."""
    case.fill(*WAYS["all at once"], seed=0)  # warm-up
    costs: dict[str, list[Cost]] = {name: [] for name in WAYS}
    for seed in range(num_rounds):
        for name, way in WAYS.items():
            costs[name].append(case.fill(*way, seed))
    return costs


def summary(costs: Sequence[Cost], baseline: Sequence[Cost]) -> dict[str, float]:
    """Means, and the time relative to drawing one by one, round by round."""
    pairs = zip(costs, baseline, strict=True)
    return {
        "distinct": statistics.mean(cost.distinct for cost in costs),
        "unreadable": statistics.mean(cost.unreadable for cost in costs),
        "calls_per_distinct": sum(c.calls for c in costs) / max(1, sum(c.distinct for c in costs)),
        "rounds": statistics.mean(cost.rounds for cost in costs),
        "cpu_by_one_by_one": statistics.median(a.cpu_s / b.cpu_s for a, b in pairs),
    }


def show(name: str, ways: dict[str, dict[str, float]]) -> Table:
    """A table of one case."""
    table = Table(name, "distinct", "unreadable", "calls / distinct", "rounds", "CPU time")
    for way, row in ways.items():
        table.add_row(
            way,
            f"{row['distinct']:.1f}",
            f"{row['unreadable']:.1f}",
            f"{row['calls_per_distinct']:.2f}",
            f"{row['rounds']:.1f}",
            f"{row['cpu_by_one_by_one']:.2f}",
        )
    return table


def main() -> None:
    """Measure, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", help="a model folder, for Countdown with 3 numbers up to 10")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    games = dict(GAMES)
    if args.model:
        words = [f"model.path={args.model}", "model.dtype=float32", "engine.max_new_tokens=32"]
        words += ["env.options={max_number: 10, min_count: 3, max_count: 3}"]
        games["a model of yours, Countdown with 3 numbers, G = 16"] = ("countdown", words, 4, 16)
    results, console = {}, Console()
    for name, (game, words, num_tasks, width) in games.items():
        costs = measure(Case(game, words, num_tasks, width), args.rounds)
        ways = {way: summary(found, costs["one by one"]) for way, found in costs.items()}
        results[name] = {
            "decisions": num_tasks,
            "ways": ways,
            "rounds": {way: [asdict(cost) for cost in found] for way, found in costs.items()},
        }
        console.print(show(name, ways))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
