"""Trains LLM agents by reinforcement learning in text games, exploring one proposal after another.

The folders of the repository are imported as `sesa_agent.environments`, `sesa_agent.sampling` and
so on; the names below are also here (docs/python.md). `sesa-agent --help` (also `python -m
sesa_agent --help`) is the way in from the shell.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sesa_agent.agents.engines.base import EngineError
    from sesa_agent.agents.engines.scripted import ScriptedEngine
    from sesa_agent.agents.policy import Policy
    from sesa_agent.api import evaluate, make_env, train
    from sesa_agent.commands.train import Run
    from sesa_agent.configs.errors import SettingError
    from sesa_agent.configs.load import load_config
    from sesa_agent.environments import (
        TextAdapter,
        TextEnv,
        TextGame,
        TextSpec,
        check_text_env,
        fork,
    )
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
    "__version__",
    "check_text_env",
    "evaluate",
    "fork",
    "load_config",
    "make_env",
    "train",
]

_HOMES = {
    "EngineError": "agents.engines.base",
    "Evaluation": "evaluation.evaluate",
    "Policy": "agents.policy",
    "Run": "commands.train",
    "ScriptedEngine": "agents.engines.scripted",
    "SettingError": "configs.errors",
    "TextAdapter": "environments",
    "TextEnv": "environments",
    "TextGame": "environments",
    "TextSpec": "environments",
    "check_text_env": "environments",
    "evaluate": "api",
    "fork": "environments",
    "load_config": "configs.load",
    "make_env": "api",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `--help` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sesa_agent' has no attribute {name!r}")
    return getattr(import_module(f"sesa_agent.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, also those not imported yet: what a notebook completes."""
    return sorted({*globals(), *__all__})
