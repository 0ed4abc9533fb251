"""Counts what trees of different shapes find per policy call, before training.

    python benchmarks/learning/tree_shape.py --env sokoban

One rollout on training puzzles with the bundled model for every proposer, G and U: the reason for
the defaults of `sesa`.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.environments.splits import training_seeds
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task, TrajectoryTree
from sesa_agent.sampling.tree import grow_trees
from sesa_agent.training.advantages import best_credit, leaf_returns
from sesa_agent.training.setup import (
    build_dialogue,
    build_engine,
    build_policy,
    resolve_auto,
    sampling_params,
)

SHAPES = [(3, 6), (3, 8), (3, 16), (4, 8), (4, 16)]
"""G and U."""


@dataclass
class Found:
    """The results of trees of one shape."""

    proposer: str
    num_proposals: int
    max_trajectories: int
    solved_share: float
    """Share of puzzles with at least one success."""
    calls_per_puzzle: float
    solved_per_100_calls: float
    rewarded_per_100_calls: float
    """Turns with a positive advantage, except first proposals, per 100 calls."""


def measure(cfg: Config, num_puzzles: int) -> list[Found]:
    """Grow trees of every shape on the same puzzles."""
    policy = build_policy(cfg)
    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    tasks = [Task(cfg.env.id, seed) for seed in training_seeds(0, 0, num_puzzles)]
    found = []
    for proposer in ("without_replacement", "history"):
        for num_proposals, cap in SHAPES:
            cfg.sampling.proposer = proposer
            cfg.sampling.num_proposals, cfg.sampling.max_trajectories = num_proposals, cap
            rng = np.random.default_rng(0)
            params = sampling_params(cfg.engine)
            trees = Player(engine, dialogue, params, rng).run(grow_trees, tasks, cfg.sampling)
            found.append(describe(trees, cfg))
    return found


def _positive(tree: TrajectoryTree, cfg: Config) -> np.ndarray:
    return best_credit(tree, leaf_returns(tree, 0.0), cfg.loss).positive


def describe(trees: list[TrajectoryTree], cfg: Config) -> Found:
    """Count successes and rewarded turns of one rollout."""
    calls = sum(tree.num_calls for tree in trees)
    solved = sum(tree.success for tree in trees)
    rewarded = sum(
        turn.proposal_index > 0 and positive > 0
        for tree in trees
        for turn, positive in zip(
            tree.turns, best_credit(tree, leaf_returns(tree, 0.0), cfg.loss).positive, strict=True
        )
    )
    return Found(
        cfg.sampling.proposer,
        cfg.sampling.num_proposals,
        cfg.sampling.max_trajectories,
        solved / len(trees),
        calls / len(trees),
        100 * solved / calls,
        100 * float(rewarded) / calls,
    )


def main() -> None:
    """Measure, write results/tree_shape.json, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--env", default="sokoban")
    parser.add_argument("--puzzles", type=int, default=96)
    args = parser.parse_args()
    found = measure(resolve_auto(load_config(args.env)), args.puzzles)
    values = {"env": args.env, "puzzles": args.puzzles, "shapes": [asdict(row) for row in found]}
    text = json.dumps(values, indent=1) + "\n"
    Path("results/tree_shape.json").write_text(text, encoding="utf-8")
    table = Table(title=f"{args.env}: {args.puzzles} puzzles, untrained")
    for name in ("proposer", "G", "U", "solved", "calls", "solved / 100", "rewarded / 100"):
        table.add_column(name)
    for row in found:
        shape = (row.proposer, str(row.num_proposals), str(row.max_trajectories))
        rates = (row.solved_share, row.calls_per_puzzle, row.solved_per_100_calls)
        table.add_row(*shape, *(f"{value:.2f}" for value in (*rates, row.rewarded_per_100_calls)))
    Console().print(table)


if __name__ == "__main__":
    main()
