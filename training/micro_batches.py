"""Which rows of a batch are computed together, and by which rank.

Equal rows are computed once. Where the model can share prefixes, rows that begin alike are
neighbours, so that what they share is computed once too (`agents/prefix_rows.py`). What is computed
at a time is bounded in tokens, and every rank computes about as many tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..agents.policy import Policy
from ..agents.prefix_rows import lexicographic_order, new_lengths
from .batch import Batch
from .distributed import rank, world_size

MAX_READ = 4
"""Tokens of the rows of a micro-batch with shared prefixes, for each that `max_tokens` allows to be
computed."""


@dataclass(frozen=True)
class Part:
    """Rows of a batch that are computed together, each kind once."""

    rows: list[int]
    """(n,) places in the batch; equal rows are neighbours."""
    kinds: list[int]
    """(n,) which of the M distinct rows each one is, in their order."""

    @property
    def distinct(self) -> list[int]:
        """(M,) the first row of each kind, as its place in the batch."""
        return [self.rows[place] for place in _first_places(self.kinds)]


def own_parts(policy: Policy, batch: Batch, max_tokens: int) -> Iterator[Part]:
    """Cut a batch into the parts that this rank computes.

    Args:
        policy: tells whether its model can share prefixes.
        batch: the same on every rank.
        max_tokens: tokens of a part, padded or with prefixes shared; a row that alone exceeds it is
            a part of its own.
    """
    kinds = equal_rows(batch)
    firsts = _first_places(kinds)
    copies: list[list[int]] = [[] for _ in firsts]
    for row, kind in enumerate(kinds):
        copies[kind].append(row)
    distinct, shares = batch.select(firsts), policy.can_share_prefix
    order = own_rows(distinct, computing_order(distinct, shares), shares)
    for group in group_rows(distinct, max_tokens, order, shares):
        rows = [row for kind in group for row in copies[kind]]
        places = [place for place, kind in enumerate(group) for _ in copies[kind]]
        yield Part(rows, places)


def equal_rows(batch: Batch) -> list[int]:
    """Number the kinds of rows: equal ones hold the same tokens, trained and held alike.

    Returns:
        (N,) the kind of each row; kinds are numbered in the order in which they appear.
    """
    parts = (batch.token_ids, batch.attention_mask, batch.loss_mask, batch.kl_mask)
    kinds: dict[bytes, int] = {}
    keys = (b"".join(part[row].numpy().tobytes() for part in parts) for row in range(len(batch)))
    return [kinds.setdefault(key, len(kinds)) for key in keys]


def merge_equal_rows(batch: Batch, kinds: Sequence[int] | None = None) -> Batch:
    """Replace equal rows by one whose loss and gradients are those of all.

    Independent rollouts of a sharp policy are mostly repetitions. The clipped surrogate is linear
    in S+ and S-, entropy and KL in their weight, so each is summed. Merge only after
    `correct_gaps`, since turns lose their own log mu; and after minibatches are dealt, since copies
    in one of them make its step longer.

    Args:
        batch: on the CPU, with scored `old_logprobs`.
        kinds: (N,) of `equal_rows`, if they are known.
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
        count=total(batch.count),
    )


def computing_order(batch: Batch, share_prefix: bool = False) -> list[int]:
    """The order in which rows are computed: those that begin alike together, or the longest first.

    Returns:
        (N,) places of the rows.
    """
    if share_prefix:
        return lexicographic_order(batch.token_ids, batch.attention_mask)
    lengths = batch.attention_mask.sum(dim=1).tolist()
    return sorted(range(len(batch)), key=lambda row: -lengths[row])


def own_rows(batch: Batch, order: Sequence[int], share_prefix: bool = False) -> list[int]:
    """Choose the rows that this rank computes: about an equal part of the tokens.

    Args:
        batch: the same on every rank.
        order: of `computing_order`.
        share_prefix: keep rows that begin alike together.

    Returns:
        Part of `order`, all of it in a single process. There may be none.
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

    Padded rows: rows times padded length stays within `max_tokens`. With shared prefixes their
    tokens do, each counted once. A row that alone exceeds the limit stands alone.

    Args:
        batch: N rows.
        max_tokens: of a group.
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
    """Neighbours in lexicographic order; the first of a group brings all its tokens.

    Attention gathers keys for whole rows, shared or not: `MAX_READ` bounds those.
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
    """The place of the first row of each kind, (M,)."""
    places: dict[int, int] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, place)
    return [places[kind] for kind in range(len(places))]
