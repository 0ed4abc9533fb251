"""Whole answers, one after another (paper, section 2.2), for tasks that one answer settles.

With `proposer=one_response` they stand in one reply, y_i ~ pi(. | x, y_1, ..., y_{i-1}), which is
drawn answer by answer, so that a repetition can be taken back and drawn again. Paper: nothing keeps
the answers of a reply apart. We: repetitions are refused, because lists that are trained as
pi(y_i | x) come to repeat a few answers. The other proposers draw the same answers in separate
calls.
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

    An answer is a child of the start.

    Raises:
        SettingError: if an episode has several turns.
    """
    check_single_answer("single_pass", player.dialogue.max_turns)
    whole = replace(cfg, max_trajectories=cfg.num_proposals, merge_states="off")
    return await grow_trees(tasks, player, whole)
