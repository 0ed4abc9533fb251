"""Credit, batches and log-probabilities for tests of the update."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree
from sesa_agent.training.advantages import Credit, trajectory_credit
from sesa_agent.training.batch import Batch, collate

from .credits import credit_of
from .strategies import FIRST_SAMPLED, make_tree, make_turn

TOKENS = 64  # more than the sampled tokens of any random tree
PARENTS = [ROOT, ROOT, 0, 0, 0, 1, 2, 2, 6, 6, 9]
"""Parents of a tree with branches and leaves at several depths."""


def make_credit(positive, negative=None, weight=None, denominator=1.0) -> Credit:
    positive = np.array(positive, dtype=float)
    negative = np.zeros_like(positive) if negative is None else np.array(negative, dtype=float)
    weight = np.ones_like(positive) if weight is None else np.array(weight, dtype=float)
    return Credit(positive, negative, weight, denominator)


def random_logprobs(seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """New and old log-probabilities by sampled token; ratios from e^-2 to e^2 and farther."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(TOKENS, generator=generator, dtype=torch.float64) - 0.5
    change = torch.randn(TOKENS, generator=generator, dtype=torch.float64) * spread
    return (old + change).requires_grad_(), old


def lookup(table: Tensor, batch: Batch) -> Tensor:
    """Values of the sampled tokens in the layout of the batch, (N, T)."""
    return table[(batch.token_ids - FIRST_SAMPLED).clamp(min=0)]


def collate_double(groups: list[TrajectoryTree], cfg: LossConfig, old: Tensor) -> Batch:
    credits = [credit_of(trajectory_credit, tree, cfg) for tree in groups]
    batch = collate(groups, credits, 0, keep_zero_advantage=True, dtype=torch.float64)
    return replace(batch, old_logprobs=lookup(old, batch))


def column_batch(advantages, old_logprobs=None, weight: float = 1.0) -> Batch:
    """A row of one trained token for each advantage, at place [n, 1]."""
    positive = [weight * max(a, 0.0) for a in advantages]
    negative = [weight * min(a, 0.0) for a in advantages]
    credit = make_credit(positive, negative, [weight] * len(positive))
    turns = [make_turn(prompt_ids=(1,)) for _ in positive]
    tree = make_tree([ROOT] * len(turns), turns)
    batch = collate([tree], [credit], 0, keep_zero_advantage=True, dtype=torch.float64)
    return batch if old_logprobs is None else replace(batch, old_logprobs=column(old_logprobs))


def column(values) -> Tensor:
    """(N, T) with the values at the trained tokens of `column_batch`."""
    return torch.tensor([[0.0, value] for value in values], dtype=torch.float64)


def taught(batch: Batch) -> list[float]:
    return (batch.positive + batch.negative)[:, 1].tolist()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uneven_tree(context: str, seed: int = 0) -> TrajectoryTree:
    """Turns of 2 to 6 tokens; prompts share their first 20, or continue their parent's turn."""
    rng = np.random.default_rng(seed)

    def tokens(low, high):
        return tuple(rng.integers(1, 60, rng.integers(low, high)).tolist())

    tree = make_tree([])
    rules, start = tokens(20, 21), tokens(5, 12)
    prompts = {ROOT: rules + start}
    for node, parent in enumerate(PARENTS):
        turn = make_turn(
            prompt_ids=prompts[parent],
            response_ids=tokens(2, 7),
            reward=float(rng.normal()),
            success=bool(rng.integers(2)),
            proposal_index=PARENTS[:node].count(parent),
            terminated=node not in PARENTS,
        )
        above = turn.prompt_ids + turn.response_ids if context == "full" else rules
        prompts[node] = above + tokens(5, 12)
        tree.add(parent, turn)
    return tree
