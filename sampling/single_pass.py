"""Whole answers, one after another (paper, section 2.2), for tasks that one answer settles.

With `proposer=one_response` they stand in one reply, y_i ~ pi(. | x, y_1, ..., y_{i-1}), which is
drawn answer by answer, so that a repetition can be taken back and drawn again. Paper: nothing keeps
the answers of a reply apart. We: repetitions are refused, because lists that are trained as
pi(y_i | x) come to repeat a few answers. The other proposers draw the same answers in separate
calls.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..agents.engines.base import Engine, SamplingParams
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, check_single_answer
from .trajectory import Task, TrajectoryTree
from .tree import grow_trees


def sample_single_pass(
    tasks: Sequence[Task],
    engine: Engine,
    dialogue: Dialogue,
    cfg: SamplingConfig,
    params: SamplingParams,
    rng: np.random.Generator,
) -> list[TrajectoryTree]:
    """Draw `cfg.num_proposals` distinct answers to every task, all tasks together.

    Args and returns are those of `grow_trees`: an answer is a child of the start.

    Raises:
        SettingError: if an episode has several turns.
    """
    check_single_answer("single_pass", dialogue.max_turns)
    whole = replace(cfg, max_trajectories=cfg.num_proposals, merge_states="off")
    return grow_trees(tasks, engine, dialogue, whole, params, rng)
