"""Trains LLM agents by reinforcement learning in text games, exploring one proposal after another.

The folders of the repository are imported as `sesa_agent.environments`, `sesa_agent.sampling` and
so on; the names below are also here. `sesa-agent --help` (also `python -m sesa_agent --help`) is
the way in from the shell.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Evaluation": "evaluation.evaluate",
    "Policy": "agents.policy",
    "ScriptedEngine": "agents.engine",
    "TextAdapter": "environments",
    "TextEnv": "environments",
    "TextGame": "environments",
    "TextSpec": "environments",
    "check_text_env": "environments",
    "evaluate": "evaluation.evaluate",
    "fork": "environments",
    "load_config": "configs.load",
    "make_env": "environments",
    "train": "training.trainer",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `--help` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sesa_agent' has no attribute {name!r}")
    return getattr(import_module(f"sesa_agent.{_HOMES[name]}"), name)
