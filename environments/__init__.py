"""The world: text games as Gymnasium environments. Needs Gymnasium and numpy, nothing else.

Only problems read from files need more: pyarrow for parquet, math-verify for LaTeX. They are
imported when used.
"""

from typing import Any

import gymnasium

from .checks import check_text_env
from .text_env import TextEnv, TextGame, TextSpec, fork, is_deterministic, state_key

ENVIRONMENTS = {
    "sesa/Sokoban-v0": "sesa_agent.environments.sokoban:make_sokoban",
    "sesa/Countdown-v0": "sesa_agent.environments.countdown:make_countdown",
    "sesa/FrozenLake-v0": "sesa_agent.environments.frozen_lake:make_frozen_lake",
    "sesa/Sudoku-v0": "sesa_agent.environments.sudoku:make_sudoku",
    "sesa/PathExploration-v0": "sesa_agent.environments.path_exploration:make_path_exploration",
    "sesa/Math-v0": "sesa_agent.environments.math_problems:make_math",
}
"""Every id of ours and the function that builds it."""


def register_environments() -> None:
    """Register our ids with Gymnasium. Happens on import."""
    for env_id, entry_point in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            # TextEnv counts its own steps and never raises on an action: it needs no wrapper.
            gymnasium.register(env_id, entry_point, order_enforce=False, disable_env_checker=True)


def make_env(env_id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Build an environment by its Gymnasium id (also `module:Name-v0`)."""
    return gymnasium.make(env_id, **options)


register_environments()

__all__ = [
    "ENVIRONMENTS",
    "TextEnv",
    "TextGame",
    "TextSpec",
    "check_text_env",
    "fork",
    "is_deterministic",
    "make_env",
    "register_environments",
    "state_key",
]
