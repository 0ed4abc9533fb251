"""Trees become padded tensors.

Every trained turn is trained in exactly one row. Where a child's prompt continues its parent's
tokens (context `full`) the turns along a branch share a row, and a turn that another row already
trains is only context there; otherwise (context `state`) a turn is a row of its own. Token ids,
mask, credit and log-probabilities come from the turn as it was sampled; nothing is tokenised again.

Alignment: entry [n, t] of every (N, T) tensor speaks about token t given the tokens before it;
column 0 is never trained. Letters: N rows, T padded tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ..agents.prefix_rows import lexicographic_order, new_lengths
from ..sampling.trajectory import ROOT, TrajectoryTree, Turn
from .advantages import Credit

MAX_READ = 4
"""Tokens of the rows of a packed micro-batch, for each that `max_tokens` allows to be packed."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows to train on. Credit is divided by the common denominator, so a loss is a plain sum."""

    token_ids: Tensor
    """(N, T) int64, padded on the right."""
    attention_mask: Tensor
    """(N, T) bool, False on padding."""
    loss_mask: Tensor
    """(N, T) bool, True on the tokens that are trained."""
    positive: Tensor
    """(N, T) weighted sum of the positive advantages through the token's turn; 0 outside
    `loss_mask`."""
    negative: Tensor
    """(N, T) weighted sum of the negative advantages, never above 0; 0 outside `loss_mask`."""
    weight: Tensor
    """(N, T) weight of the token in entropy and KL; 0 outside `loss_mask`."""
    turn: Tensor
    """(N, T) int64, number of the token's turn among the trained turns of the batch; -1 outside
    `loss_mask`."""
    sampling_logprobs: Tensor
    """(N, T) log mu(token), under the prompt that it was drawn from; 0 outside `loss_mask`."""
    old_logprobs: Tensor
    """(N, T) log pi_old(token), under the plain prompt; zeros until scored."""
    kl_mask: Tensor
    """(N, T) bool, True on tokens that KL-Cov keeps near pi_old; all False until chosen."""
    count: Tensor
    """(N, T) how many sampled tokens a token stands for: 1, more where equal rows were merged; 0
    outside `loss_mask`."""
    proposal_index: Tensor
    """(num_turns,) int64, place of each trained turn among the proposals of its decision."""
    prompt_group: Tensor
    """(N,) int64, the same in rows of a group whose first trained turn answers the same prompt."""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_tokens(self) -> int:
        """Sampled tokens that are trained."""
        return int(self.count.sum())

    def to(self, target: torch.device | torch.dtype | str) -> "Batch":
        """Move all tensors to a device, or change the number format of the floating-point ones."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(target, torch.dtype):
            tensors = {name: t for name, t in tensors.items() if t.is_floating_point()}
        return replace(self, **{name: tensor.to(target) for name, tensor in tensors.items()})

    def select(self, rows: Tensor | Sequence[int]) -> "Batch":
        """Take some rows, without the padding that none of them needs. Turns keep their numbers."""
        rows = torch.as_tensor(rows, dtype=torch.int64, device=self.token_ids.device)
        lengths = self.attention_mask[rows].sum(dim=1)
        length = int(lengths.max()) if len(rows) else 0
        chosen = {
            field.name: getattr(self, field.name)[rows, :length]
            for field in fields(self)
            if field.name not in ("proposal_index", "prompt_group")
        }
        return replace(self, **chosen, prompt_group=self.prompt_group[rows])

    def minibatches(self, num: int, generator: torch.Generator) -> list["Batch"]:
        """Deal the prompt groups at random into `num` parts, or one part each if they are fewer.

        Answers to one prompt stay together, so that their prompt is computed once
        (`agents/prefix_rows.py`). Credit and weight are multiplied by the number of parts: each
        part's gradient is an unbiased estimate of the whole batch's, so the step size does not
        depend on `num`, and the parts' losses average to the batch's loss.

        Args:
            num: parts, at least 1; each has as many prompt groups, or one more.
            generator: CPU generator of the shuffle.
        """
        if len(self) == 0:
            return []
        prompt_groups = self.prompt_group.unique()
        order = prompt_groups[torch.randperm(len(prompt_groups), generator=generator)]
        parts = order.tensor_split(min(num, len(order)))
        rows = [torch.isin(self.prompt_group, part).nonzero()[:, 0] for part in parts]
        return [self.select(chosen)._scale(len(parts)) for chosen in rows]

    def micro_batch_rows(
        self, max_tokens: int, rows: Sequence[int] | None = None, packed: bool = False
    ) -> list[list[int]]:
        """Group rows for one forward and backward pass each.

        Rows of like length, so that rows times padded length stays within `max_tokens`, the longest
        first; or rows that begin alike, so that their packed tokens do (`agents/prefix_rows.py`). A
        row that alone exceeds the limit stands alone. Each row is in one group, or each of `rows`
        if they are given.
        """
        chosen = list(range(len(self)) if rows is None else rows)
        if packed:
            return self._packed_groups(max_tokens, chosen)
        lengths = self.attention_mask.sum(dim=1).tolist()
        groups: list[list[int]] = []
        for row in sorted(chosen, key=lambda row: -lengths[row]):
            if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= max_tokens:
                groups[-1].append(row)
            else:
                groups.append([row])
        return groups

    def _packed_groups(self, max_tokens: int, rows: list[int]) -> list[list[int]]:
        """Neighbours in alphabetical order; the first of a group brings all its tokens.

        Attention gathers keys for whole rows, shared or not: `MAX_READ` bounds those.
        """
        if not rows:
            return []
        tokens, mask = self.token_ids[rows], self.attention_mask[rows]
        order = lexicographic_order(tokens, mask)
        lengths = mask.sum(dim=1).tolist()
        groups: list[list[int]] = []
        num_packed = num_read = 0
        for place, added in zip(order, new_lengths(tokens, mask, order), strict=True):
            num_packed += added
            num_read += lengths[place]
            if not groups or num_packed > max_tokens or num_read > MAX_READ * max_tokens:
                groups.append([])
                num_packed = num_read = lengths[place]
            groups[-1].append(rows[place])
        return groups

    def _scale(self, factor: float) -> "Batch":
        return replace(
            self,
            positive=self.positive * factor,
            negative=self.negative * factor,
            weight=self.weight * factor,
        )


def collate(
    trees: Sequence[TrajectoryTree],
    credits: Sequence[Credit],
    pad_id: int,
    keep_zero_advantage: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Lay the trained turns of all trees out in rows.

    A turn is trained if its weight is not 0 and it has an advantage. A row ends at a trained turn
    that no other trained turn continues; what comes after could not change anything.

    Args:
        trees: the groups of the batch.
        credits: what each tree is to be taught.
        pad_id: token that fills rows up on the right.
        keep_zero_advantage: train turns without an advantage too, as an entropy bonus or a KL
            penalty needs.
        dtype: format of credit and log-probabilities.

    Returns:
        A batch on the CPU; N = 0 if nothing is to be learnt.

    Raises:
        ValueError: if a turn has an empty prompt: its first token would have nothing to be
            predicted from.
    """
    if not all(turn.prompt_ids for tree in trees for turn in tree.turns):
        raise ValueError("Every turn needs a prompt of at least one token.")
    rows = [
        (tree, credit, nodes)
        for tree, credit in zip(trees, credits, strict=True)
        for nodes in _rows(tree, _is_trained(tree, credit, keep_zero_advantage))
    ]
    denominator = sum(credit.denominator for credit in credits)
    lengths = np.array([_num_tokens(tree.turns[nodes[-1]]) for tree, _, nodes in rows], dtype=int)
    shape = (len(rows), max(lengths, default=0))
    token_ids, turn_numbers = np.full(shape, pad_id), np.full(shape, -1)
    positive, negative, weight, sampling_logprobs = np.zeros((4, *shape))
    proposal_index: list[int] = []
    prompt_groups: dict[tuple[int, tuple[int, ...]], int] = {}
    asked = [(id(tree), tree.turns[nodes[0]].prompt_ids) for tree, _, nodes in rows]
    prompt_group = [prompt_groups.setdefault(key, len(prompt_groups)) for key in asked]
    for row, (tree, credit, nodes) in enumerate(rows):
        end = tree.turns[nodes[-1]]
        token_ids[row, : lengths[row]] = end.prompt_ids + end.response_ids
        for node in nodes:
            turn = tree.turns[node]
            tokens = (row, slice(len(turn.prompt_ids), _num_tokens(turn)))
            positive[tokens] = credit.positive[node] / denominator
            negative[tokens] = credit.negative[node] / denominator
            weight[tokens] = credit.weight[node] / denominator
            sampling_logprobs[tokens] = turn.sampling_logprobs
            turn_numbers[tokens] = len(proposal_index)
            proposal_index.append(turn.proposal_index)
    return Batch(
        token_ids=torch.as_tensor(token_ids),
        attention_mask=torch.as_tensor(np.arange(shape[1]) < lengths[:, None]),
        loss_mask=torch.as_tensor(turn_numbers >= 0),
        positive=torch.as_tensor(positive, dtype=dtype),
        negative=torch.as_tensor(negative, dtype=dtype),
        weight=torch.as_tensor(weight, dtype=dtype),
        turn=torch.as_tensor(turn_numbers),
        sampling_logprobs=torch.as_tensor(sampling_logprobs, dtype=dtype),
        old_logprobs=torch.zeros(shape, dtype=dtype),
        kl_mask=torch.zeros(shape, dtype=torch.bool),
        count=torch.as_tensor(turn_numbers >= 0).to(dtype),
        proposal_index=torch.tensor(proposal_index, dtype=torch.int64),
        prompt_group=torch.tensor(prompt_group, dtype=torch.int64),
    )


def equal_rows(batch: Batch) -> tuple[list[int], list[int]]:
    """Find rows that hold the same tokens, trained and held at the same places.

    Returns:
        The first row of each kind, in their order, shape (M,), and each row's place among them,
        shape (N,).
    """
    parts = (batch.token_ids, batch.attention_mask, batch.loss_mask, batch.kl_mask)
    firsts: dict[bytes, int] = {}
    places, rows = [], []
    for row in range(len(batch)):
        key = b"".join(part[row].numpy().tobytes() for part in parts)
        if key not in firsts:
            firsts[key] = len(rows)
            rows.append(row)
        places.append(firsts[key])
    return rows, places


def merge_equal_rows(batch: Batch) -> Batch:
    """Compute equal rows once: loss and gradients are those of all.

    Independent rollouts of a sharp policy are mostly repetitions. The clipped surrogate is linear
    in S+ and S-, entropy and KL are in their weight, so each is summed. Only after
    `correct_history_gap`, since turns lose their own log mu; and after the minibatches are dealt,
    since copies that fall into one of them together make its step longer.

    Args:
        batch: on the CPU, with scored `old_logprobs`.
    """
    rows, places = equal_rows(batch)
    if len(rows) == len(batch):
        return batch
    index, merged = torch.tensor(places), batch.select(rows)

    def total(values: Tensor) -> Tensor:
        return torch.zeros_like(values[: len(rows)]).index_add(0, index, values)

    return replace(
        merged,
        positive=total(batch.positive),
        negative=total(batch.negative),
        weight=total(batch.weight),
        count=total(batch.count),
    )


def history_gap(batch: Batch) -> Tensor:
    """Return how likely the plain policy finds each turn, against the prompt it was drawn under.

    log pi_old(y | x) - log mu(y) in nats, over all tokens of the turn: shape (num_turns,). 0 up to
    the engine's rounding for proposals that were drawn under x, and 0 for turns without a row in
    the batch.
    """
    gap = (batch.old_logprobs - batch.sampling_logprobs)[batch.loss_mask]
    sums = torch.zeros(len(batch.proposal_index), dtype=gap.dtype, device=gap.device)
    return sums.index_add(0, batch.turn[batch.loss_mask], gap)


def correct_history_gap(batch: Batch, mode: str) -> Batch:
    """Weigh turns that were drawn under another prompt than the one they are trained under.

    Paper: the history is left out of the likelihood and nothing corrects for it. We: by default a
    failure that the plain policy would hardly produce is not pushed down as if it were likely,
    because that only sharpens the present mode, down to a policy that never varies. First proposals
    are drawn under the plain prompt and are left as they are.

    Args:
        batch: with scored `old_logprobs`.
        mode: "none"; "negatives" (negative *= min(1, ratio)); "truncated" (positive, negative *=
            min(2, ratio)).

    Raises:
        ValueError: if `mode` is unknown.
    """
    if mode not in ("none", "negatives", "truncated"):
        raise ValueError(
            f"loss.history_correction must be none, negatives or truncated, got {mode!r}."
        )
    if mode == "none":
        return batch
    ratio = history_gap(batch).exp().clamp(max=1.0 if mode == "negatives" else 2.0)
    ratio = torch.where(batch.proposal_index == 0, 1.0, ratio)
    factor = torch.cat([ratio, ratio.new_ones(1)])[batch.turn]  # (N, T); turn -1 picks the last, 1
    if mode == "negatives":
        return replace(batch, negative=batch.negative * factor)
    return replace(batch, positive=batch.positive * factor, negative=batch.negative * factor)


def engine_gap(batch: Batch) -> Tensor:
    """Return how far trainer and engine are apart at the tokens of first proposals.

    |log pi_old(token) - log mu(token)| in nats, shape (num_tokens,): these are drawn under the
    plain prompt, so only rounding may part the two.
    """
    return (batch.old_logprobs - batch.sampling_logprobs)[_is_first(batch)].abs()


def correct_engine_gap(batch: Batch, cap: float) -> Batch:
    """Weigh each token of a first proposal by min(cap, pi_old / mu), for an engine that differs.

    Truncated importance sampling (Yao et al. 2025, "Your efficient RL framework secretly brings you
    off-policy RL training"). Later proposals are left to `correct_history_gap`.

    Args:
        batch: with scored `old_logprobs`.
        cap: the largest weight, at least 1; 0 for no correction.
    """
    if not cap:
        return batch
    ratio = (batch.old_logprobs - batch.sampling_logprobs).exp().clamp(max=cap)
    factor = torch.where(_is_first(batch), ratio, 1.0)
    return replace(batch, positive=batch.positive * factor, negative=batch.negative * factor)


def _is_first(batch: Batch) -> Tensor:
    """(N, T) bool, True on trained tokens of first proposals."""
    firsts = torch.cat([batch.proposal_index == 0, batch.loss_mask.new_zeros(1)])
    return firsts[batch.turn] & batch.loss_mask  # turn -1 picks the last, False


def _num_tokens(turn: Turn) -> int:
    return len(turn.prompt_ids) + len(turn.response_ids)


def _is_trained(tree: TrajectoryTree, credit: Credit, keep_zero_advantage: bool) -> np.ndarray:
    """Which turns of a tree are trained, (num_turns,) bool."""
    is_taught = (credit.positive != 0) | (credit.negative != 0)
    is_empty = np.array([not turn.response_ids for turn in tree.turns], dtype=bool)
    return (credit.weight != 0) & (is_taught | keep_zero_advantage) & ~is_empty


def _rows(tree: TrajectoryTree, is_trained: np.ndarray) -> list[list[int]]:
    """The turns that each row trains, from the start on; the last ends the row. Each turn once."""
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
