"""Deals the rows of a batch to the ranks, and splits each rank's into micro-batches.

Equal rows are computed once. If the model can share prefixes, rows with a common prefix are placed
together and the prefix is computed once too (`agents/prefix_rows.py`). Micro-batches are bounded in
tokens, and every rank computes about the same number of tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from ..agents.policy import Policy
from ..agents.prefix_rows import lexicographic_order, new_lengths
from .batch import Batch, collate_pairs
from .distributed import all_gather, come_to_exchange, largest, world_size
from .row_exchange import exchange_rows, pack_rows

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

    def distinct_rows(self, batch: Batch) -> Batch:
        """The distinct rows of the batch that it is a part of; idle, a row of two tokens."""
        return idle_row() if self.is_idle else batch.select(self.distinct)


def idle_row() -> Batch:
    """A row of two tokens, for a pass through the model that only keeps other ranks company."""
    return collate_pairs([((0,), (0,))])


@dataclass(frozen=True)
class RowCost:
    """What every rank knows of a row before rows are dealt."""

    name: str
    """Equal rows share it."""
    prompt: str
    """Rows with equal tokens before the first trained one share it."""
    first: int
    """Tokens to compute after the rows before it on its rank, at least 1."""
    later: int
    """Tokens to compute after a row with the same prompt, at least 1."""


def deal_rows(policy: Policy, batch: Batch) -> Batch:
    """Move rows between the ranks, so that each computes about an equal share of the tokens.

    The rows of all ranks, in rank order and those of a prompt together, are one sequence, which is
    cut evenly. So most rows stay where they are, and a prompt is mostly computed by one rank.

    Args:
        policy: its `can_share_prefix` is used.
        batch: this rank's rows, maybe none.

    Returns:
        The rows that this rank computes, maybe none; in a single process the batch itself.
    """
    if world_size() == 1:
        return batch
    copies: dict[str, list[int]] = {}
    for row, name in enumerate(row_names(batch)):
        copies.setdefault(name, []).append(row)
    names = {rows[0]: name for name, rows in copies.items()}
    order = [row for row in computing_order(batch, policy.can_share_prefix) if row in names]
    costs = _row_costs(batch, order, names, policy.can_share_prefix)
    known = all_gather([[*vars(cost).values()] for cost in costs])
    owners = deal([RowCost(*values) for part in known for values in part], world_size())
    costs.sort(key=lambda cost: owners[cost.name])
    packed = pack_rows(batch, [row for cost in costs for row in copies[cost.name]])
    del batch  # maybe the last reference: old rows need not be kept while new ones come
    return exchange_rows(packed, [owners[cost.name] for cost in costs for _ in copies[cost.name]])


def deal(rows: Sequence[RowCost], num: int) -> dict[str, int]:
    """Cut the rows of all ranks into parts of about equal costs.

    Args:
        rows: of all ranks, in rank order; a row that comes again costs nothing.
        num: number of parts.

    Returns:
        The part of each row by its name; a part's cost is an equal share, give or take a row.

    >>> rows = [RowCost("a", "x", 9, 2), RowCost("b", "y", 9, 2), RowCost("c", "x", 9, 2)]
    >>> deal(rows, num=2)
    {'a': 0, 'c': 1, 'b': 1}
    """
    by_prompt: dict[str, dict[str, int]] = {}
    for row in rows:
        costs = by_prompt.setdefault(row.prompt, {})
        costs.setdefault(row.name, min(row.first, row.later) if costs else row.first)
    costs = {name: cost for group in by_prompt.values() for name, cost in group.items()}
    ends = np.cumsum([*costs.values()], dtype=int)
    return dict(zip(costs, ((ends - 1) * num // max([1, *ends])).tolist(), strict=True))


def _row_costs(
    batch: Batch, order: Sequence[int], names: Mapping[int, str], share_prefix: bool
) -> list[RowCost]:
    """The costs of rows that are computed in an order."""
    lengths = batch.lengths.tolist()
    starts = batch.loss_mask.int().argmax(dim=1).tolist() if len(batch) else []
    ids = batch.token_ids.numpy()
    costs = []
    for row, added in zip(order, _added_tokens(batch, order, share_prefix), strict=True):
        prompt = blake2b(ids[row, : starts[row]].data, digest_size=8).hexdigest()
        later = lengths[row] - starts[row] if share_prefix else lengths[row]
        costs.append(RowCost(names[row], prompt, added, later))
    return costs


def row_names(batch: Batch) -> list[str]:
    """Names that equal rows share, as of `equal_rows`, whatever their padding, (N,)."""
    parts = (batch.token_ids, batch.loss_mask, batch.kl_mask, batch.proxy_logprobs != 0)
    arrays = [part.numpy() for part in parts]
    names = []
    for row, length in enumerate(batch.lengths.tolist()):
        content = blake2b(digest_size=8)
        for array in arrays:
            content.update(array[row, :length].data)
        names.append(content.hexdigest())
    return names


def _added_tokens(batch: Batch, order: Sequence[int], share_prefix: bool) -> list[int]:
    """Tokens that each row adds to those before it, (len(order),)."""
    if share_prefix and order:
        return new_lengths(batch.token_ids, batch.attention_mask, order)
    lengths = batch.lengths.tolist()
    return [lengths[row] for row in order]


def own_parts(policy: Policy, batch: Batch, max_tokens: int) -> Iterator[Part]:
    """Split a batch into parts, as many as every other rank has.

    Args:
        policy: its `can_share_prefix` is used.
        batch: this rank's rows, maybe none.
        max_tokens: most tokens of a part, counted with padding or with shared prefixes once; a
            longer row is a part of its own.
    """
    kinds = equal_rows(batch)
    firsts = _first_places(kinds)
    copies: list[list[int]] = [[] for _ in firsts]
    for row, kind in enumerate(kinds):
        copies[kind].append(row)
    distinct, shares = batch.select(firsts), policy.can_share_prefix
    order = computing_order(distinct, shares)
    groups = group_rows(distinct, max_tokens, order, shares)
    num_parts = largest(len(groups))
    for group in groups:
        rows = [row for kind in group for row in copies[kind]]
        places = [place for place, kind in enumerate(group) for _ in copies[kind]]
        come_to_exchange()
        yield Part(rows, places)
    for _ in range(num_parts - len(groups)):
        come_to_exchange()
        yield Part([], [], is_idle=True)


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
    lengths = batch.lengths.tolist()
    return sorted(range(len(batch)), key=lambda row: -lengths[row])


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
    lengths = batch.lengths.tolist()
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
    added = _added_tokens(batch, order, share_prefix=True)
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
