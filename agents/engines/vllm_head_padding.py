"""Pads attention heads with zeros: vLLM's CPU kernels need a head size of at least 32.

Queries and keys of size d are spread over D = r d numbers, with zeros between them. Rotary position
embeddings rotate the pair (j, j + D/2) by theta^(-2j/D), so pair i of the narrow head goes to
j = r i, where the angle is the same; scaling the queries compensates for the score's 1/sqrt(D).
Values are followed by zeros. Every logit equals that of the narrow model up to rounding.
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
"""Model types whose heads have these projections, full rotary embeddings and no norm."""


def head_dim(config: Any) -> int:
    """Return the size of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def widen_config(config: Any) -> Any:
    """Return the configuration with heads of size `MIN_HEAD_DIM`.

    Raises:
        SettingError: if the model's heads cannot be widened this way.
    """
    narrow = head_dim(config)
    rope = getattr(config, "rope_parameters", None) or {}
    is_plain = rope.get("rope_type", "default") == "default"
    if config.model_type not in FAMILIES or not is_plain or MIN_HEAD_DIM % narrow:
        raise SettingError(
            f"engine.name must be hf for this model on the CPU, got 'vllm': its attention heads "
            f"have size {narrow}, and vLLM's CPU kernels need at least {MIN_HEAD_DIM}."
        )
    wide = copy.deepcopy(config)
    wide.head_dim = MIN_HEAD_DIM
    return wide


def widen_weights(
    weights: Iterable[tuple[str, Tensor]], config: Any
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights for `widen_config`.

    Args:
        weights: names and tensors, as in the narrow model's state dict.
        config: the narrow model's configuration.
    """
    narrow = head_dim(config)
    ratio = MIN_HEAD_DIM // narrow
    pairs = torch.arange(narrow // 2) * ratio
    rotated = torch.cat([pairs, MIN_HEAD_DIM // 2 + pairs])  # (d,) places of queries and keys
    for name, tensor in weights:
        kind = name.rsplit(".", 2)[-2]
        if kind == "q_proj":
            tensor = _pad_heads(tensor, narrow, rotated) * math.sqrt(ratio)
        elif kind == "k_proj":
            tensor = _pad_heads(tensor, narrow, rotated)
        elif kind == "v_proj":
            tensor = _pad_heads(tensor, narrow, torch.arange(narrow))
        elif kind == "o_proj" and tensor.ndim == 2:
            tensor = _pad_heads(tensor.T, narrow, torch.arange(narrow)).T.contiguous()
        yield name, tensor


def _pad_heads(tensor: Tensor, narrow: int, places: Tensor) -> Tensor:
    """Move the rows of every head to `places` of a wide head: (H d, ...) to (H D, ...)."""
    heads = tensor.unflatten(0, (-1, narrow))
    wide = heads.new_zeros(heads.shape[0], MIN_HEAD_DIM, *heads.shape[2:])
    wide[:, places.to(tensor.device)] = heads
    return wide.flatten(0, 1)
