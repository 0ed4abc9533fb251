"""How likely the policy finds what was drawn, under the plain prompt x. No gradients."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..agents.policy import Policy
from ..sampling.trajectory import ROOT, TrajectoryTree
from .advantages import Credit
from .batch import Batch, collate, equal_rows
from .distributed import all_reduce, own_rows


@torch.no_grad()
def score(policy: Policy, batch: Batch, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of the batch's tokens under the plain prompt.

    Two (N, T) tensors in nats, 0 at tokens that are not trained.
    """
    firsts, places = equal_rows(batch)
    different = batch.select(firsts)
    scores = torch.zeros(2, *different.old_logprobs.shape, dtype=batch.old_logprobs.dtype)
    packed = policy.can_share_prefix
    for rows in different.micro_batch_rows(max_tokens, own_rows(different, packed), packed):
        part = different.select(rows)
        values = torch.stack(policy.logprobs(part))  # (2, n, t)
        values = torch.where(part.loss_mask, values, 0.0).to(scores.dtype)
        scores[:, torch.tensor(rows), : values.shape[2]] = values
    all_reduce(scores)
    return scores[0, places], scores[1, places]


def with_plain_logprobs(policy: Policy, tree: TrajectoryTree, max_tokens: int) -> TrajectoryTree:
    """Note at every response of a tree, repeats included, how likely it is under x.

    Args:
        policy: the one that drew the tree.
        tree: is left as it is.
        max_tokens: tokens that are computed at a time, at least.
    """
    # A tree without depth has one row for each turn, in their order.
    decisions = {parent: tree.turns[node] for node, parent in enumerate(tree.parents)}
    dropped = [
        replace(
            decisions[said.parent],
            response_ids=said.response_ids,
            sampling_logprobs=said.sampling_logprobs,
        )
        for said in tree.duplicates
    ]
    answers = [*tree.turns, *dropped]
    ones, zeros = np.ones(len(answers)), np.zeros(len(answers))
    flat = TrajectoryTree(tree.task, [ROOT] * len(answers), answers)
    batch = collate([flat], [Credit(zeros, zeros, ones, 1.0)], 0, keep_zero_advantage=True)
    sums = iter(score(policy, batch, max_tokens)[0].sum(1).tolist() if len(batch) else [])
    totals = [next(sums) if answer.response_ids else 0.0 for answer in answers]  # (num_answers,)
    count = len(tree)
    return replace(
        tree,
        turns=[
            replace(turn, plain_logprob=total)
            for turn, total in zip(tree.turns, totals[:count], strict=True)
        ],
        duplicates=[
            replace(said, plain_logprob=total)
            for said, total in zip(tree.duplicates, totals[count:], strict=True)
        ],
    )
