"""One puzzle that a person plays. All places on the way are kept, so that moves can be undone.

The environment of a place is never stepped; an action is played on a fork of it. So undoing a move
means dropping the last place. In a stochastic game the same move then has the same outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from sesa_agent.environments import close_env, fork, is_deterministic
from sesa_agent.environments.available import AVAILABLE, with_available
from sesa_agent.environments.success import step_success
from sesa_agent.environments.text_env import max_steps


@dataclass(frozen=True)
class Place:
    """A place in a puzzle and how it was reached."""

    env: gymnasium.Env[Any, Any]
    observation: str
    """The environment's text and the line with the available actions, if there are any."""
    available: Sequence[str] = ()
    """Actions that the environment allows now; empty if it does not say."""
    num_actions: int = 0
    episode_return: float = 0.0
    """Sum of the rewards so far."""
    action: str = ""
    """The action that led here; empty at the start."""
    reward: float = 0.0
    """The reward of that action."""
    legal: bool = True
    terminated: bool = False
    truncated: bool = False
    success: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the game or a limit ended the episode here."""
        return self.terminated or self.truncated

    @property
    def actions_left(self) -> int | None:
        """Number of actions before the environment's step limit; None if it has none."""
        limit = max_steps(self.env)
        return None if limit is None else max(limit - self.num_actions, 0)

    def after(self, action: str) -> "Place":
        """The place that an action leads to.

        Raises:
            EnvError: if a guarded environment fails.
        """
        env = fork(self.env)
        observation, reward, terminated, truncated, info = env.step(action)
        available = () if terminated or truncated else info.get(AVAILABLE, ())
        return Place(
            env,
            with_available(observation, available),
            available,
            self.num_actions + 1,
            self.episode_return + float(reward),
            action,
            float(reward),
            bool(info.get("legal", True)),
            bool(terminated),
            bool(truncated),
            step_success(info, float(reward), terminated),
        )


class Puzzle:
    """A puzzle in progress.

    Args:
        env: a new environment.
        seed: the seed of the puzzle.

    Raises:
        EnvError: if a guarded environment fails.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int):
        observation, info = env.reset(seed=seed)
        self.seed = seed
        available = info.get(AVAILABLE, ())
        self.places = [Place(env, with_available(observation, available), available)]
        length = info.get("optimal_length")
        is_exact = isinstance(length, int) and is_deterministic(env)
        self.optimal_length: int | None = length if is_exact else None
        """The smallest number of actions that solves it, if known."""

    @property
    def place(self) -> Place:
        """The current place."""
        return self.places[-1]

    def play(self, action: str) -> None:
        """Play an action."""
        self.places.append(self.place.after(action))

    def undo(self) -> bool:
        """Undo the last action; return whether there was one."""
        if len(self.places) > 1:
            close_env(self.places.pop().env)
            return True
        return False

    def restart(self) -> None:
        """Go back to the start."""
        while self.undo():
            pass

    def close(self) -> None:
        """Close the environments of all places; the puzzle is over then."""
        for place in self.places:
            close_env(place.env)

    def summary(self) -> str:
        """Whether the puzzle is solved, in how many actions, and how many more than needed.

        A puzzle that was quit is not solved.
        """
        spent, fewest = self.place.num_actions, self.optimal_length
        with_actions = f"with {count_actions(spent)}"
        if not self.place.success:
            needed = "" if fewest is None else f" It needs {count_actions(fewest)}."
            return f"Not solved {with_actions}.{needed}"
        if fewest is None:
            return f"Solved {with_actions}."
        more = f"{spent - fewest} more than the fewest" if spent > fewest else "the fewest"
        return f"Solved {with_actions}, {more} possible."


def count_actions(number: int) -> str:
    """Write a number of actions.

    >>> count_actions(1), count_actions(3)
    ('1 action', '3 actions')
    """
    return f"{number} action{'' if number == 1 else 's'}"
