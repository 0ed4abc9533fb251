"""Independent rollouts: the RAGEN baseline, and how every policy is evaluated.

A group of U trajectories is a tree that branches at its start only. Nothing makes its members
differ but chance.
"""

from collections.abc import Sequence

import numpy as np

from ..agents.engines.base import Engine, SamplingParams
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, Position
from .proposer import reseeded
from .trajectory import ROOT, Task, TrajectoryTree


def sample_parallel(
    tasks: Sequence[Task],
    engine: Engine,
    dialogue: Dialogue,
    cfg: SamplingConfig,
    params: SamplingParams,
    rng: np.random.Generator,
) -> list[TrajectoryTree]:
    """Play `cfg.max_trajectories` independent episodes of every task, all together.

    Args and returns are those of `grow_trees`. With `fork_noise="shared"` all members of a group
    see the same random numbers of the environment, as in RAGEN. A rollout whose next response
    cannot be had breaks off.
    """
    trees = [TrajectoryTree(task) for task in tasks]
    live: list[tuple[TrajectoryTree, int, Position, int | None]] = []
    for tree in trees:
        start = dialogue.open(tree)
        if start is None:
            continue
        for member in range(cfg.max_trajectories):
            independent = cfg.fork_noise == "independent" and member > 0
            noise = int(rng.integers(2**31)) if independent else None
            live.append((tree, ROOT, start, noise))
    while live:
        prompts = [position.prompt_ids for _, _, position, _ in live]
        completions = engine.generate(prompts, reseeded(params, rng))
        after = []
        for (tree, node, position, noise), completion in zip(live, completions, strict=True):
            if completion.finish_reason == "failed":
                tree.num_failed += 1
                continue
            is_own = node != ROOT  # members share the start alone
            turn, next_position = dialogue.play(position, completion, in_place=is_own, noise=noise)
            tree.num_calls += 1
            child = tree.add(node, turn)
            if not (turn.terminated or turn.truncated):
                after.append((tree, child, next_position, None))
        live = after
    return trees
