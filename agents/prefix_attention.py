"""The attention of packed rows: a token sees its path alone, so what rows share is computed once.

The runs of `prefix_rows.py` take the place of rows: a run's own tokens are the queries, the tokens
of its path the keys. Next to nothing is computed that no token sees, as a mask over the whole
packed sequence would. Positions are those in the rows, so hidden states, and with them all losses
and gradients, are those of padded rows up to rounding.

Runs of like length are one call of torch's attention. On a GPU in half precision all runs are one
call of its variable-length kernel, once that kernel was found to agree.
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
"""What the attention is called in a model's configuration; `sdpa` where no rows are packed."""
HALF = (torch.bfloat16, torch.float16)
FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Model types that hand `runs` on to their attention and mix tokens nowhere else."""


@dataclass(frozen=True)
class RunsToAttend:
    """What `prefix_attention` needs of packed rows, on the model's device."""

    groups: Sequence[tuple[Tensor, Tensor, Tensor | None]]
    """Per group (R, Q) places of queries, (R, K) places of keys and (R, 1, Q, K) what is added to
    the scores, None where the plain causal mask does."""
    outputs: Tensor
    """(L,) as of `PrefixRows`."""


@dataclass(frozen=True)
class RunsInOneCall:
    """The same for a kernel of variable lengths."""

    own_ends: Tensor
    """(R + 1,) int32, where the own tokens of each run end, from 0 on."""
    path_ends: Tensor
    """(R + 1,) int32, where its path ends in `paths`."""
    paths: Tensor
    """(K,) places of the keys, one path after another."""
    longest_own: int
    longest_path: int


def allow_prefix_rows(model: Any) -> str:
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


def prefix_inputs(packed: PrefixRows, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a model reads packed rows by.

    Args:
        packed: L tokens.
        device: of the model.
        dtype: of the model.

    Returns:
        Arguments of its forward pass; hidden states are then (1, L, H).
    """
    in_one_call = device.type == "cuda" and dtype in HALF and kernel_agrees(device, dtype)
    find = runs_in_one_call if in_one_call else runs_to_attend
    return {
        "input_ids": packed.token_ids[None].to(device),
        "position_ids": packed.position_ids[None].to(device),
        # Of four dimensions, it is handed on as it is: positions that begin anew would otherwise
        # be taken for sequences that do not see each other. Nobody reads it.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        "runs": find(packed, device, dtype),
        "use_cache": False,
    }


def runs_to_attend(packed: PrefixRows, device: torch.device, dtype: torch.dtype) -> RunsToAttend:
    """The runs in groups of like length; arguments as in `prefix_inputs`."""
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
    return RunsToAttend(groups, packed.outputs.to(device))


def runs_in_one_call(
    packed: PrefixRows, device: torch.device, dtype: torch.dtype | None = None
) -> RunsInOneCall:
    """The runs one after another; arguments as in `prefix_inputs`."""

    def ends(lengths: Tensor) -> Tensor:
        return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(device, torch.int32)

    return RunsInOneCall(
        own_ends=ends(packed.own_lengths),
        path_ends=ends(packed.path_lengths),
        paths=packed.paths.to(device),
        longest_own=int(packed.own_lengths.max()),
        longest_path=int(packed.path_lengths.max()),
    )


@lru_cache
def kernel_agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel of variable lengths computes what the groups do, gradients included.

    Found out by trying: not every GPU has it, and with fewer queries than keys its causal mask must
    end at the last key, as in FlashAttention since 2.1.
    """
    rows = torch.randint(1, 9, (3, 40), generator=torch.Generator().manual_seed(0))
    rows[:, :24] = rows[0, :24]
    packed = share_prefixes(rows, torch.ones_like(rows, dtype=torch.bool))
    states = torch.randn(3, 1, 4, len(packed), 64, generator=torch.Generator().manual_seed(1))

    def attend(runs: RunsToAttend | RunsInOneCall) -> Tensor:
        query, key, value = states.to(device, dtype).requires_grad_().unbind()
        attended, _ = prefix_attention(None, query, key[:, :2], value[:, :2], None, runs=runs)
        gradients = torch.autograd.grad(attended.float().square().sum(), (query, key, value))
        return torch.cat([attended.transpose(1, 2), *gradients]).float()

    with torch.enable_grad():  # the first to ask may be scoring, without gradients
        try:
            kernel = attend(runs_in_one_call(packed, device))
        except (RuntimeError, NotImplementedError):  # no kernel for this GPU
            return False
        groups = attend(runs_to_attend(packed, device, dtype))
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
    by_token = [states[0].transpose(0, 1) for states in (query, key, value)]  # (L, heads, D)
    if isinstance(runs, RunsInOneCall):
        attended: Any = varlen.varlen_attn(
            by_token[0],
            by_token[1].index_select(0, runs.paths),
            by_token[2].index_select(0, runs.paths),
            runs.own_ends,
            runs.path_ends,
            runs.longest_own,
            runs.longest_path,
            scale=scaling,
            window_size=(-1, 0),
            enable_gqa=num_sharing > 1,
        )
        return attended[None], None
    dtype = _computed_in(query.device, query.dtype)
    by_token = [states.to(dtype) for states in by_token]
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


AttentionInterface.register(TREE, prefix_attention)
AttentionMaskInterface.register(TREE, sdpa_mask)


def _computed_in(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The number format of attention: on the CPU torch's backward pass is slow in bfloat16."""
    return torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype


def _gather(states: Tensor, places: Tensor) -> Tensor:
    """States of tokens, (L, heads, D), by their places (R, P): (R, heads, P, D)."""
    gathered = states.index_select(0, places.flatten())
    return gathered.unflatten(0, places.shape).transpose(1, 2)
