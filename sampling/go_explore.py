"""An archive of states to return to: Go-Explore with the policy as the explorer."""

import math
from collections.abc import Hashable, Sequence

import numpy as np

from ..configs.schema import SamplingConfig
from ..environments import state_key
from .forking import ForkedTree, is_over, sample_forked
from .player import Player
from .trajectory import ROOT, Task, TrajectoryTree

NUM_ROUNDS = 4
"""Rounds that U is split into: one from the start, then three from the archive."""


async def sample_go_explore(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Keep an archive of the states that were reached, return to rare ones and play on from there.

    Go-Explore (arXiv:2004.12919): a state is chosen with a weight of 1 / sqrt(times it was reached
    + 1), the environment is restored to it, and exploration goes on from there. Needs `state_key`.
    Paper: random actions, cells that join similar states, and a policy learned afterwards from the
    best trajectories. We: the policy's own responses (as arXiv:2405.15143 does with an untrained
    model), exact states, an archive for each puzzle and step, and training on all trajectories that
    were found. A state that was reached by several ways keeps the shortest. U is played in four
    rounds, the first one from the start.
    """
    return await sample_forked(tasks, player, cfg, _grow_go_explore)


async def _grow_go_explore(forked: ForkedTree, player: Player, cfg: SamplingConfig) -> None:
    archive = Archive(forked)
    left = cfg.max_trajectories
    size = math.ceil(left / NUM_ROUNDS)
    parents = [ROOT] * min(size, left)
    while parents:
        left -= len(parents)
        played = await forked.play(parents, player, cfg, is_last=not left)
        if left:
            for nodes in played:
                for node in nodes:
                    archive.reach(node)
        parents = archive.choose(min(size, left), player.rng)


class Archive:
    """The states that the trajectories of a puzzle passed and can go on from.

    Args:
        forked: the tree, whose environment has a `state_key`.
    """

    def __init__(self, forked: ForkedTree):
        self.forked = forked
        self.turns: dict[Hashable, int] = {state_key(forked.start.env): ROOT}
        """The turn that reached each state in the fewest turns."""
        self.counts: dict[Hashable, int] = dict.fromkeys(self.turns, 0)
        """How often each state was reached, the start not counting its own trajectories."""

    def reach(self, node: int) -> None:
        """Note the state after a turn, unless the game is over there."""
        tree = self.forked.tree
        turn = tree.turns[node]
        if is_over(turn):
            return
        key = state_key(self.forked.after[node].env)
        self.counts[key] = self.counts.get(key, 0) + 1
        known = self.turns.setdefault(key, node)
        if len(tree.path(node)) < len(tree.path(known)):
            self.turns[key] = node

    def weights(self) -> np.ndarray:
        """Probability of each state, in the order of `turns`."""
        weights = np.array([1 / math.sqrt(self.counts[key] + 1) for key in self.turns])
        return weights / weights.sum()

    def choose(self, num: int, rng: np.random.Generator) -> list[int]:
        """Draw the turns to play on from."""
        turns = list(self.turns.values())
        return [turns[place] for place in rng.choice(len(turns), size=num, p=self.weights())]
