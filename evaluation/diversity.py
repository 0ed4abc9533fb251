"""How many different answers a number of draws finds, without any training (paper, Figure 1).

The same number of answers is drawn one a reply (`parallel`) or several a reply, each told apart
from those before it in the reply; then distinct answers are counted along the draws. Paper: nothing
keeps the answers of a reply apart but the question. We: a repetition within a reply is refused and
drawn again a bounded number of times, as in training.
"""

from collections.abc import Sequence

import numpy as np

from ..agents.engine import Engine, SamplingParams
from ..configs.schema import SamplingConfig
from ..sampling.dialogue import Dialogue
from ..sampling.parallel import sample_parallel
from ..sampling.seeds import puzzle_seeds
from ..sampling.single_pass import sample_single_pass
from ..sampling.trajectory import Task

NUM_ANSWERS = 500
"""Answers drawn in each regime (paper, section 2.2)."""
REGIMES = {"parallel": 1, "sequential-5": 5, "sequential-10": 10}
"""Answers in one reply, by the paper's name."""
REPLIES_AT_ONCE = 50
"""Bounds the memory."""


def distinct_counts(answers: Sequence[str | None]) -> list[int]:
    """Count the different answers among the first n, for n = 1, 2, ...

    Args:
        answers: canonical answers in the order they were drawn; None, an unreadable one, counts as
            drawn but never as an answer.

    >>> distinct_counts(["a", "b", None, "a", "c"])
    [1, 2, 2, 2, 3]
    """
    seen: set[str] = set()
    counts = []
    for answer in answers:
        if answer is not None:
            seen.add(answer)
        counts.append(len(seen))
    return counts


def draw_replies(
    engine: Engine,
    dialogue: Dialogue,
    env_id: str,
    per_reply: int,
    params: SamplingParams,
    num_answers: int = NUM_ANSWERS,
) -> list[list[str | None]]:
    """Draw replies to one puzzle until they hold a number of answers.

    Args:
        engine: draws the replies.
        dialogue: reads them.
        env_id: the environment's id.
        per_reply: answers in one reply; 1 for independent replies.
        params: how to draw; the seed fixes all draws.
        num_answers: N, answers in all.

    Returns:
        The canonical answers of each reply in the order they were drawn, None for an unreadable
        one; N in all, so the last reply may be cut. A reply comes short where a repetition was
        given up, so there may be more than ceil(N / per_reply) of them.

    Raises:
        SettingError: if an episode has several turns.
    """
    dialogue.check_single_answer("single_pass")
    cfg = SamplingConfig(
        name="parallel" if per_reply == 1 else "single_pass",
        proposer="one_response",
        num_proposals=per_reply,
        max_trajectories=1,
    )
    sample = sample_parallel if per_reply == 1 else sample_single_pass
    rng = np.random.default_rng(params.seed)
    task = Task(env_id, puzzle_seeds("test", 1)[0])
    replies: list[list[str | None]] = []
    num_missing = num_answers
    while num_missing > 0:
        tasks = [task] * min(REPLIES_AT_ONCE, -(-num_missing // per_reply))
        for tree in sample(tasks, engine, dialogue, cfg, params, rng):
            reply = [turn.action for turn in tree.turns][:num_missing]
            replies.append(reply)
            num_missing -= len(reply)
    return replies
