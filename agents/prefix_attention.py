"""Attention of shared-prefix rows: a token attends to its path, and prefixes are computed once.

The runs of `prefix_rows.py` take the place of rows: a run's own tokens are the queries, the tokens
of its path are the keys. Unlike a mask over the whole sequence, this computes almost no scores that
no token uses. Positions are those in the rows, so hidden states, losses and gradients equal those
of padded rows up to rounding.

Runs of similar length are one call of torch's attention. On a GPU in half precision, all runs are
one call of its variable-length kernel, provided that a trial shows the same results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .prefix_rows import PrefixRows, share_prefixes

TREE = "sesa_tree"
"""Name of this attention in a model's configuration; for padded rows it is `sdpa`."""
HALF = (torch.bfloat16, torch.float16)
FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Model types that pass `runs` on to their attention and mix tokens nowhere else."""


@dataclass(frozen=True)
class RunsToAttend:
    """What `prefix_attention` needs to know about shared-prefix rows, on the model's device."""

    groups: Sequence[tuple[Tensor, Tensor, Tensor | None]]
    """Per group: (R, Q) indices of queries, (R, K) indices of keys, and the (R, 1, Q, K) mask that
    is added to the scores, or None if the plain causal mask is right."""
    outputs: Tensor
    """(L,) as in `PrefixRows`."""


@dataclass(frozen=True)
class RunsInOneCall:
    """The same for the variable-length kernel."""

    own_ends: Tensor
    """(R + 1,) int32, 0 and the end of each run's own tokens in the sequence."""
    path_ends: Tensor
    """(R + 1,) int32, 0 and the end of each run's path in `paths`."""
    paths: Tensor
    """(K,) indices of the keys, one path after another."""
    longest_own: int
    longest_path: int


def allow_prefix_rows(model: Any) -> str:
    """Let a model read shared-prefix rows besides padded ones, if it can.

    The change is permanent, because layers that are recomputed in the backward pass must find the
    same attention.

    Returns:
        Why it cannot, as the end of a sentence; empty if it can.
    """
    config: Any = getattr(model, "config", None)
    family = getattr(config, "model_type", "unknown")
    if family not in FAMILIES:
        return f"models of type {family} are not known to allow it"
    if config._attn_implementation not in ("sdpa", TREE):
        return f"its attention is {config._attn_implementation}, not sdpa"
    if {type(layer) for layer in DynamicCache(config=config).layers} != {DynamicLayer}:
        return "some of its layers do not attend to all earlier tokens"
    config._attn_implementation = TREE
    return ""


def prefix_inputs(rows: PrefixRows, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Build a model's inputs from shared-prefix rows.

    Args:
        rows: L tokens.
        device: of the model.
        dtype: of the model.

    Returns:
        Arguments of its forward pass, whose hidden states are then (1, L, H).
    """
    in_one_call = device.type == "cuda" and dtype in HALF and kernel_agrees(device, dtype)
    find = runs_in_one_call if in_one_call else runs_to_attend
    return {
        "input_ids": rows.token_ids[None].to(device),
        "position_ids": rows.position_ids[None].to(device),
        # Never used. A mask of four dimensions is passed on unchanged; without one, transformers
        # would take positions that restart for separate sequences.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        "runs": find(rows, device, dtype),
        "use_cache": False,
    }


def runs_to_attend(rows: PrefixRows, device: torch.device, dtype: torch.dtype) -> RunsToAttend:
    """Group the runs by similar length; arguments as in `prefix_inputs`."""
    groups = []
    for group in rows.groups:
        mask = None
        if group.num_before.any():
            path, own = torch.arange(group.keys.shape[1]), torch.arange(group.queries.shape[1])
            seen = path <= (group.num_before[:, None] + own)[..., None]  # (R, Q, K)
            mask = torch.zeros(seen.shape, dtype=_computed_in(device, dtype))
            mask = mask.masked_fill_(~seen, float("-inf"))
            mask = mask[:, None].to(device)
        groups.append((group.queries.to(device), group.keys.to(device), mask))
    return RunsToAttend(groups, rows.outputs.to(device))


def runs_in_one_call(
    rows: PrefixRows, device: torch.device, dtype: torch.dtype | None = None
) -> RunsInOneCall:
    """Put the runs one after another; arguments as in `prefix_inputs`."""

    def ends(lengths: Tensor) -> Tensor:
        return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(device, torch.int32)

    return RunsInOneCall(
        own_ends=ends(rows.own_lengths),
        path_ends=ends(rows.path_lengths),
        paths=rows.paths.to(device),
        longest_own=int(rows.own_lengths.max()),
        longest_path=int(rows.path_lengths.max()),
    )


@lru_cache
def kernel_agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the variable-length kernel gives the groups' results, gradients included.

    This needs a trial: not every GPU has the kernel, and with fewer queries than keys its causal
    mask must be aligned with the last key, as in FlashAttention since 2.1.
    """
    ids = torch.randint(1, 9, (3, 40), generator=torch.Generator().manual_seed(0))
    ids[:, :24] = ids[0, :24]
    rows = share_prefixes(ids, torch.ones_like(ids, dtype=torch.bool))
    states = torch.randn(3, 1, 4, len(rows), 64, generator=torch.Generator().manual_seed(1))

    def attend(runs: RunsToAttend | RunsInOneCall) -> Tensor:
        query, key, value = states.to(device, dtype).requires_grad_().unbind()
        attended, _ = prefix_attention(None, query, key[:, :2], value[:, :2], None, runs=runs)
        gradients = torch.autograd.grad(attended.float().square().sum(), (query, key, value))
        return torch.cat([attended.transpose(1, 2), *gradients]).float()

    with torch.enable_grad():  # the first caller may be scoring without gradients
        try:
            kernel = attend(runs_in_one_call(rows, device))
        except (RuntimeError, NotImplementedError):  # no kernel for this GPU
            return False
        groups = attend(runs_to_attend(rows, device, dtype))
    return torch.allclose(kernel, groups, atol=0.1, rtol=0.1)


def prefix_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    runs: RunsToAttend | RunsInOneCall | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute the attention of shared-prefix rows; without `runs`, transformers' own.

    Args:
        module: the attention layer.
        query: (1, H, L, D); without `runs` any number of rows, like key and value.
        key: (1, K, L, D).
        value: (1, K, L, D).
        attention_mask: not used with `runs`.
        scaling: of the scores.
        runs: which keys each query attends to.
        kwargs: passed on without `runs`.

    Returns:
        (1, L, H, D), and no attention weights.
    """
    if runs is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    by_token = [states[0].transpose(0, 1) for states in (query, key, value)]  # (L, heads, D)
    if isinstance(runs, RunsInOneCall):
        return _attend_in_one_call(by_token, runs, scaling)[None], None
    return _attend_in_groups(by_token, runs, scaling)[None], None


AttentionInterface.register(TREE, prefix_attention)
AttentionMaskInterface.register(TREE, sdpa_mask)


def _attend_in_one_call(
    by_token: Sequence[Tensor], runs: RunsInOneCall, scaling: float | None
) -> Tensor:
    """Attend by the variable-length kernel: (L, heads, D) queries, keys and values to (L, H, D)."""
    query, key, value = by_token
    attended: Any = varlen.varlen_attn(
        query,
        key.index_select(0, runs.paths),
        value.index_select(0, runs.paths),
        runs.own_ends,
        runs.path_ends,
        runs.longest_own,
        runs.longest_path,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended


def _attend_in_groups(
    by_token: Sequence[Tensor], runs: RunsToAttend, scaling: float | None
) -> Tensor:
    """Attend group by group: (L, heads, D) queries, keys and values to (L, H, D)."""
    given = by_token[0]
    dtype = _computed_in(given.device, given.dtype)
    query, key, value = (states.to(dtype) for states in by_token)
    num_sharing = query.shape[1] // key.shape[1]
    attended = []
    for queries, keys, mask in runs.groups:
        q, k, v = _gather(query, queries), _gather(key, keys), _gather(value, keys)
        if q.device.type != "cpu":  # there, torch takes a mask and shared heads only slowly
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
    return torch.cat(attended).index_select(0, runs.outputs).to(given.dtype)


def _computed_in(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to attend in: on the CPU torch's backward pass is slow in bfloat16."""
    return torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype


def _gather(states: Tensor, indices: Tensor) -> Tensor:
    """Select states (L, heads, D) by token indices (R, P): (R, heads, P, D)."""
    gathered = states.index_select(0, indices.flatten())
    return gathered.unflatten(0, indices.shape).transpose(1, 2)
