"""Trains LLM agents by reinforcement learning in text games, with sequential exploration.

The repository's folders are imported as `sesa_agent.environments`, `sesa_agent.sampling` and so on;
the public names are also here (docs/python.md). The command line is `sesa-agent`, or `python -m
sesa_agent`.

Importing the package registers its games with Gymnasium: `gymnasium.make("sesa/Sokoban-v0")`. That
needs Gymnasium and numpy alone; names that need torch are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sesa_agent.environments import (
    TextAdapter,
    TextEnv,
    TextGame,
    TextSpec,
    ToolEnv,
    check_text_env,
    fork,
    state_key,
    tool,
)

if TYPE_CHECKING:
    from sesa_agent.agents.engines.base import EngineError
    from sesa_agent.agents.engines.scripted import ScriptedEngine
    from sesa_agent.agents.policy import Policy
    from sesa_agent.api import evaluate, make_env, train, warm_start
    from sesa_agent.commands.train import Run
    from sesa_agent.commands.warm_start_result import WarmStart
    from sesa_agent.configs.errors import SettingError
    from sesa_agent.configs.load import load_config
    from sesa_agent.evaluation.evaluate import Evaluation

__version__ = "0.1.0"

__all__ = [
    "EngineError",
    "Evaluation",
    "Policy",
    "Run",
    "ScriptedEngine",
    "SettingError",
    "TextAdapter",
    "TextEnv",
    "TextGame",
    "TextSpec",
    "ToolEnv",
    "WarmStart",
    "__version__",
    "check_text_env",
    "evaluate",
    "fork",
    "load_config",
    "make_env",
    "state_key",
    "tool",
    "train",
    "warm_start",
]

_MODULES = {
    "EngineError": "agents.engines.base",
    "Evaluation": "evaluation.evaluate",
    "Policy": "agents.policy",
    "Run": "commands.train",
    "ScriptedEngine": "agents.engines.scripted",
    "SettingError": "configs.errors",
    "WarmStart": "commands.warm_start_result",
    "evaluate": "api",
    "load_config": "configs.load",
    "make_env": "api",
    "train": "api",
    "warm_start": "api",
}
"""Where each name that is imported on first use is defined."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `--help` needs no torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'sesa_agent' has no attribute {name!r}")
    return getattr(import_module(f"sesa_agent.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, also those not imported yet, for tab completion."""
    return sorted({*globals(), *__all__})
