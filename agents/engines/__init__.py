"""Engines by the value of `engine.name`; each is imported when it is built.

A new engine is a file in this folder with `generate`, `load_weights` and `sleep` (`base.py`), and a
line in `ENGINES`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .base import Engine

if TYPE_CHECKING:
    from ...configs.schema import EngineConfig
    from ..policy import Policy


def _hf(policy: "Policy", cfg: "EngineConfig") -> Engine:
    from .hf import HFEngine

    return HFEngine(policy, cfg.max_batch_tokens)


def _vllm(policy: "Policy", cfg: "EngineConfig") -> Engine:
    from .vllm_engine import VLLMEngine

    return VLLMEngine(policy, cfg)


def _server(policy: "Policy", cfg: "EngineConfig") -> Engine:
    from .server import ServerEngine

    return ServerEngine(policy, cfg)


ENGINES: dict[str, Callable[["Policy", "EngineConfig"], Engine]] = {
    "hf": _hf,
    "vllm": _vllm,
    "server": _server,
}
"""Builders by name; they raise `SettingError` if the engine is not installed or does not fit."""


def load_engine(policy: "Policy", cfg: "EngineConfig") -> Engine:
    """Build the engine `cfg.name` with the policy's weights.

    Raises:
        SettingError: if it is not installed, or cannot run the model.
    """
    return ENGINES[cfg.name](policy, cfg)
