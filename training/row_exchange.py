"""Moves rows of a batch between the ranks, as tensors.

A row travels without padding, and of what stands outside of its trained tokens only the token ids:
5 bytes a token and some 28 more of a trained one, where memory holds about 50 of every token and of
padding. Nothing is parsed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .batch import Batch
from .distributed import all_gather, come_to_exchange, rank, world_size

TRAINED = (
    "positive",
    "negative",
    "weight",
    "entropy_weight",
    "turn",
    "sampling_logprobs",
    "old_logprobs",
    "kl_mask",
    "proxy_logprobs",
    "count",
)
"""Fields of a batch that say nothing outside of `loss_mask`."""
WIDE = {torch.int32: torch.int64, torch.uint8: torch.bool}
"""Formats in a batch of values that travel in smaller ones."""


def number_across_ranks(batch: Batch) -> Batch:
    """Number turns and prompt groups across the ranks, in rank order.

    Args:
        batch: this rank's rows, numbered from 0 as `collate` does.

    Returns:
        The rows, with what is known of the turns of all ranks.
    """
    if world_size() == 1:
        return batch
    turns = torch.stack([batch.proposal_index, batch.depth])  # (2, num_turns)
    known = all_gather([turns.tolist(), batch.num_groups])
    everyones = torch.cat([turns.new_tensor(own) for own, _ in known], dim=1)
    first_turn = sum(len(own[0]) for own, _ in known[: rank()])
    first_group = sum(num_groups for _, num_groups in known[: rank()])
    return replace(
        batch,
        turn=(batch.turn + first_turn).masked_fill_(~batch.loss_mask, -1),
        proposal_index=everyones[0],
        depth=everyones[1],
        prompt_group=batch.prompt_group + first_group,
    )


@dataclass
class PackedRows:
    """Rows without padding, and of `TRAINED` only the values of trained tokens."""

    lengths: Tensor
    """(n,) int32, tokens of each row."""
    num_trained: Tensor
    """(n,) int32, trained tokens of each row."""
    prompt_group: Tensor
    """(n,) int64, as in `Batch`."""
    values: dict[str, Tensor]
    """`token_ids` and `loss_mask` of all tokens, and each of `TRAINED` of the trained ones."""
    turns: dict[str, Tensor]
    """What is known of the turns of all ranks: `proposal_index` and `depth`."""


def pack_rows(batch: Batch, rows: Sequence[int]) -> PackedRows:
    """Copy rows as they travel.

    Args:
        batch: this rank's rows, its turns and groups numbered across the ranks.
        rows: (n,) indices in the batch; a row may be packed several times.
    """
    chosen = torch.as_tensor(rows, dtype=torch.int64)
    lengths, trained = batch.lengths[chosen], batch.loss_mask[chosen]
    which, column = trained.nonzero(as_tuple=True)
    places = (chosen * trained.shape[1])[which].add_(column)
    del which, column
    values = {name: _small(getattr(batch, name).take(places)) for name in TRAINED}
    for name, kind in (("token_ids", np.int32), ("loss_mask", np.uint8)):
        padded, ends = getattr(batch, name).numpy(), lengths.tolist()
        parts = [padded[row, :end] for row, end in zip(rows, ends, strict=True)]
        flat = np.concatenate([padded[:0].ravel(), *parts], dtype=kind, casting="unsafe")
        values[name] = torch.from_numpy(flat)
    return PackedRows(
        lengths,
        trained.sum(1, dtype=torch.int32),
        batch.prompt_group[chosen],
        values,
        {"proposal_index": batch.proposal_index, "depth": batch.depth},
    )


def exchange_rows(packed: PackedRows, owners: Sequence[int]) -> Batch:
    """Send rows to their owners; all ranks must call it.

    Args:
        packed: this rank's rows. Their values are taken out one after the other, so that memory
            never holds all of them twice.
        owners: (n,) rank that gets each of them, in ascending order.

    Returns:
        The rows that this rank got, by the rank that sent them and then in its order.
    """
    num_sent = torch.bincount(torch.as_tensor(owners, dtype=torch.int64), minlength=world_size())
    num_got = _send(num_sent, [1] * world_size(), [1] * world_size()).tolist()
    num_sent = num_sent.tolist()
    lengths, num_trained, prompt_group = (
        _send(values, num_sent, num_got)
        for values in (packed.lengths, packed.num_trained, packed.prompt_group)
    )
    tokens = _sums(packed.lengths, num_sent), _sums(lengths, num_got)
    trained = _sums(packed.num_trained, num_sent), _sums(num_trained, num_got)
    is_set = [bool(packed.values[name].any()) for name in TRAINED]
    is_sent = dict(zip(TRAINED, np.any(all_gather(is_set), axis=0), strict=True))

    attention_mask = torch.arange(max([0, *lengths.tolist()])) < lengths[:, None]

    def lay_out(values: Tensor, places: Tensor, fill: int = 0) -> Tensor:
        kind = WIDE.get(values.dtype, values.dtype)
        padded = torch.full(attention_mask.shape, fill, dtype=kind)
        padded.view(-1)[places] = values.to(kind)
        return padded

    places = attention_mask.flatten().nonzero()[:, 0]
    loss_mask = lay_out(_send(packed.values.pop("loss_mask"), *tokens), places)
    # Equal rows of several ranks must be equal in their padding too (`equal_rows`), so it is 0.
    token_ids = lay_out(_send(packed.values.pop("token_ids"), *tokens), places)
    places, fields = loss_mask.flatten().nonzero()[:, 0], {}
    for name in TRAINED:
        own = packed.values.pop(name)
        # All zeros, such as log-probabilities before they are scored, need not travel.
        got = _send(own, *trained) if is_sent[name] else own.new_zeros(len(places))
        fields[name] = lay_out(got, places, -1 if name == "turn" else 0)
    return Batch(
        token_ids=token_ids,
        attention_mask=attention_mask,
        loss_mask=loss_mask,
        prompt_group=prompt_group,
        **packed.turns,
        **fields,
    )


def gather_rows(batch: Batch) -> Batch:
    """Return the rows of all ranks, in the order of their turns; in a single process the batch."""
    if world_size() == 1:
        return batch
    num, size = len(batch), world_size()
    owners = [owner for owner in range(size) for _ in range(num)]
    whole = exchange_rows(pack_rows(batch, [*range(num)] * size), owners)
    return whole.select(_last_turns(whole).argsort())


def find_own_rows(whole: Batch, own: Batch) -> Tensor:
    """Return the index in `gather_rows` of each of this rank's rows, (N,)."""
    return torch.searchsorted(_last_turns(whole), _last_turns(own))


def _last_turns(batch: Batch) -> Tensor:
    """The last trained turn of each row, (N,): turns are numbered in the order of the rows."""
    return batch.turn.max(dim=1).values if len(batch) else batch.turn.new_zeros(0)


def _sums(counts: Tensor, num_rows: Sequence[int]) -> list[int]:
    """Values of each rank's rows."""
    return [int(part.sum()) for part in counts.split(list(num_rows))]


def _small(values: Tensor) -> Tensor:
    """The values as they travel; integers must fit into 32 bits."""
    kinds = {wide: small for small, wide in WIDE.items()}
    return values.to(kinds.get(values.dtype, values.dtype))


def _send(values: Tensor, num_sent: Sequence[int], num_got: Sequence[int]) -> Tensor:
    """Send values to the ranks, some to each in their order; returns what came."""
    got = values.new_empty(sum(num_got))
    come_to_exchange()
    dist.all_to_all_single(got, values, list(num_got), list(num_sent))
    return got
