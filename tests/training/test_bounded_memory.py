"""An update keeps no more for its backward pass than `optim.max_batch_tokens` allows.

Counted, not measured: the bytes that autograd saves are the same on every machine.
"""

import pytest
import torch

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree
from sesa_agent.training.advantages import trajectory_credit
from sesa_agent.training.batch import collate
from sesa_agent.training.losses import grpo_loss
from sesa_agent.training.micro_batches import computing_order, group_rows

from ..helpers.batches import uneven_tree
from ..helpers.credits import credit_of
from ..helpers.model_families import SHARING, policy_of
from ..helpers.strategies import make_tree, make_turn

KINDS = pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
FEW, MANY = 8, 64
"""Trees, or leaves of one; the smaller rollout fills several micro-batches too."""
BOUND = 150


@pytest.fixture(scope="module")
def policy():
    return policy_of(SHARING["llama"], torch.float32)


def saved_bytes(policy, part) -> int:
    """Bytes of all tensors that one forward pass and its loss keep, the weights left out."""
    known = {weight.untyped_storage().data_ptr() for weight in policy.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, entropy = policy.logprobs(part)
        grpo_loss(logprobs, entropy, part, LossConfig())
    return sum(storage.nbytes() for storage in kept.values())


def several_trees(num: int) -> list[TrajectoryTree]:
    return [uneven_tree("full", seed) for seed in range(num)]


def one_wide_tree(num_leaves: int) -> list[TrajectoryTree]:
    """A turn that all leaves share, and one that each has of its own."""
    tree = make_tree([])
    first = tree.add(ROOT, make_turn(prompt_ids=tuple(range(1, 60)), response_ids=(1, 2)))
    for leaf in range(num_leaves):
        prompt_ids = (*range(1, 60), 1, 2, *range(3, 33))
        response_ids = (leaf % 60, *range(20))
        tree.add(first, make_turn(prompt_ids=prompt_ids, response_ids=response_ids))
    return [tree]


def most_saved(policy, groups: list[TrajectoryTree], bound: int, packed: bool) -> int:
    """Bytes that the largest micro-batch of a rollout keeps."""
    policy.padding_reason = "" if packed else "a test says so"
    credits = [credit_of(trajectory_credit, tree, LossConfig()) for tree in groups]
    batch = collate(groups, credits, 0, keep_zero_advantage=True)
    chosen = group_rows(batch, bound, computing_order(batch, packed), packed)
    parts = [batch.select(rows) for rows in chosen]
    assert len(parts) >= 3
    return max(saved_bytes(policy, part) for part in parts)


@KINDS
@pytest.mark.parametrize("grow", [several_trees, one_wide_tree])
def test_what_is_kept_does_not_grow_with_the_rollout(policy, grow, packed):
    few, many = (most_saved(policy, grow(num), BOUND, packed) for num in (FEW, MANY))
    assert many < 1.3 * few


@KINDS
@pytest.mark.parametrize("grow", [several_trees, one_wide_tree])
def test_what_is_kept_grows_with_the_bound(policy, grow, packed):
    small, large = (most_saved(policy, grow(MANY), bound, packed) for bound in (BOUND, 4 * BOUND))
    assert 3 * small < large < 5 * small
