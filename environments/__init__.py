"""Text games as Gymnasium environments. Importing this package registers their ids.

Gymnasium and numpy are all it needs. Problems read from files need more (pyarrow for parquet,
math-verify for LaTeX), and so do the games of other collections; all are imported on first use.
"""

from contextlib import suppress
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from ..configs.errors import SettingError, check
from ..configs.task_files import is_task_file
from .adapters.adapter import TextAdapter
from .adapters.guard import EnvError, GuardedEnv, close_env
from .adapters.known_games import adapt
from .adapters.plugins import make_plugin
from .checks import check_text_env
from .options import fit_options
from .text_env import (
    TextEnv,
    TextGame,
    TextSpec,
    fork,
    fork_kind,
    is_deterministic,
    state_key,
    text_spec,
)
from .tools.env import ToolEnv
from .tools.tool import tool

_GAMES = "sesa_agent.environments.games"
ENVIRONMENTS = {
    "sesa/Sokoban-v0": f"{_GAMES}.sokoban:make_sokoban",
    "sesa/Countdown-v0": f"{_GAMES}.countdown:make_countdown",
    "sesa/FrozenLake-v0": f"{_GAMES}.frozen_lake:make_frozen_lake",
    "sesa/Sudoku-v0": f"{_GAMES}.sudoku:make_sudoku",
    "sesa/PathExploration-v0": f"{_GAMES}.path_exploration:make_path_exploration",
    "sesa/Countries-v0": f"{_GAMES}.countries:make_countries",
    "sesa/Math-v0": f"{_GAMES}.math_problems:make_math",
}
"""The ids of this package's games and where the function that builds each one is."""
TOOL_ENVIRONMENTS = {
    "sesa/SqlQuestions-v0": f"{_GAMES}.sql_questions:SqlQuestions",
}
"""The ids of this package's environments with tools, which are no `TextGame`."""
OWN_ENVIRONMENTS = {**ENVIRONMENTS, **TOOL_ENVIRONMENTS}
TASKS = EnvSpec(
    "sesa/Tasks-v0",
    f"{_GAMES}.tasks:make_tasks",
    order_enforce=False,
    disable_env_checker=True,
)
"""The environment of a task file. Not registered: it is made by the file's name, which shows in a
run's settings that a function of the user may judge the answers."""


def register_environments() -> None:
    """Register the ids of this package with Gymnasium; runs on import."""
    for env_id, entry_point in OWN_ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            # They count their own steps and never raise on an action: they need no wrapper.
            gymnasium.register(env_id, entry_point, order_enforce=False, disable_env_checker=True)


def make_env(
    env_id: str, *, step_timeout: float = 60.0, success_rule: str = "", **options: Any
) -> gymnasium.Env[Any, Any]:
    """Build a text environment by its Gymnasium id; `module:Name-v0` and plug-ins work too.

    Environments of this package are returned as they are. Any other gets a text interface from
    `TextAdapter` if it has no `text_spec`, and is guarded: every failure in it raises `EnvError`.

    Args:
        env_id: the id, or the path of a task file.
        step_timeout: seconds in which a guarded environment must answer; 0 for no limit.
        success_rule: what counts as success in an environment that does not say it, as the setting
            `env.success` gives it.
        options: keyword arguments of the environment.

    Raises:
        gymnasium.error.Error: if the id is unknown.
        SettingError: if it has no such option, or its actions or observations cannot be put into
            words, or there is no such rule.
    """
    if env_id in OWN_ENVIRONMENTS:
        check(
            not success_rule,
            "env.success",
            success_rule,
            "empty",
            f"{env_id} has a rule of its own.",
        )
        return build_text_env(env_id, options)
    build = partial(build_text_env, env_id, options)
    return GuardedEnv(build, step_timeout, success="" if is_task_file(env_id) else success_rule)


def build_text_env(env_id: str, options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Build a text environment without a guard; arguments as for `make_env`."""
    if env_id in OWN_ENVIRONMENTS:
        return gymnasium.make(env_id, **fit_options(gymnasium.spec(env_id), options))
    if is_task_file(env_id):
        return gymnasium.make(TASKS, **fit_options(TASKS, {"path": env_id, **options}))
    env = make_plugin(env_id, **options)
    if text_spec(env) is not None:
        return env
    try:
        return adapt(env)
    except SettingError:
        with suppress(Exception):  # some can be closed only after a reset
            env.close()
        raise


register_environments()

__all__ = [
    "ENVIRONMENTS",
    "OWN_ENVIRONMENTS",
    "TOOL_ENVIRONMENTS",
    "EnvError",
    "GuardedEnv",
    "TextAdapter",
    "TextEnv",
    "TextGame",
    "TextSpec",
    "ToolEnv",
    "build_text_env",
    "check_text_env",
    "close_env",
    "fork",
    "fork_kind",
    "is_deterministic",
    "make_env",
    "register_environments",
    "state_key",
    "tool",
]
