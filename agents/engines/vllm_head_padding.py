"""The same model with wider attention heads: vLLM's CPU kernels begin at 32 numbers a head.

Queries and keys of d numbers are laid out in D = r d with zeros between them. Rotary position
embeddings turn the pair (j, j + D/2) by theta^(-2j/D), so the pair i of d belongs at j = r i, where
the angle is the same; the score's 1/sqrt(D) is made up for in the queries. Values get zeros behind
them. Every logit is that of the narrow model up to rounding.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...configs.errors import SettingError

MIN_HEAD_DIM = 32
FAMILIES = ("llama", "mistral", "qwen2")
"""Model types whose heads have these projections, whole rotary embeddings and no norm of their
own."""


def head_dim(config: Any) -> int:
    """Numbers of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def widen_config(config: Any) -> Any:
    """Return the configuration with heads of `MIN_HEAD_DIM`.

    Raises:
        SettingError: if the model's heads cannot be widened this way.
    """
    narrow = head_dim(config)
    rope = getattr(config, "rope_parameters", None) or {}
    is_plain = rope.get("rope_type", "default") == "default"
    if config.model_type not in FAMILIES or not is_plain or MIN_HEAD_DIM % narrow:
        raise SettingError(
            f"engine.name must be hf for this model on the CPU: its attention heads have {narrow} "
            f"numbers, and vLLM's CPU kernels begin at {MIN_HEAD_DIM}, got 'vllm'."
        )
    wide = copy.deepcopy(config)
    wide.head_dim = MIN_HEAD_DIM
    return wide


def widen_weights(
    weights: Iterable[tuple[str, Tensor]], config: Any
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights for `widen_config`.

    Args:
        weights: name and tensor, as in the narrow model's state.
        config: the narrow model's configuration.
    """
    narrow = head_dim(config)
    ratio = MIN_HEAD_DIM // narrow
    pairs = torch.arange(narrow // 2) * ratio
    turned = torch.cat([pairs, MIN_HEAD_DIM // 2 + pairs])  # (d,) places of queries and keys
    for name, tensor in weights:
        kind = name.rsplit(".", 2)[-2]
        if kind == "q_proj":
            tensor = _spread(tensor, narrow, turned) * math.sqrt(ratio)
        elif kind == "k_proj":
            tensor = _spread(tensor, narrow, turned)
        elif kind == "v_proj":
            tensor = _spread(tensor, narrow, torch.arange(narrow))
        elif kind == "o_proj" and tensor.ndim == 2:
            tensor = _spread(tensor.T, narrow, torch.arange(narrow)).T.contiguous()
        yield name, tensor


def _spread(tensor: Tensor, narrow: int, places: Tensor) -> Tensor:
    """Put the rows of every head at `places` of a wide one: (H d, ...) to (H D, ...)."""
    heads = tensor.unflatten(0, (-1, narrow))
    wide = heads.new_zeros(heads.shape[0], MIN_HEAD_DIM, *heads.shape[2:])
    wide[:, places.to(tensor.device)] = heads
    return wide.flatten(0, 1)
