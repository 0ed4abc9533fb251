"""Moves rows of a batch between the ranks, as tensors.

A row travels without padding, and of what stands outside of its trained tokens only the token ids:
9 bytes a token or less, where a padded row takes 43 in memory. Nothing is parsed.
"""

from collections.abc import Sequence
from dataclasses import replace

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


def number_across_ranks(batch: Batch) -> tuple[Batch, int]:
    """Number turns and prompt groups across the ranks, in rank order.

    Args:
        batch: this rank's rows, numbered from 0 as `collate` does.

    Returns:
        The rows, with what is known of the turns of all ranks, and the number of all groups.
    """
    if world_size() == 1:
        return batch, batch.num_groups
    turns = torch.stack([batch.proposal_index, batch.depth])  # (2, num_turns)
    known = all_gather([turns.tolist(), batch.num_groups])
    everyones = torch.cat([turns.new_tensor(own) for own, _ in known], dim=1)
    first_turn = sum(len(own[0]) for own, _ in known[: rank()])
    first_group = sum(num_groups for _, num_groups in known[: rank()])
    numbered = replace(
        batch,
        turn=torch.where(batch.loss_mask, batch.turn + first_turn, -1),
        proposal_index=everyones[0],
        depth=everyones[1],
        prompt_group=batch.prompt_group + first_group,
    )
    return numbered, sum(num_groups for _, num_groups in known)


def exchange_rows(batch: Batch, rows: Sequence[int], owners: Sequence[int]) -> Batch:
    """Send rows to their owners; all ranks must call it. A rank's own rows are only copied.

    Args:
        batch: this rank's rows, its turns and groups numbered across the ranks.
        rows: (n,) indices in the batch; a row may be sent several times.
        owners: (n,) rank that gets each of them.

    Returns:
        The rows that this rank keeps, in the order of `rows`, and after them those that it got, by
        the rank that sent them and then in its order.
    """
    every_row, owner = (torch.as_tensor(each, dtype=torch.int64) for each in (rows, owners))
    stays = owner == rank()
    kept = every_row[stays]
    order = owner[~stays].argsort(stable=True)
    sent = every_row[~stays][order]
    num_sent = torch.bincount(owner[~stays], minlength=world_size())
    num_got = _send(num_sent, [1] * world_size(), [1] * world_size()).tolist()
    num_sent = num_sent.tolist()

    mask = batch.attention_mask[sent]
    lengths = _send(mask.sum(1), num_sent, num_got)
    own_lengths = batch.attention_mask[kept].sum(1)
    width = max([0, *lengths.tolist(), *own_lengths.tolist()])
    got = torch.arange(width) < lengths[:, None]

    def pass_on(values: Tensor, sizes: tuple[Tensor, ...], fill: int = 0) -> Tensor:
        """Send the values in the first of two masks to where the second is."""
        sent_mask, got_mask = sizes
        flat = _send(
            _small(values[sent][sent_mask]),
            _sizes(sent_mask, num_sent),
            _sizes(got_mask, num_got),
        )
        result = values.new_full((len(kept) + len(got), width), fill)
        result[: len(kept), : values.shape[1]] = values[kept, :width]
        result[len(kept) :].masked_scatter_(got_mask, flat.to(values.dtype))
        return result

    all_lengths = torch.cat([own_lengths, lengths])
    attention_mask = torch.arange(width) < all_lengths[:, None]
    # Equal rows of several ranks must be equal in their padding too (`equal_rows`).
    token_ids = pass_on(batch.token_ids, (mask, got)).masked_fill_(~attention_mask, 0)
    loss_mask = pass_on(batch.loss_mask, (mask, got))
    trained = batch.loss_mask[sent], loss_mask[len(kept) :]
    is_set = np.any(all_gather([bool(getattr(batch, name).any()) for name in TRAINED]), axis=0)
    fields = {
        name: pass_on(getattr(batch, name), trained, -1 if name == "turn" else 0)
        if is_sent  # all zeros, such as log-probabilities before they are scored, are made anew
        else getattr(batch, name).new_zeros(loss_mask.shape)
        for name, is_sent in zip(TRAINED, is_set, strict=True)
    }
    groups = _send(batch.prompt_group[sent], num_sent, num_got)
    return replace(
        batch,
        token_ids=token_ids,
        attention_mask=attention_mask,
        loss_mask=loss_mask,
        prompt_group=torch.cat([batch.prompt_group[kept], groups]),
        **fields,
    )


def gather_rows(batch: Batch) -> Batch:
    """Return the rows of all ranks, in the order of their turns; in a single process the batch."""
    if world_size() == 1:
        return batch
    num, size = len(batch), world_size()
    owners = [owner for owner in range(size) for _ in range(num)]
    whole = exchange_rows(batch, [*range(num)] * size, owners)
    return whole.select(_last_turns(whole).argsort())


def find_own_rows(whole: Batch, own: Batch) -> Tensor:
    """Return the index in `gather_rows` of each of this rank's rows, (N,)."""
    return torch.searchsorted(_last_turns(whole), _last_turns(own))


def _last_turns(batch: Batch) -> Tensor:
    """The last trained turn of each row, (N,): turns are numbered in the order of the rows."""
    return batch.turn.max(dim=1).values if len(batch) else batch.turn.new_zeros(0)


def _sizes(mask: Tensor, num_rows: Sequence[int]) -> list[int]:
    """Values of each rank's rows."""
    return [int(part.sum()) for part in mask.split(list(num_rows))]


def _small(values: Tensor) -> Tensor:
    """The values as they travel; integers must fit into 32 bits."""
    kinds = {torch.int64: torch.int32, torch.bool: torch.uint8}
    return values.to(kinds.get(values.dtype, values.dtype))


def _send(values: Tensor, num_sent: Sequence[int], num_got: Sequence[int]) -> Tensor:
    """Send values to the ranks, some to each in their order; returns what came."""
    got = values.new_empty(sum(num_got))
    come_to_exchange()
    dist.all_to_all_single(got, values, list(num_got), list(num_sent))
    return got
