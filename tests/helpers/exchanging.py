"""`python -m tests.helpers.exchanging`: three processes move rows between them."""

import sys
from dataclasses import fields, replace
from types import SimpleNamespace

import torch
import torch.distributed as dist

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.training.advantages import trajectory_credit
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.distributed import all_gather, largest, rank
from sesa_agent.training.micro_batches import deal_rows, row_names
from sesa_agent.training.row_exchange import find_own_rows, gather_rows, number_across_ranks

from .batches import uneven_tree
from .credits import credit_of
from .sharded import run_together

NUM_TREES = (6, 0, 1)
"""By rank: one has none, and the last one's is equal to one of the first one's."""
DENOMINATOR = 3.0


def batch_of(trees: list[TrajectoryTree], pad_id: int = 0) -> Batch:
    """Rows that differ in everything; those of a tree are the same in every batch."""
    credits = [credit_of(trajectory_credit, tree, LossConfig()) for tree in trees]
    batch = collate(trees, credits, pad_id, keep_zero_advantage=True, denominator=DENOMINATOR)
    old = torch.where(batch.loss_mask, -batch.token_ids / 7, 0.0)
    return replace(
        batch,
        old_logprobs=old,
        proxy_logprobs=old.where(batch.token_ids > 20, 0.0),
        entropy_weight=batch.weight / 3,
        kl_mask=batch.loss_mask & (batch.token_ids > 30),
    )


def check_equal(found: Batch, expected: Batch) -> None:
    for field in fields(Batch):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert a.dtype == b.dtype and torch.equal(a, b), field.name


def lengths(batch: Batch) -> list[int]:
    return batch.attention_mask.sum(1).tolist()


def work() -> None:
    dist.init_process_group("gloo")
    first = sum(NUM_TREES[: rank()])
    trees = [uneven_tree("state", seed % NUM_TREES[0]) for seed in range(sum(NUM_TREES))]
    whole = batch_of(trees)
    own_trees = trees[first : first + NUM_TREES[rank()]]
    own = number_across_ranks(batch_of(own_trees, pad_id=7))
    num_groups = largest(own.num_groups)
    assert num_groups == whole.num_groups
    check_equal(gather_rows(own), whole)
    for shares in (True, False):
        policy = SimpleNamespace(can_share_prefix=shares)
        dealt = deal_rows(policy, own)  # pyright: ignore[reportArgumentType]
        check_equal(gather_rows(dealt), whole)
        check_equal(whole.select(find_own_rows(whole, dealt)), dealt)
        different = dict(zip(row_names(dealt), lengths(dealt), strict=True))
        everyones = all_gather(different)
        assert len({name for part in everyones for name in part}) == sum(map(len, everyones))
        tokens = [sum(part.values()) for part in everyones]
        assert max(tokens) < 1.3 * sum(tokens) / 3, tokens  # before: 3 times
    minibatches = own.minibatches(3, torch.Generator().manual_seed(0), num_groups)
    expected = whole.minibatches(3, torch.Generator().manual_seed(0))
    for part, all_rows in zip(minibatches, expected, strict=True):
        check_equal(gather_rows(deal_rows(policy, part)), all_rows)  # pyright: ignore
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(max(run_together(3, work)))
