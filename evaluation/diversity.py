"""Distinct answers among a number of samples, without training (paper, Figure 1).

The same number of answers is sampled independently (`parallel`) or in sets, whose answers are
sampled one after another to differ from each other; the distinct answers are counted. Paper: a set
is one response (here `one_response`), and only the prompt asks for distinct answers. We: each
answer may also be a call of its own (`history`), and a duplicate within a set is rejected and
sampled again a bounded number of times, as in training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..agents.engines.base import Engine, SamplingParams
from ..configs.errors import SettingError
from ..configs.schema import SamplingConfig
from ..sampling.dialogue import Dialogue, check_single_answer
from ..sampling.parallel import sample_parallel
from ..sampling.player import Player
from ..sampling.single_pass import sample_single_pass
from ..sampling.trajectory import Task, TrajectoryTree

NUM_ANSWERS = 500
"""Answers sampled in each regime (paper, section 2.2)."""


@dataclass(frozen=True)
class Regime:
    """How answers are sampled."""

    per_set: int
    """Answers of a set; 1 for independent answers."""
    proposer: str = ""
    """How those of a set are made distinct (`sampling.proposer`); empty for what is set."""


REGIMES = {
    "parallel": Regime(1),
    "sequential-5": Regime(5),
    "sequential-10": Regime(10),
    "without-replacement-10": Regime(10, "without_replacement"),
}
"""The regimes by name; the first three are the paper's."""
DEFAULTS = SamplingConfig()
SETS_AT_ONCE = 50
"""Bounds the memory."""
ENOUGH = 100
"""Answers after which a model that gave none that can be read is given up."""


def distinct_counts(answers: Sequence[str | None]) -> list[int]:
    """Count the distinct answers among the first n, for n = 1, 2, ...

    Args:
        answers: canonical answers in the order they were sampled; None, an unreadable one, counts
            as sampled but not as an answer.

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


def draw_sets(
    engine: Engine,
    dialogue: Dialogue,
    env_id: str,
    per_set: int,
    params: SamplingParams,
    num_answers: int = NUM_ANSWERS,
    sampling: SamplingConfig = DEFAULTS,
    watch: Callable[[int], None] = lambda num_answers: None,
) -> list[list[str | None]]:
    """Sample sets of answers to one puzzle until there are enough answers.

    Every round of sets adds answers, and a set ends after `max_retries` + 1 duplicates in a row: it
    takes at most N (`max_retries` + 2) calls.

    Args:
        engine: generates the responses.
        dialogue: reads them.
        env_id: the environment's id.
        per_set: answers per set; 1 for independent answers.
        params: sampling parameters; the seed determines all samples.
        num_answers: N, the total number of answers.
        sampling: how the answers of a set are made distinct (`proposer`, `max_retries`).
        watch: called with the number of answers so far.

    Returns:
        The canonical answers of each set in the order they were sampled, None for an unreadable
        one; N in total, so the last set may be cut. A set has fewer answers than `per_set` where a
        duplicate was dropped, so there may be more than ceil(N / per_set) sets.

    Raises:
        SettingError: if an episode has several turns, the environment cannot be opened, or not one
            of the first `ENOUGH` answers can be read.
    """
    check_single_answer("single_pass", dialogue.max_turns)
    cfg = replace(
        sampling,
        name="parallel" if per_set == 1 else "single_pass",
        num_proposals=per_set,
        max_trajectories=1,
    )
    sample = sample_parallel if per_set == 1 else sample_single_pass
    player = Player(engine, dialogue, params, np.random.default_rng(params.seed))
    task = Task(env_id, dialogue.evaluation_seeds("test", 1)[0])
    sets: list[list[str | None]] = []
    num_missing = num_answers
    while num_missing > 0:
        tasks = [task] * min(SETS_AT_ONCE, -(-num_missing // per_set))
        trees = player.run(sample, tasks, cfg)
        for tree in trees:
            answers = [turn.action for turn in tree.turns][:num_missing]
            sets.append(answers)
            num_missing -= len(answers)
        _check_answers(trees, sets, min(ENOUGH, num_answers))
        watch(num_answers - num_missing)
    return sets


def _check_answers(
    trees: Sequence[TrajectoryTree], sets: Sequence[Sequence[str | None]], enough: int
) -> None:
    """Refuse to go on without answers, or after enough of them that cannot be read.

    Args:
        trees: those of the last round.
        sets: the answers of all rounds.
        enough: answers to wait for before a model is given up.
    """
    env_id = trees[0].task.env_id
    turns = [turn for tree in trees for turn in tree.turns]
    if not turns:
        reason = trees[0].error or "the engine gave no response"
        raise SettingError(f"{env_id} gave no answer to count: {reason}.")
    answers = [answer for one in sets for answer in one]
    if len(answers) >= enough and not any(answer is not None for answer in answers):
        raise SettingError(
            f"{env_id}: not one of {len(answers)} answers can be read, so there is nothing to "
            f"count; the last is {turns[-1].response[:80]!r}. Teach the model the form of an "
            "answer with sesa-agent warm-start, or name another one with --model."
        )
