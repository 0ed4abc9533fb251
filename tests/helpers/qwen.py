"""The sizes of the Qwen2.5 models that `configs/scales` are for; no weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from sesa_agent.commands.memory import ModelShape, shape_of

_NAMES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
)
SIZES = {
    "0.5b": (896, 24, 14, 2, 4864, 151936, True),
    "3b": (2048, 36, 16, 2, 11008, 151936, True),
    "7b": (3584, 28, 28, 4, 18944, 152064, False),
    "14b": (5120, 48, 40, 8, 13824, 152064, False),
    "32b": (5120, 64, 40, 8, 27648, 152064, False),
    "72b": (8192, 80, 64, 8, 29568, 152064, False),
}
"""As in the `config.json` of Qwen2.5-0.5B-Instruct and so on."""


@cache
def qwen_shape(size: str) -> ModelShape:
    """The sizes of Qwen2.5-0.5B-Instruct ("0.5b") and so on."""
    with torch.device("meta"):
        return shape_of(Qwen2ForCausalLM(Qwen2Config(**_values(size))))


def num_processes(scale: str) -> int:
    """The GPUs in the name of a scale.

    >>> num_processes("32b-16gpu")
    16
    """
    return int(scale.split("-")[1].removesuffix("gpu"))


def write_qwen(folder: Path, size: str) -> Path:
    """Write the `config.json` of a model, and nothing else."""
    text = json.dumps({"model_type": "qwen2", **_values(size)})
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def _values(size: str) -> dict[str, Any]:
    return dict(zip(_NAMES, SIZES[size], strict=True))
