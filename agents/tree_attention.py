"""The attention of packed rows: a token sees its path alone, so what rows share is computed once.

The runs of `packing.py` take the place of rows: a run's own tokens are the queries, the tokens of
its path the keys, and runs of like length are one call of torch's attention. Next to nothing is
computed that no token sees, as a mask over the whole packed sequence would. Positions are those in
the rows, so hidden states, and with them all losses and gradients, are those of padded rows up to
rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .packing import PackedRows

TREE = "sesa_tree"
"""What the attention is called in a model's configuration; `sdpa` where no rows are packed."""
FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Model types that hand `runs` on to their attention and mix tokens nowhere else."""


@dataclass(frozen=True)
class RunsToAttend:
    """What `tree_attention` needs of packed rows, on the model's device."""

    groups: Sequence[tuple[Tensor, Tensor, Tensor | None]]
    """Per group (R, Q) places of queries, (R, K) places of keys and (R, 1, Q, K) what is added to
    the scores, None where the plain causal mask does."""
    outputs: Tensor
    """(L,) as of `PackedRows`."""


def allow_packed_rows(model: Any) -> str:
    """Let a model read packed rows beside padded ones, if it can.

    For good: layers that are computed again in the backward pass must find the same attention.

    Returns:
        Why it cannot, in words that end a sentence; empty if it can.
    """
    config: Any = getattr(model, "config", None)
    family = getattr(config, "model_type", "unknown")
    if family not in FAMILIES:
        return f"models of type {family} are not known to allow it"
    if config._attn_implementation not in ("sdpa", TREE):
        return f"its attention is {config._attn_implementation}, not sdpa"
    if {type(layer) for layer in DynamicCache(config=config).layers} != {DynamicLayer}:
        return "some of its layers do not look at all earlier tokens"
    config._attn_implementation = TREE
    return ""


def packed_inputs(packed: PackedRows, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a model reads packed rows by.

    Args:
        packed: L tokens.
        device: of the model.
        dtype: of the model.

    Returns:
        Arguments of its forward pass; hidden states are then (1, L, H).
    """
    groups = []
    for group in packed.groups:
        mask = None
        if group.num_before.any():
            path, own = torch.arange(group.keys.shape[1]), torch.arange(group.queries.shape[1])
            seen = path <= (group.num_before[:, None] + own)[..., None]  # (R, Q, K)
            mask = torch.zeros(seen.shape, dtype=_computed_in(device, dtype))
            mask = mask.masked_fill_(~seen, float("-inf"))
            mask = mask[:, None].to(device)
        groups.append((group.queries.to(device), group.keys.to(device), mask))
    return {
        "input_ids": packed.token_ids[None].to(device),
        "position_ids": packed.position_ids[None].to(device),
        # Of four dimensions, it is handed on as it is: positions that begin anew would otherwise
        # be taken for sequences that do not see each other. Nobody reads it.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        "runs": RunsToAttend(groups, packed.outputs.to(device)),
        "use_cache": False,
    }


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    runs: RunsToAttend | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of packed rows; without `runs` it is that of transformers.

    Args:
        module: the attention layer.
        query: (1, H, L, D); without `runs` any number of rows, as the rest.
        key: (1, K, L, D).
        value: (1, K, L, D).
        attention_mask: not used where there are `runs`.
        scaling: of the scores.
        runs: which keys each query sees.
        kwargs: passed on where there are no `runs`.

    Returns:
        (1, L, H, D), and no attention weights.
    """
    if runs is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    num_sharing = query.shape[1] // key.shape[1]
    dtype = _computed_in(query.device, query.dtype)
    by_token = [states[0].transpose(0, 1).to(dtype) for states in (query, key, value)]
    attended = []
    for queries, keys, mask in runs.groups:
        places = (queries, keys, keys)
        q, k, v = (_gather(*pair) for pair in zip(by_token, places, strict=True))
        if q.device.type != "cpu":  # where only torch's slow attention takes both
            k, v = repeat_kv(k, num_sharing), repeat_kv(v, num_sharing)
        output = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # (R, H, Q, D)
        attended.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended).index_select(0, runs.outputs)[None].to(query.dtype), None


AttentionInterface.register(TREE, tree_attention)
AttentionMaskInterface.register(TREE, sdpa_mask)


def _computed_in(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The number format of attention: on the CPU torch's backward pass is slow in bfloat16."""
    return torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype


def _gather(states: Tensor, places: Tensor) -> Tensor:
    """States of tokens, (L, heads, D), by their places (R, P): (R, heads, P, D)."""
    gathered = states.index_select(0, places.flatten())
    return gathered.unflatten(0, places.shape).transpose(1, 2)
