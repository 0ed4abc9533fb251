"""Success of a policy with ordinary sampling from the plain prompt, one response per decision.

Paper, section 3.2: inference works as with any RL-trained model; no proposals, no history of
candidates.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from ..agents.engines.base import Engine, SamplingParams
from ..agents.parsing import first_action
from ..configs.errors import SettingError
from ..configs.schema import SamplingConfig
from ..sampling.dialogue import Dialogue
from ..sampling.parallel import sample_parallel
from ..sampling.player import Player
from ..sampling.trajectory import ROOT, Task, TrajectoryTree
from ..training.distributed import all_gather, own_rng, parallel_map
from ..training.metrics import RATIO_K
from .statistics import coverage_at_k, mean_pass_at_k, t_interval, wilson_interval

EPISODES_AT_ONCE = 1024
"""Bounds the memory of an evaluation; all attempts at a puzzle are in the same batch."""


@dataclass(frozen=True)
class Evaluation:
    """How often a policy succeeds."""

    num_episodes: int
    """N: number of puzzles, without those that are left out."""
    num_samples: int
    """n: independent attempts at each puzzle."""
    temperature: float
    success_rate: float
    """Mean over puzzles and attempts."""
    wins: tuple[int, ...]
    """Successful attempts at each puzzle, (N,), in the order of the seeds, so that policies that
    played the same puzzles can be compared puzzle by puzzle."""
    low: float
    """95 % Wilson interval of the success rate over puzzles; attempts at the same puzzle are not
    independent."""
    high: float
    pass_at_k: dict[int, float]
    """Unbiased pass@k by k; by default for k = 1, 2, 4, ... up to n, and n itself."""
    pass_at_k_interval: dict[int, tuple[float, float]]
    """95 % Wilson interval of each pass@k, with each puzzle as a Bernoulli trial. Below k = n it is
    too wide: the estimate for a puzzle is a mean over subsets, with less variance."""
    coverage_at_k: dict[int, float]
    """Unbiased Coverage@k for the same k, mean over puzzles; empty if the environment does not say
    how many answers succeed (`num_targets`). A target is identified by its canonical action."""
    pass_ratio: float | None
    """pass@k / pass@1 with k = min(n, 16), at least 1: how much repeated attempts add. None with
    one attempt, or if none succeeds."""
    distinct_answers: float
    """Number of distinct first actions among the n attempts at a puzzle, mean over puzzles, from 1
    to n; responses without an action count as one."""
    readable_rate: float
    """Share of responses with a readable action."""
    legal_rate: float
    """Share of responses whose actions the rules allow."""
    mean_turns: float
    left_out: tuple[int, ...] = ()
    """Seeds of the puzzles that are not counted: a call of the engine failed during an attempt (the
    completed attempts would favour short episodes), or the environment could not open the
    puzzle."""
    num_env_errors: int = 0
    """Failures of the environment. An attempt that ends with one counts as a failure."""
    mean_return: float | None = None
    """Sum of the rewards of an attempt, mean over puzzles and attempts; None in older files."""
    return_low: float | None = None
    """95 % t interval of the mean return over puzzles; None with one puzzle."""
    return_high: float | None = None
    unreadable_response: str = ""
    """One response without a readable action; empty if there is none."""
    cut_rate: float | None = None
    """Share of responses that are as long as `engine.max_new_tokens` allows."""
    num_cut_prompts: int = 0
    """Prompts that were too long and left something out."""
    answer_entropy: float | None = None
    """Entropy of a response in nats, mean over decisions: e to its power is the number of equally
    likely responses that would vary as much. Estimated by the mean of -log p over the sampled
    ones, at `temperature`; None if the engine gives no log-probabilities."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`; `wins` as text on one line, "1 0 1"."""
        return asdict(self) | {"wins": " ".join(map(str, self.wins))}


@dataclass(frozen=True)
class _Tally:
    """The outcomes of the attempts at one puzzle."""

    hits: tuple[int, ...]
    """Number of successful attempts with each distinct answer."""
    num_distinct: int
    num_turns: int
    num_readable: int
    num_legal: int
    mean_return: float
    num_cut: int
    """Number of responses that are as long as allowed."""
    unreadable_response: str
    """One response without an action; empty if there is none."""
    num_cut_prompts: int = 0
    surprise: float | None = None
    """Sum of -log p over the responses, in nats; None if the engine does not give it."""


def evaluate(
    engine: Engine,
    dialogue: Dialogue,
    env_id: str,
    seeds: Sequence[int],
    params: SamplingParams,
    num_samples: int = 1,
    ks: Sequence[int] = (),
) -> Evaluation:
    """Play every puzzle `num_samples` times and measure success.

    Args:
        engine: generates the responses.
        dialogue: plays them.
        env_id: the environment's id.
        seeds: the N puzzles.
        params: temperature, limits and seed of sampling.
        num_samples: n, independent attempts at each puzzle.
        ks: values of k for pass@k and Coverage@k, from 1 to n; by default the powers of two up to n
            and n itself.

    Raises:
        ValueError: if an argument is outside its range, or more distinct answers succeed than the
            environment's `num_targets`.
        SettingError: if every puzzle was left out because the engine or the environment failed.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
    ks = sorted({*(ks or default_ks(num_samples))})
    if not 1 <= ks[0] <= ks[-1] <= num_samples:
        raise ValueError(f"ks must be from 1 to num_samples ({num_samples}), got {ks}.")
    errors: list[str] = []
    played = parallel_map(
        lambda tasks: _play(engine, dialogue, tasks, params, num_samples, errors),
        [Task(env_id, seed) for seed in seeds],
        encode=lambda tally: tally and asdict(tally),
        decode=lambda values: values and _Tally(**{**values, "hits": tuple(values["hits"])}),
    )
    errors = [error for found in all_gather(errors) for error in found]
    tallies = [tally for tally in played if tally]
    if not tallies:
        raise SettingError("No puzzle could be played to its end: " + _failure(engine, errors))
    found = _evaluation(tallies, num_samples, params.temperature, ks, dialogue.num_targets)
    left_out = tuple(seed for seed, tally in zip(seeds, played, strict=True) if not tally)
    return replace(found, left_out=left_out, num_env_errors=len(errors))


def _evaluation(
    tallies: Sequence[_Tally],
    num_samples: int,
    temperature: float,
    ks: Sequence[int],
    num_targets: int,
) -> Evaluation:
    """Compute the statistics of all puzzles; with 0 targets their number is unknown."""
    num_puzzles, num_turns = len(tallies), sum(tally.num_turns for tally in tallies)
    wins = np.array([sum(tally.hits) for tally in tallies])  # (N,)
    passes = {k: mean_pass_at_k(wins, num_samples, k) for k in ks}
    rate = float(wins.mean() / num_samples)
    low, high = _interval(rate, num_puzzles)
    mean_return, *ends = t_interval([tally.mean_return for tally in tallies])
    return_low, return_high = ends if num_puzzles > 1 else (None, None)
    return Evaluation(
        num_episodes=num_puzzles,
        num_samples=num_samples,
        temperature=temperature,
        success_rate=rate,
        wins=tuple(wins.tolist()),
        low=low,
        high=high,
        pass_at_k=passes,
        pass_at_k_interval={k: _interval(value, num_puzzles) for k, value in passes.items()},
        coverage_at_k=_coverage(tallies, num_samples, ks, num_targets) if num_targets else {},
        pass_ratio=_pass_ratio(wins, num_samples),
        distinct_answers=float(np.mean([tally.num_distinct for tally in tallies])),
        readable_rate=sum(tally.num_readable for tally in tallies) / num_turns,
        legal_rate=sum(tally.num_legal for tally in tallies) / num_turns,
        mean_turns=num_turns / (num_puzzles * num_samples),
        mean_return=mean_return,
        return_low=return_low,
        return_high=return_high,
        unreadable_response=next(
            (t.unreadable_response for t in tallies if t.unreadable_response), ""
        ),
        cut_rate=sum(tally.num_cut for tally in tallies) / num_turns,
        num_cut_prompts=sum(tally.num_cut_prompts for tally in tallies),
        answer_entropy=_mean_surprise(tallies),
    )


def _mean_surprise(tallies: Sequence[_Tally]) -> float | None:
    """The mean of -log p over all responses; None if any of it is unknown."""
    known = [tally.surprise for tally in tallies if tally.surprise is not None]
    num_turns = sum(tally.num_turns for tally in tallies)
    return sum(known) / num_turns if len(known) == len(tallies) else None


def default_ks(num_samples: int) -> list[int]:
    """The powers of two up to `num_samples`, and `num_samples` itself.

    >>> default_ks(12)
    [1, 2, 4, 8, 12]
    """
    powers = [2**power for power in range(num_samples.bit_length())]
    return powers if powers[-1] == num_samples else [*powers, num_samples]


def _play(
    engine: Engine,
    dialogue: Dialogue,
    tasks: Sequence[Task],
    params: SamplingParams,
    num_samples: int,
    errors: list[str],
) -> list[_Tally | None]:
    """Play every task `num_samples` times, in batches; None for a task that is left out.

    Appends failures of the environment to `errors`.
    """
    cfg = SamplingConfig(
        name="parallel", max_trajectories=num_samples, fork_noise="independent", num_proposals=1
    )
    player = Player(engine, dialogue, params, own_rng(params.seed))
    at_once = max(1, EPISODES_AT_ONCE // num_samples)
    tallies: list[_Tally | None] = []
    limit = params.max_new_tokens
    for start in range(0, len(tasks), at_once):
        part = tasks[start : start + at_once]
        trees = player.run(sample_parallel, part, cfg)
        actions_per_turn = dialogue.style.actions_per_turn
        tallies += [_tally(tree, actions_per_turn, limit) for tree in trees]
        errors += [error for tree in trees for error in tree.env_errors]
    return tallies


def _failure(engine: Engine, errors: Sequence[str]) -> str:
    """Say why no puzzle was played to its end."""
    if errors:
        return f"the environment failed {len(errors)} times, the first time with: {errors[0]}."
    usage = engine.usage
    return f"{usage.failed_calls} calls failed, the last with {usage.last_failure}."


def _tally(tree: TrajectoryTree, actions_per_turn: int, max_new_tokens: int) -> _Tally | None:
    if tree.num_failed or not len(tree):
        return None
    firsts = {tree.turns[node].action for node in tree.children()[ROOT]}
    paths = list(tree.trajectories())
    # The answer that succeeded: a correct one ends the game, so later ones were not played.
    hits = Counter(
        first_action(path.turns[-1].action or "", actions_per_turn)
        for path in paths
        if path.success
    )
    unreadable = (turn.response for turn in tree.turns if turn.action is None)
    has_logprobs = all(len(t.sampling_logprobs) == len(t.response_ids) for t in tree.turns)
    return _Tally(
        hits=tuple(hits.values()),
        num_distinct=len(firsts),
        num_turns=len(tree),
        num_readable=sum(turn.action is not None for turn in tree.turns),
        num_legal=sum(turn.legal for turn in tree.turns),
        mean_return=fmean(path.episode_return for path in paths),
        num_cut=sum(len(turn.response_ids) >= max_new_tokens for turn in tree.turns),
        unreadable_response=next(unreadable, ""),
        num_cut_prompts=tree.num_cut_prompts,
        surprise=-sum(sum(t.sampling_logprobs) for t in tree.turns) if has_logprobs else None,
    )


def _coverage(
    tallies: Sequence[_Tally], num_samples: int, ks: Sequence[int], num_targets: int
) -> dict[int, float]:
    """Coverage@k by k, mean over puzzles."""
    return {
        k: float(np.mean([coverage_at_k(t.hits, num_samples, k, num_targets) for t in tallies]))
        for k in ks
    }


def _pass_ratio(wins: np.ndarray, num_samples: int) -> float | None:
    if num_samples == 1 or not wins.any():
        return None
    k = min(num_samples, RATIO_K)
    return mean_pass_at_k(wins, num_samples, k) / mean_pass_at_k(wins, num_samples, 1)


def _interval(rate: float, num_puzzles: int) -> tuple[float, float]:
    return wilson_interval(rate * num_puzzles, num_puzzles)
