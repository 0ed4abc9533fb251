"""Success of a policy: ordinary decoding under the plain prompt, one response per decision.

Paper, section 3.2: inference proceeds as with any RL-trained model; no proposals, no history of
candidates.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..agents.engine import Engine, SamplingParams
from ..configs.schema import SamplingConfig
from ..sampling.dialogue import Dialogue
from ..sampling.parallel import sample_parallel
from ..sampling.trajectory import Task
from .statistics import mean_pass_at_k, wilson_interval

PUZZLES_AT_ONCE = 1024
"""Bounds the memory of an evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """How often a policy succeeds."""

    num_episodes: int
    """Puzzles, N."""
    num_samples: int
    """Independent attempts at each puzzle, n."""
    temperature: float
    success_rate: float
    """Mean over puzzles and attempts."""
    low: float
    """95 % Wilson interval of the success rate, counting puzzles and not attempts, which are not
    independent."""
    high: float
    pass_at_k: dict[int, float]
    """Unbiased pass@k for k = 1, 2, 4, ... up to n."""
    readable_rate: float
    """Share of responses that hold an action."""
    legal_rate: float
    """Share of responses whose actions the rules allowed."""
    mean_turns: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dump`."""
        return asdict(self)


def evaluate(
    engine: Engine,
    dialogue: Dialogue,
    env_id: str,
    seeds: Sequence[int],
    params: SamplingParams,
    num_samples: int = 1,
) -> Evaluation:
    """Play every puzzle `num_samples` times and count.

    Args:
        engine: draws the responses.
        dialogue: plays them.
        env_id: the environment's id.
        seeds: puzzles, N.
        params: temperature, limits and seed of the draws.
        num_samples: attempts at each puzzle, n, with random numbers of their own.
    """
    cfg = SamplingConfig(
        name="parallel", max_trajectories=num_samples, fork_noise="independent", num_proposals=1
    )
    rng = np.random.default_rng(params.seed)
    tasks = [Task(env_id, seed) for seed in seeds]
    trees = []
    for start in range(0, len(tasks), PUZZLES_AT_ONCE):
        part = tasks[start : start + PUZZLES_AT_ONCE]
        trees += sample_parallel(part, engine, dialogue, cfg, params, rng)
    wins = np.array([sum(t.success for t in tree.trajectories()) for tree in trees])  # (N,)
    turns = [turn for tree in trees for turn in tree.turns]
    rate = float(wins.mean() / num_samples)
    low, high = wilson_interval(rate * len(tasks), len(tasks))
    ks = [2**power for power in range(num_samples.bit_length())]
    return Evaluation(
        num_episodes=len(tasks),
        num_samples=num_samples,
        temperature=params.temperature,
        success_rate=rate,
        low=low,
        high=high,
        pass_at_k={k: mean_pass_at_k(wins, num_samples, k) for k in ks},
        readable_rate=float(np.mean([turn.action is not None for turn in turns])),
        legal_rate=float(np.mean([turn.legal for turn in turns])),
        mean_turns=len(turns) / (len(tasks) * num_samples),
    )
