"""Self-imitation: rare good trajectories are trained on again for a few steps (SPEAR).

The buffer is part of a run's state: checkpoints hold it, so that a resumed run is the run that was
not stopped. Replays cost no calls, tokens or environment steps, but seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..configs.schema import LossConfig
from ..sampling.trajectory import ROOT, TrajectoryTree
from .credit import Credit, group_advantages, leaf_credit
from .distributed import gather_lists

MIN_ADVANTAGE = 1.0
"""Trajectories with a larger advantage, in standard deviations of their group, are kept."""
MAX_AGE = 5
"""Steps for which they are."""
BUFFER_SIZE = 2048
"""Most trajectories that are kept, the latest ones."""
NUM_BASELINES = 2048
"""Latest group means whose median is the baseline."""
RAMP = 2 / 3
"""Share of the run over which `loss.replay_coef` rises from 0; the source has 100 to 200 steps."""


@dataclass(frozen=True)
class Replay:
    """A trajectory to train on again."""

    tree: TrajectoryTree
    """It alone, as a tree of one branch."""
    episode_return: float
    step: int
    """When it was sampled."""

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, ready for `json.dump`."""
        return {**vars(self), "tree": self.tree.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Replay":
        """Rebuild a replay from `to_json`, exactly."""
        return cls(**{**data, "tree": TrajectoryTree.from_json(data["tree"])})


@dataclass
class ReplayBuffer:
    """Good trajectories of the latest steps, and the mean returns of the latest groups."""

    replays: list[Replay] = field(default_factory=list)
    means: list[float] = field(default_factory=list)

    @property
    def baseline(self) -> float:
        """The median of the latest group means."""
        return float(np.median(self.means)) if self.means else 0.0

    def add(
        self,
        trees: Sequence[TrajectoryTree],
        returns: Sequence[np.ndarray],
        cfg: LossConfig,
        step: int,
    ) -> None:
        """Keep the good trajectories of a step, and forget old ones.

        Args:
            trees: this rank's groups; every rank keeps the good trajectories of all.
            returns: of the leaves of each, shape (num_leaves,).
            cfg: `group_std`.
            step: their number.
        """
        replays = []
        for tree, values in zip(trees, returns, strict=True):
            advantages = group_advantages(values, kind=cfg.group_std)
            for leaf, value, advantage in zip(tree.leaves(), values, advantages, strict=True):
                if advantage > MIN_ADVANTAGE:
                    replays.append(Replay(_branch(tree, leaf), float(value), step))
        self.replays += gather_lists(replays, Replay.to_json, Replay.from_json)
        self.means += gather_lists([float(values.mean()) for values in returns], float, float)
        self.means = self.means[-NUM_BASELINES:]
        fresh = [replay for replay in self.replays if replay.step > step - MAX_AGE]
        self.replays = fresh[-BUFFER_SIZE:]

    def credits(
        self, cfg: LossConfig, share_done: float, denominator: float
    ) -> tuple[list[TrajectoryTree], list[Credit]]:
        """What the kept trajectories are to be taught beside a step's own groups.

        A = R - median of the latest group means, where that is above 0 (SPEAR, arXiv:2509.22601:
        the group of a replay was sampled by an older policy, so its own mean says little). Their
        loss is a mean over them, times `replay_coef`, times share_done / `RAMP` up to 1: at first
        there is little to imitate. Paper: the ratio to the policy that sampled them, covariance
        clipping of their tokens, and a reward for using tools, which fades. We: the ratio to the
        policy before the update, as for all other trajectories, and neither of the others.

        Args:
            cfg: `replay_coef` and `aggregate`.
            share_done: of the run before this step, in [0, 1).
            denominator: of the step's own groups, the sum of `Credit.denominator`.

        Returns:
            The trajectories to replay, and their credits, which add nothing to the denominator;
            empty if the step has no groups of its own.
        """
        baseline = self.baseline
        chosen = [replay for replay in self.replays if replay.episode_return > baseline]
        own = [
            leaf_credit(replay.tree, np.array([replay.episode_return - baseline]), cfg)
            for replay in chosen
        ]
        total = sum(credit.denominator for credit in own)
        coef = cfg.replay_coef * min(1.0, share_done / RAMP)
        if not (total and coef and denominator):
            return [], []
        scale = coef * denominator / total
        scaled = [
            replace(
                credit,
                positive=credit.positive * scale,
                weight=credit.weight * scale,
                denominator=0.0,
            )
            for credit in own
        ]
        return [replay.tree for replay in chosen], scaled

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, ready for `json.dump`."""
        return {"replays": [*map(Replay.to_json, self.replays)], "means": self.means}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ReplayBuffer":
        """Rebuild a buffer from `to_json`, exactly."""
        return cls([*map(Replay.from_json, data["replays"])], list(data["means"]))


def _branch(tree: TrajectoryTree, leaf: int) -> TrajectoryTree:
    """The trajectory that ends at a leaf as a tree of its own."""
    turns = list(tree.trajectory(leaf).turns)
    return TrajectoryTree(tree.task, [ROOT, *range(len(turns) - 1)], turns)
