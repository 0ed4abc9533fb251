"""What a model has read so far, one row per sequence: the part of generation that runs the model.

`CachedContext` keeps the keys and values of what was read; `WholeContext` reads everything anew for
each token, for models that keep none in transformers' `Cache` (Mamba, RWKV, the first GPT).
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
"""Tokens for which a row has room before its keys and values are copied to a larger place."""
_GROUPED = "sesa_grouped"


def open_context(model: Any) -> "CachedContext | WholeContext":
    """An empty context of the kind that the model can have."""
    can_cache = "past_key_values" in _forward_arguments(model)
    return CachedContext(model) if can_cache else WholeContext(model)


class CachedContext:
    """Rows whose keys and values are kept, padded on the left of what each call reads."""

    def __init__(self, model: Any):
        self.model = model
        self.cache = _roomy_cache(model)
        # Padding may then stand between a shared beginning and the rest: only models that are told
        # each token's position, and look at all earlier tokens, do not mind.
        self.can_branch = self.cache is not None and "position_ids" in _forward_arguments(model)
        self.mask: Tensor | None = None

    def read(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read on in every row; float logits (N, V) of the tokens that come next."""
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
        """Go on with these rows, in this order; a row may come several times."""
        assert self.cache is not None and self.mask is not None, "nothing was read yet"
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]

    def branch(self) -> "CachedContext":
        """Another context that has read the same; neither sees what the other reads from now on.

        Only where `can_branch`. Nothing is copied before one of them reads on.
        """
        other = CachedContext(self.model)
        other.mask = self.mask
        assert self.cache is not None and other.cache is not None, "it cannot branch"
        layers: list[tuple[Any, Any]] = list(
            zip(self.cache.layers, other.cache.layers, strict=True)
        )
        for own, its in layers:
            its.lazy_initialization(own.keys, own.values)
            its.keys, its.values = own.keys, own.values
        return other


class WholeContext:
    """Rows that are read from their beginning each time: right for every causal model, but slow."""

    can_branch = False

    def __init__(self, model: Any):
        self.model = model
        self.rows: list[list[int]] = []

    def read(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read on in every row; float logits (N, V) of the tokens that come next."""
        before = self.rows or [[] for _ in rows]
        self.rows = [[*old, *new] for old, new in zip(before, rows, strict=True)]
        # Padding comes last, where nothing that is read can see it, recurrent models included.
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
        """Go on with these rows, in this order; a row may come several times."""
        self.rows = [self.rows[row] for row in rows]


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, with room for more tokens behind them.

    A `DynamicLayer` copies all it has for every token; this one does so once in `_SPARE` tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rooms: list[Tensor] = []
        self.shown: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append (N, heads, T, width) keys and values; returns all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        # Other keys than those shown last were put here since, as when rows are selected.
        if self.keys is not self.shown or end > self.rooms[0].shape[2]:
            self.rooms = [_room(key_states, end), _room(value_states, end)]
            if start:
                assert self.keys is not None and self.values is not None
                self.rooms[0][:, :, :start] = self.keys
                self.rooms[1][:, :, :start] = self.values
        self.rooms[0][:, :, start:end] = key_states
        self.rooms[1][:, :, start:end] = value_states
        self.keys, self.values = (room[:, :, :end] for room in self.rooms)
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
    """Attention of one new token per row, where several query heads share their keys and values.

    The heads of a group stand as queries of one head, so that keys and values need no copies; all
    else is left to transformers.

    Args:
        module: the attention layer.
        query: (N, H, T, D).
        key: (N, K, L, D).
        value: (N, K, L, D).
        attention_mask: (N, 1, T, L), True where a query may look, or None.
        scaling: of the scores.
        kwargs: passed on where they are not known here.

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
    """Let a model on the CPU that shares keys among heads attend by `grouped_attention`."""
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


def _roomy_cache(model: Any) -> Cache | None:
    """A cache with room; None for models that do not keep all keys, which bring their own."""
    cache = DynamicCache(config=model.config)
    if {type(layer) for layer in cache.layers} != {DynamicLayer}:
        return None
    cache.layers = [RoomyLayer() for _ in cache.layers]  # pyright: ignore[reportAttributeAccessIssue]
    return cache


def _room(states: Tensor, length: int) -> Tensor:
    """Memory for `length` tokens and some more, of the kind of `states` (N, heads, T, width)."""
    rows, heads, _, width = states.shape
    return states.new_empty(rows, heads, length + _SPARE, width)


def _forward_arguments(model: Any) -> set[str]:
    """The names of what the model's forward pass takes; adapters around a model hide them."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(base.forward).parameters)


def _pad(rows: Sequence[Sequence[int]], on_left: bool) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (N, T); padding is token 0 and masked."""
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
