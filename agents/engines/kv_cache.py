"""Runs the model during generation: rows of tokens and their KV cache.

`KVCache` keeps the keys and values of all tokens read. `NoKVCache` computes everything again for
each token; it serves models that have no transformers `Cache` (Mamba, RWKV, the first GPT).
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..prefix_attention import TREE

_SPARE = 32
"""Number of tokens allocated in advance, before keys and values are copied to a larger buffer."""
_GROUPED = "sesa_grouped"


def open_kv_cache(model: Any) -> "KVCache | NoKVCache":
    """Return an empty cache of the kind that the model supports."""
    can_cache = "past_key_values" in _forward_arguments(model)
    return KVCache(model) if can_cache else NoKVCache(model)


class KVCache:
    """Rows whose keys and values are kept; each call pads its new tokens on the left."""

    def __init__(self, model: Any):
        self.model = model
        self.cache = _preallocated_cache(model)
        # After branching, padding may lie between a shared prefix and the rest. That is right only
        # for models that take each token's position and attend to all earlier tokens.
        self.can_branch = self.cache is not None and "position_ids" in _forward_arguments(model)
        self.mask: Tensor | None = None

    def extend(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Append tokens to every row; return float logits (N, V) of the next tokens."""
        ids, mask = _pad(rows, on_left=True)
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        self.mask = mask if self.mask is None else torch.cat([self.mask, mask], dim=1)
        positions = (self.mask.cumsum(1)[:, -ids.shape[1] :] - 1).clamp(min=0)
        with _grouped_attention(self.model):
            output = self.model(
                input_ids=ids,
                attention_mask=self.mask,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self.cache = output.past_key_values
        return output.logits[:, -1].float()

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be repeated."""
        assert self.cache is not None and self.mask is not None, "the cache is empty"
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]

    def branch(self) -> "KVCache":
        """Return an independent cache with the same contents.

        Requires `can_branch`. Nothing is copied until one of the two is extended.
        """
        other = KVCache(self.model)
        other.mask = self.mask
        assert self.cache is not None and other.cache is not None, "it cannot branch"
        layers: list[tuple[Any, Any]] = list(
            zip(self.cache.layers, other.cache.layers, strict=True)
        )
        for own, its in layers:
            its.lazy_initialization(own.keys, own.values)
            its.keys, its.values = own.keys, own.values
        return other


class NoKVCache:
    """Rows that are computed from the start each time: right for every causal model, but slow."""

    can_branch = False

    def __init__(self, model: Any):
        self.model = model
        self.rows: list[list[int]] = []

    def extend(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Append tokens to every row; return float logits (N, V) of the next tokens."""
        before = self.rows or [[] for _ in rows]
        self.rows = [[*old, *new] for old, new in zip(before, rows, strict=True)]
        # Padding comes last, where it cannot affect any token, in recurrent models too.
        ids, mask = _pad(self.rows, on_left=False)
        lengths = [len(row) for row in self.rows]
        output = self.model(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            use_cache=False,
            logits_to_keep=ids.shape[1] - min(lengths) + 1,
        )
        index = torch.tensor([length - min(lengths) for length in lengths])
        return output.logits[torch.arange(len(rows)), index].float()

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be repeated."""
        self.rows = [self.rows[row] for row in rows]


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer, in buffers with space for more tokens.

    A `DynamicLayer` copies everything for every token; this one does so every `_SPARE` tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[Tensor] = []
        self.shown: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append (N, heads, T, width) keys and values; return all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        # The keys are no longer a view of the buffer if rows were selected in between.
        if self.keys is not self.shown or end > self.buffers[0].shape[2]:
            self.buffers = [_new_buffer(key_states, end), _new_buffer(value_states, end)]
            if start:
                assert self.keys is not None and self.values is not None
                self.buffers[0][:, :, :start] = self.keys
                self.buffers[1][:, :, :start] = self.values
        self.buffers[0][:, :, start:end] = key_states
        self.buffers[1][:, :, start:end] = value_states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        self.shown = self.keys
        return self.keys, self.values


def grouped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute grouped-query attention for one new token per row.

    The query heads of a group become queries of one head, so that keys and values need not be
    copied. All other cases are left to transformers.

    Args:
        module: the attention layer.
        query: (N, H, T, D).
        key: (N, K, L, D).
        value: (N, K, L, D).
        attention_mask: (N, 1, T, L), True where a query may attend, or None.
        scaling: of the scores.
        kwargs: passed on to transformers.

    Returns:
        (N, T, H, D), and no attention weights.
    """
    rows, heads, length, width = query.shape
    is_shared = attention_mask is None or attention_mask.shape[1] == 1
    if length > 1 or not is_shared or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    folded = query.reshape(rows, key.shape[1], -1, width)
    if attention_mask is not None:
        attention_mask = attention_mask.expand(-1, -1, folded.shape[2], -1)
    attended = torch.nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    return attended.reshape(rows, 1, heads, -1), None


AttentionInterface.register(_GROUPED, grouped_attention)
AttentionMaskInterface.register(_GROUPED, sdpa_mask)


@contextmanager
def _grouped_attention(model: Any) -> Iterator[None]:
    """Use `grouped_attention` inside the block, in a model on the CPU with grouped queries."""
    config: Any = getattr(model, "config", None)
    heads, shared = (getattr(config, f"num_{n}_heads", 0) for n in ("attention", "key_value"))
    fits = model.device.type == "cpu" and shared and shared < heads
    before = config._attn_implementation if fits else ""
    if before not in ("sdpa", TREE):
        yield
        return
    config._attn_implementation = _GROUPED
    try:
        yield
    finally:
        config._attn_implementation = before


def _preallocated_cache(model: Any) -> Cache | None:
    """Return a cache of `PreallocatedLayer`; None for models that do not keep all keys."""
    cache = DynamicCache(config=model.config)
    if {type(layer) for layer in cache.layers} != {DynamicLayer}:
        return None  # such a model brings its own cache
    layers: Any = [PreallocatedLayer() for _ in cache.layers]
    cache.layers = layers
    return cache


def _new_buffer(states: Tensor, length: int) -> Tensor:
    """Allocate `length + _SPARE` tokens, in the dtype and on the device of (N, heads, T, width)."""
    rows, heads, _, width = states.shape
    return states.new_empty(rows, heads, length + _SPARE, width)


def _forward_arguments(model: Any) -> set[str]:
    """Return the argument names of the model's forward pass, looking through adapters."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(base.forward).parameters)


def _pad(rows: Sequence[Sequence[int]], on_left: bool) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, both (N, T); padding is token 0 and masked."""
    width = max(map(len, rows))
    gaps = [[0] * (width - len(row)) for row in rows]
    filled = [
        [*gap, *row] if on_left else [*row, *gap] for gap, row in zip(gaps, rows, strict=True)
    ]
    ids = torch.tensor(filled)
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    columns = torch.arange(width)
    mask = columns >= width - lengths if on_left else columns < lengths
    return ids, mask.long()
