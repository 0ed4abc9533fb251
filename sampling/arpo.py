"""Rollouts that branch where the policy is unsure: ARPO's gate."""

from collections.abc import Sequence

import numpy as np

from ..configs.schema import SamplingConfig
from .forking import ForkedTree, is_over, sample_forked
from .player import Player
from .trajectory import ROOT, Task, TrajectoryTree, Turn

BRANCH_PROBABILITY = 0.5
"""P, the probability of a branch where the policy is as sure as at its first turn."""
ENTROPY_WEIGHT = 0.2
"""w, what each nat of entropy adds to it."""
NUM_TOKENS = 20
"""First tokens of a response whose entropy counts."""


async def sample_arpo(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Play U / 2 trajectories that branch at turns of high entropy, U trajectories in all.

    ARPO (arXiv:2507.19849): after an observation, a trajectory goes on in two ways (a beam of 2)
    with the probability clip(P + w (H - H_0), 0, 1), H being the entropy of the first 20 tokens of
    its response and H_0 that of its first response. When all have ended and fewer than U were
    played, more start from the beginning. Paper: H from the 10 likeliest tokens, divided by the
    logarithm of the vocabulary's size, so that it is at most .2 and the gate hardly more than
    chance. We: the mean of -log p of the sampled tokens, an unbiased estimate of the whole entropy,
    in nats, so that the gate can tell turns apart. Its soft advantages are GRPO's
    over the trajectories, `loss.credit=trajectory`.
    """
    return await sample_forked(tasks, player, cfg, _grow)


async def _grow(forked: ForkedTree, player: Player, cfg: SamplingConfig) -> None:
    tree, num_left = forked.tree, cfg.max_trajectories
    parents = [ROOT] * max(1, num_left // 2)
    num_left -= len(parents)
    while parents:
        onward: list[int] = []
        for nodes in await forked.play(parents, player, cfg, max_turns=1):
            for node in nodes:
                turn, first = tree.turns[node], tree.turns[tree.path(node)[0]]
                if not is_over(turn):
                    onward.append(node)
                is_later = tree.parents[node] != ROOT
                chance = branch_probability(entropy(turn), entropy(first))
                if is_later and num_left and player.rng.random() < chance:
                    onward.append(tree.parents[node])
                    num_left -= 1
        if not onward and num_left:
            onward, num_left = [ROOT] * num_left, 0
        parents = onward


def branch_probability(entropy: float, first_entropy: float) -> float:
    """Probability of a branch at a turn.

    clip(u - w (H - H_0), 0, 1) <= P for u uniform in [0, 1].

    Args:
        entropy: H of the turn, in nats.
        first_entropy: H_0 of the first turn of its trajectory.

    >>> branch_probability(1.5, 0.5)
    0.7
    """
    chance = BRANCH_PROBABILITY + ENTROPY_WEIGHT * (entropy - first_entropy)
    return min(max(chance, 0.0), 1.0)


def entropy(turn: Turn) -> float:
    """Estimate the entropy at the first tokens of a response, in nats per token."""
    return -float(np.mean(turn.sampling_logprobs[:NUM_TOKENS] or (0.0,)))
