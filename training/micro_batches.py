"""Splits a batch into micro-batches, and these over the ranks.

Equal rows are computed once. If the model can share prefixes, rows with a common prefix are placed
together and the prefix is computed once too (`agents/prefix_rows.py`). Micro-batches are bounded in
tokens, and every rank computes about the same number of tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..agents.policy import Policy
from ..agents.prefix_rows import lexicographic_order, new_lengths
from .batch import Batch
from .distributed import come_to_exchange, largest, rank, world_size

MAX_READ = 4
"""With shared prefixes, the rows of a micro-batch have at most `MAX_READ * max_tokens` tokens,
shared ones counted in every row."""


@dataclass(frozen=True)
class Part:
    """Rows of a batch that are computed together; equal rows are computed once."""

    rows: list[int]
    """(n,) row indices in the batch; equal rows are adjacent."""
    kinds: list[int]
    """(n,) index of each row among the part's M distinct rows."""
    is_idle: bool = False
    """Whether it is computed only because another rank has more parts, and counts for nothing: all
    ranks must pass through split weights equally often."""

    @property
    def distinct(self) -> list[int]:
        """(M,) the first row of each kind, as an index in the batch."""
        return [self.rows[place] for place in _first_places(self.kinds)]


def own_parts(policy: Policy, batch: Batch, max_tokens: int) -> Iterator[Part]:
    """Split a batch into the parts that this rank computes, as many as every other rank.

    Args:
        policy: its `can_share_prefix` is used.
        batch: the same on every rank.
        max_tokens: most tokens of a part, counted with padding or with shared prefixes once; a
            longer row is a part of its own.
    """
    kinds = equal_rows(batch)
    firsts = _first_places(kinds)
    copies: list[list[int]] = [[] for _ in firsts]
    for row, kind in enumerate(kinds):
        copies[kind].append(row)
    distinct, shares = batch.select(firsts), policy.can_share_prefix
    order = own_rows(distinct, computing_order(distinct, shares), shares)
    groups = group_rows(distinct, max_tokens, order, shares)
    num_parts = largest(len(groups))
    for group in groups:
        rows = [row for kind in group for row in copies[kind]]
        places = [place for place, kind in enumerate(group) for _ in copies[kind]]
        come_to_exchange()
        yield Part(rows, places)
    for _ in range(num_parts - len(groups)):
        shortest = int(batch.attention_mask.sum(1).argmin())
        come_to_exchange()
        yield Part([shortest], [0], is_idle=True)


def equal_rows(batch: Batch) -> list[int]:
    """Number the distinct rows; equal rows have the same tokens and masks.

    Returns:
        (N,) the kind of each row; kinds are numbered in order of appearance.
    """
    parts = (batch.token_ids, batch.attention_mask, batch.loss_mask, batch.kl_mask)
    parts += (batch.proxy_logprobs != 0,)
    kinds: dict[bytes, int] = {}
    keys = (b"".join(part[row].numpy().tobytes() for part in parts) for row in range(len(batch)))
    return [kinds.setdefault(key, len(kinds)) for key in keys]


def merge_equal_rows(batch: Batch, kinds: Sequence[int] | None = None) -> Batch:
    """Replace equal rows by one row with the same total loss and gradients.

    Independent rollouts of a sharp policy are mostly duplicates. The clipped surrogate is linear in
    S+ and S-, entropy and KL in their weight, so these are summed. Merge only after `correct_gaps`,
    which needs each turn's own log mu, and after the split into minibatches, since merging earlier
    would move the credit of all copies into one of them.

    Args:
        batch: on the CPU, with scored `old_logprobs`.
        kinds: (N,) from `equal_rows`, if already computed.
    """
    kinds = equal_rows(batch) if kinds is None else kinds
    firsts = _first_places(kinds)
    if len(firsts) == len(batch):
        return batch
    index, merged = torch.tensor(kinds), batch.select(firsts)

    def total(values: Tensor) -> Tensor:
        return torch.zeros_like(values[: len(firsts)]).index_add(0, index, values)

    return replace(
        merged,
        positive=total(batch.positive),
        negative=total(batch.negative),
        weight=total(batch.weight),
        entropy_weight=total(batch.entropy_weight),
        count=total(batch.count),
    )


def computing_order(batch: Batch, share_prefix: bool = False) -> list[int]:
    """Order the rows for computing: by shared prefix, or else the longest first.

    Returns:
        (N,) row indices.
    """
    if share_prefix:
        return lexicographic_order(batch.token_ids, batch.attention_mask)
    lengths = batch.attention_mask.sum(dim=1).tolist()
    return sorted(range(len(batch)), key=lambda row: -lengths[row])


def own_rows(batch: Batch, order: Sequence[int], share_prefix: bool = False) -> list[int]:
    """Choose the rows that this rank computes: about an equal share of the tokens.

    Args:
        batch: the same on every rank.
        order: from `computing_order`.
        share_prefix: keep rows that share a prefix together.

    Returns:
        A part of `order`, all of it in a single process; possibly empty.
    """
    if world_size() == 1 or not len(batch):
        return list(order)
    if share_prefix:
        ends = np.cumsum(new_lengths(batch.token_ids, batch.attention_mask, order))
        owners = (ends - 1) * world_size() // ends[-1]
        return np.array(order)[owners == rank()].tolist()
    return list(order[rank() :: world_size()])


def group_rows(
    batch: Batch, max_tokens: int, order: Sequence[int], share_prefix: bool = False
) -> list[list[int]]:
    """Group rows for one forward and backward pass each.

    With padding, a group's rows times its padded length stay within `max_tokens`; with shared
    prefixes, its tokens do, shared ones counted once. A longer row is a group of its own.

    Args:
        batch: N rows.
        max_tokens: limit of a group.
        order: rows to group, in the order of `computing_order`.
        share_prefix: whether prefixes are shared.
    """
    lengths = batch.attention_mask.sum(dim=1).tolist()
    if share_prefix:
        return _prefix_groups(batch, max_tokens, order, lengths)
    groups: list[list[int]] = []
    for row in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= max_tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _prefix_groups(
    batch: Batch, max_tokens: int, order: Sequence[int], lengths: Sequence[int]
) -> list[list[int]]:
    """Group neighbours in lexicographic order; the first row of a group counts all its tokens.

    Attention gathers the keys of whole rows, shared or not; `MAX_READ` bounds these.
    """
    groups: list[list[int]] = []
    num_computed = num_read = 0
    added = new_lengths(batch.token_ids, batch.attention_mask, order) if order else []
    for row, num_new in zip(order, added, strict=True):
        num_computed += num_new
        num_read += lengths[row]
        if not groups or num_computed > max_tokens or num_read > MAX_READ * max_tokens:
            groups.append([])
            num_computed = num_read = lengths[row]
        groups[-1].append(row)
    return groups


def _first_places(kinds: Sequence[int]) -> list[int]:
    """Index of the first row of each kind, (M,)."""
    places: dict[int, int] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, place)
    return [places[kind] for kind in range(len(places))]
