"""Log-probabilities of sampled responses under the plain prompt x, without gradients."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ..agents.logprobs import ENTROPY, Statistic
from ..agents.policy import Policy
from ..sampling.trajectory import DuplicateProposal, TrajectoryTree, Turn
from .batch import Batch, collate_pairs
from .micro_batches import own_parts

Answer = TypeVar("Answer", Turn, DuplicateProposal)


@torch.no_grad()
def score(
    policy: Policy, batch: Batch, max_tokens: int, statistics: Sequence[Statistic] = ENTROPY
) -> tuple[Tensor, ...]:
    """Compute log-probabilities and statistics of a batch's tokens under the plain prompt.

    Args:
        policy: pi_old; all ranks pass through it equally often.
        batch: N rows of this rank, maybe none, of T tokens.
        max_tokens: tokens of a part, as of `own_parts`.
        statistics: of a token's distribution; by default its entropy in nats.

    Returns:
        (N, T) tensors, 0 outside `loss_mask`: log-probabilities, and one for each statistic.
    """
    shape = (1 + len(statistics), *batch.old_logprobs.shape)
    scores = torch.zeros(shape, dtype=batch.old_logprobs.dtype)
    for part in own_parts(policy, batch, max_tokens):
        rows = part.distinct_rows(batch)
        values = torch.stack(policy.logprobs(rows, statistics=statistics))  # (1 + K, M, t)
        if part.is_idle:
            continue
        values = torch.where(rows.loss_mask, values, 0.0).to(scores.dtype)
        scores[:, torch.tensor(part.rows), : values.shape[2]] = values[:, part.kinds]
    return tuple(scores)


def with_plain_logprobs(policy: Policy, tree: TrajectoryTree, max_tokens: int) -> TrajectoryTree:
    """Return a tree whose responses, duplicates included, have their log-probability under x.

    Args:
        policy: the policy that sampled the tree.
        tree: not changed.
        max_tokens: most tokens computed at a time, as in `own_parts`.
    """
    prompts = {parent: tree.turns[node].prompt_ids for node, parent in enumerate(tree.parents)}
    pairs = [(turn.prompt_ids, turn.response_ids) for turn in tree.turns]
    pairs += [(prompts[one.parent], one.response_ids) for one in tree.duplicates]
    batch = collate_pairs([pair for pair in pairs if pair[1]])
    sums = iter(score(policy, batch, max_tokens)[0].sum(1).tolist())
    logprobs = [next(sums) if response else 0.0 for _, response in pairs]  # (num_pairs,)
    count = len(tree)
    return replace(
        tree,
        turns=_with_logprobs(tree.turns, logprobs[:count]),
        duplicates=_with_logprobs(tree.duplicates, logprobs[count:]),
    )


def _with_logprobs(answers: Sequence[Answer], logprobs: Sequence[float]) -> list[Answer]:
    pairs = zip(answers, logprobs, strict=True)
    return [replace(answer, plain_logprob=logprob) for answer, logprob in pairs]
