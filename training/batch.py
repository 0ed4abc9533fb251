"""Converts trees to padded tensors.

Every trained turn is trained in exactly one row. If a child's prompt continues its parent's tokens
(context `full`), the turns along a branch share a row, and a turn that is trained in another row is
only context; otherwise (context `state`) each turn is a row. Token ids, masks, credit and
log-probabilities are those of the sampled turn; nothing is tokenised again.

Alignment: entry [n, t] of every (N, T) tensor is about token t given the tokens before it; column 0
is never trained. Letters: N rows, T padded tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ..agents.prefix_rows import row_lengths
from ..sampling.trajectory import ROOT, TrajectoryTree, Turn
from .credit import Credit


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows to train on. Credit is already divided by the denominator, so a loss is a plain sum."""

    token_ids: Tensor
    """(N, T) int64, padded on the right."""
    attention_mask: Tensor
    """(N, T) bool, False on padding."""
    loss_mask: Tensor
    """(N, T) bool, True on trained tokens."""
    positive: Tensor
    """(N, T) weighted sum of the positive advantages through the token's turn; 0 outside
    `loss_mask`."""
    negative: Tensor
    """(N, T) weighted sum of the negative advantages, never above 0; 0 outside `loss_mask`."""
    weight: Tensor
    """(N, T) weight of the token in entropy and KL; 0 outside `loss_mask`."""
    entropy_weight: Tensor
    """(N, T) weight of the token in the entropy bonus: `weight`, unless a method sets another."""
    turn: Tensor
    """(N, T) int64, index of the token's turn among the trained turns of the batch; -1 outside
    `loss_mask`."""
    sampling_logprobs: Tensor
    """(N, T) log mu(token), under the prompt it was sampled from; 0 outside `loss_mask`."""
    old_logprobs: Tensor
    """(N, T) log pi_old(token), under the plain prompt; zeros until scored."""
    kl_mask: Tensor
    """(N, T) bool, True on tokens that KL-Cov keeps near pi_old; all False until chosen."""
    proxy_logprobs: Tensor
    """(N, T) log-probability that Lp-Reg keeps a token near; 0 on all others."""
    count: Tensor
    """(N, T) sampled tokens that a token represents: 1, or more in merged rows; 0 outside
    `loss_mask`."""
    proposal_index: Tensor
    """(num_turns,) int64, `Turn.proposal_index` of each trained turn."""
    depth: Tensor
    """(num_turns,) int64, number of turns before each trained turn."""
    prompt_group: Tensor
    """(N,) int64, equal for rows of one tree whose first trained turn answers the same prompt."""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, (N,) int32."""
        return row_lengths(self.attention_mask)

    @property
    def num_tokens(self) -> int:
        """Number of sampled tokens that are trained."""
        return int(self.count.sum())

    @property
    def num_groups(self) -> int:
        """Number of prompt groups, if they are counted from 0."""
        return int(self.prompt_group.max()) + 1 if len(self) else 0

    def to(self, target: torch.device | torch.dtype | str) -> "Batch":
        """Move all tensors to a device, or convert the floating-point ones to a dtype."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(target, torch.dtype):
            tensors = {name: t for name, t in tensors.items() if t.is_floating_point()}
        return replace(self, **{name: tensor.to(target) for name, tensor in tensors.items()})

    def select(self, rows: Tensor | Sequence[int]) -> "Batch":
        """Select rows and drop padding that none of them needs. Turns keep their indices."""
        rows = torch.as_tensor(rows, dtype=torch.int64, device=self.token_ids.device)
        length = int(self.lengths[rows].max()) if len(rows) else 0
        chosen = {
            field.name: getattr(self, field.name)[rows, :length]
            for field in fields(self)
            if field.name not in ("proposal_index", "depth", "prompt_group")
        }
        return replace(self, **chosen, prompt_group=self.prompt_group[rows])

    def minibatches(
        self, num: int, generator: torch.Generator, num_groups: int | None = None
    ) -> list["Batch"]:
        """Split the prompt groups at random into `num` parts, or one part each if they are fewer.

        Answers to one prompt stay together, so that the prompt is computed once
        (`agents/prefix_rows.py`). Credit and weight are multiplied by the number of parts, so that
        each part's gradient estimates the whole batch's without bias, the step size does not depend
        on `num`, and the parts' losses average to the batch's loss.

        Args:
            num: number of parts, at least 1; their numbers of prompt groups differ by at most 1.
            generator: CPU generator of the shuffle.
            num_groups: prompt groups of all ranks; of this batch alone if it is None.
        """
        if num_groups is None:
            num_groups = self.num_groups
        if num_groups == 0:
            return []
        order = torch.randperm(num_groups, generator=generator)
        parts = order.tensor_split(min(num, len(order)))
        rows = [torch.isin(self.prompt_group, part).nonzero()[:, 0] for part in parts]
        return [self.select(chosen)._scale(len(parts)) for chosen in rows]

    def _scale(self, factor: float) -> "Batch":
        return replace(
            self,
            positive=self.positive * factor,
            negative=self.negative * factor,
            weight=self.weight * factor,
            entropy_weight=self.entropy_weight * factor,
        )


def collate(
    trees: Sequence[TrajectoryTree],
    credits: Sequence[Credit],
    pad_id: int,
    keep_zero_advantage: bool = False,
    dtype: torch.dtype = torch.float32,
    denominator: float | None = None,
) -> Batch:
    """Arrange the trained turns of some trees in rows.

    A turn is trained if its weight and its advantage are not 0. A row ends at the last trained turn
    of a branch; later turns would not change the loss.

    The weights of the turns that are taught add up to 1 over all trees that the rollout filter
    kept. Every process collates those it has sampled, with the denominator of all of them, so the
    number of processes does not matter; nor does that of minibatches (`Batch.minibatches`).

    Args:
        trees: the groups of the batch.
        credits: the credit of each tree.
        pad_id: token that pads rows on the right.
        keep_zero_advantage: train turns with zero advantage too, as an entropy bonus or a KL
            penalty needs.
        dtype: format of credit and log-probabilities.
        denominator: the sum of `Credit.denominator` over the trees of all ranks; over the given
            ones if it is None.

    Returns:
        A batch on the CPU; N = 0 if no turn is trained.

    Raises:
        ValueError: if a turn has an empty prompt, since nothing would predict its first token.
    """
    if not all(turn.prompt_ids for tree in trees for turn in tree.turns):
        raise ValueError("Every turn needs a prompt of at least one token.")
    if denominator is None:
        denominator = sum(credit.denominator for credit in credits)
    groups: dict[tuple[int, tuple[int, ...]], int] = {}
    rows = []
    for tree, credit in zip(trees, credits, strict=True):
        for nodes in _rows(tree, _is_trained(tree, credit, keep_zero_advantage)):
            end = tree.turns[nodes[-1]]
            key = (id(tree), tree.turns[nodes[0]].prompt_ids)
            spans = [_span(tree, credit, node, denominator) for node in nodes]
            token_ids = end.prompt_ids + end.response_ids
            rows.append(_Row(token_ids, spans, groups.setdefault(key, len(groups))))
    return _pad(rows, pad_id, dtype)


def collate_pairs(pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Batch:
    """Arrange (prompt, response) pairs in one row each, to compute their log-probabilities."""
    rows = [
        _Row(prompt + response, [_Span(len(prompt), len(prompt + response))], group)
        for group, (prompt, response) in enumerate(pairs)
    ]
    return _pad(rows, pad_id=0, dtype=torch.float32)


@dataclass(frozen=True)
class _Span:
    """A trained turn within its row: its tokens are `start` to `stop` (exclusive)."""

    start: int
    stop: int
    positive: float = 0.0
    negative: float = 0.0
    weight: float = 1.0
    sampling_logprobs: tuple[float, ...] | float = 0.0
    proposal_index: int = 0
    depth: int = 0


@dataclass(frozen=True)
class _Row:
    """A row before padding."""

    token_ids: tuple[int, ...]
    spans: list[_Span]
    prompt_group: int


def _span(tree: TrajectoryTree, credit: Credit, node: int, denominator: float) -> _Span:
    turn = tree.turns[node]
    return _Span(
        start=len(turn.prompt_ids),
        stop=_num_tokens(turn),
        positive=credit.positive[node] / denominator,
        negative=credit.negative[node] / denominator,
        weight=credit.weight[node] / denominator,
        sampling_logprobs=turn.sampling_logprobs,
        proposal_index=turn.proposal_index,
        depth=len(tree.path(node)) - 1,
    )


def _pad(rows: Sequence[_Row], pad_id: int, dtype: torch.dtype) -> Batch:
    """Pad rows on the right into tensors."""
    lengths = np.array([len(row.token_ids) for row in rows], dtype=int)
    shape = (len(rows), max(lengths, default=0))
    token_ids, turn_numbers = np.full(shape, pad_id), np.full(shape, -1)
    kind = np.float64 if dtype == torch.float64 else np.float32
    positive, negative, weight, sampling_logprobs = np.zeros((4, *shape), kind)
    proposal_index: list[int] = []
    depth: list[int] = []
    for n, row in enumerate(rows):
        token_ids[n, : lengths[n]] = row.token_ids
        for span in row.spans:
            tokens = (n, slice(span.start, span.stop))
            positive[tokens], negative[tokens] = span.positive, span.negative
            weight[tokens] = span.weight
            sampling_logprobs[tokens] = span.sampling_logprobs
            turn_numbers[tokens] = len(proposal_index)
            proposal_index.append(span.proposal_index)
            depth.append(span.depth)
    weights = torch.as_tensor(weight, dtype=dtype)
    return Batch(
        token_ids=torch.as_tensor(token_ids),
        attention_mask=torch.as_tensor(np.arange(shape[1]) < lengths[:, None]),
        loss_mask=torch.as_tensor(turn_numbers >= 0),
        positive=torch.as_tensor(positive, dtype=dtype),
        negative=torch.as_tensor(negative, dtype=dtype),
        weight=weights,
        entropy_weight=weights,
        turn=torch.as_tensor(turn_numbers),
        sampling_logprobs=torch.as_tensor(sampling_logprobs, dtype=dtype),
        old_logprobs=torch.zeros(shape, dtype=dtype),
        kl_mask=torch.zeros(shape, dtype=torch.bool),
        proxy_logprobs=torch.zeros(shape, dtype=dtype),
        count=torch.as_tensor(turn_numbers >= 0).to(dtype),
        proposal_index=torch.tensor(proposal_index, dtype=torch.int64),
        depth=torch.tensor(depth, dtype=torch.int64),
        prompt_group=torch.tensor([row.prompt_group for row in rows], dtype=torch.int64),
    )


def _num_tokens(turn: Turn) -> int:
    return len(turn.prompt_ids) + len(turn.response_ids)


def _is_trained(tree: TrajectoryTree, credit: Credit, keep_zero_advantage: bool) -> np.ndarray:
    """Whether each turn of a tree is trained, (num_turns,) bool."""
    has_advantage = (credit.positive != 0) | (credit.negative != 0)
    is_empty = np.array([not turn.response_ids for turn in tree.turns], dtype=bool)
    return (credit.weight != 0) & (has_advantage | keep_zero_advantage) & ~is_empty


def _rows(tree: TrajectoryTree, is_trained: np.ndarray) -> list[list[int]]:
    """The turns trained in each row, in order; each turn is trained in one row."""
    continued = [_continued(tree, node) for node in range(len(tree))]
    rows: list[list[int]] = []
    covered: set[int] = set()
    for end in range(len(tree) - 1, -1, -1):  # children before their parents
        nodes, node = [], end if is_trained[end] else ROOT
        while node != ROOT and node not in covered:
            if is_trained[node]:
                nodes.append(node)
            node = continued[node]
        covered.update(nodes)
        if nodes:
            rows.append(nodes[::-1])
    return rows[::-1]


def _continued(tree: TrajectoryTree, node: int) -> int:
    """The parent, if the turn's prompt continues the parent's tokens, else `ROOT`."""
    parent = tree.parents[node]
    if parent == ROOT:
        return ROOT
    tokens = tree.turns[parent].prompt_ids + tree.turns[parent].response_ids
    return parent if tree.turns[node].prompt_ids[: len(tokens)] == tokens else ROOT
