"""Whole answers sampled in sequence (paper, section 2.2), for tasks settled by a single answer.

With `proposer=one_response` one reply lists all answers, y_i ~ pi(. | x, y_1, ..., y_{i-1}). It is
sampled answer by answer, so that a duplicate can be dropped and sampled again. Paper: duplicates in
a reply are allowed. We: they are rejected, because policies trained on pi(y_i | x) soon list the
same few answers. The other proposers sample each answer in a separate call.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..configs.schema import SamplingConfig
from .dialogue import check_single_answer
from .player import Player
from .trajectory import Task, TrajectoryTree
from .tree import grow_trees


async def sample_single_pass(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Sample `cfg.num_proposals` distinct answers to every task, all tasks together.

    The answers are children of the root.

    Raises:
        SettingError: if an episode has several turns.
    """
    check_single_answer("single_pass", player.dialogue.max_turns)
    one_layer = replace(cfg, max_trajectories=cfg.num_proposals, merge_states="off")
    return await grow_trees(tasks, player, one_layer)
