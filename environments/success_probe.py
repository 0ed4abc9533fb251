"""A few random episodes at the start of a run, to see whether the guess of success can be right.

The guess is that a game which ends with a positive reward is won (`success.py`). It says nothing
where every step has a positive reward, as in CartPole, where falling would count as won; and it is
never right where all rewards are costs.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .adapters.guard import EnvError
from .text_env import text_spec

NUM_EPISODES = 3
"""Number of random episodes."""
MAX_STEPS = 200
"""Number of steps after which an episode is given up."""
MAX_SECONDS = 2.0
"""No step begins later than this."""
NUM_ALIKE = 3
"""Number of positive rewards before the end of an episode that refute the guess."""


@dataclass(frozen=True)
class ProbedEpisode:
    """The rewards of an episode of random play."""

    rewards: tuple[float, ...]
    terminated: bool


def probe_success(env: Any, seconds: float = MAX_SECONDS) -> list[ProbedEpisode] | None:
    """Play at random.

    Args:
        env: a guarded environment, in this process or in a worker.
        seconds: when to stop.

    Returns:
        The episodes, without those in which the environment failed; None if the environment says
        itself what success is.

    Raises:
        EnvError: if the first step of every episode failed.
    """
    end = time.monotonic() + seconds
    spec, read = text_spec(env), env.canonical_action
    listed = spec.listed_actions() if spec else []
    actions = [text for text in listed if read is None or read(text) is not None]
    episodes: list[ProbedEpisode] = []
    failure, num_failed = None, 0
    for seed in range(NUM_EPISODES if actions else 0):
        rng, rewards, terminated = random.Random(seed), list[float](), False
        try:
            env.reset(seed=seed)
            while len(rewards) < MAX_STEPS and time.monotonic() < end:
                _, reward, terminated, truncated, _ = env.step(rng.choice(actions))
                rewards.append(reward)
                if env.reports_success:
                    return None
                if terminated or truncated:
                    break
        except EnvError as error:  # a later one is reported by the run, where it happens
            failure, num_failed = error, num_failed + (not rewards)
            continue
        episodes.append(ProbedEpisode(tuple(rewards), terminated))
    if failure is not None and num_failed == NUM_EPISODES:
        raise failure
    return episodes


def refute_guess(episodes: Sequence[ProbedEpisode]) -> str:
    """Say why a positive reward at the end cannot mean success; empty if it may.

    >>> refute_guess([ProbedEpisode((1.0, 1.0, 1.0, 1.0), terminated=True)])
    'in random play every reward was positive (1 to 1)'
    >>> refute_guess([ProbedEpisode((-1.0, -1.0), terminated=True)])
    'in random play no reward was positive (-1 to -1), not even at the end of a game'
    >>> refute_guess([ProbedEpisode((0.0, 0.0, 1.0), terminated=True)])
    ''
    """
    before_end = [r for e in episodes for r in e.rewards[: len(e.rewards) - e.terminated]]
    last = [e.rewards[-1] for e in episodes if e.terminated and e.rewards]
    rewards = [*before_end, *last]
    span = f"{min(rewards):g} to {max(rewards):g}" if rewards else ""
    if len(before_end) >= NUM_ALIKE and min(rewards) > 0:
        return f"in random play every reward was positive ({span})"
    if not before_end or not last or max(rewards) > 0 or min(rewards) == 0:
        return ""
    # A lost game costs more than a step does; one that ends at its goal does not.
    if max(last) < min(before_end):
        return ""
    return f"in random play no reward was positive ({span}), not even at the end of a game"
