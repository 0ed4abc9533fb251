"""Shared-prefix rows: rows that begin alike, laid out so that each shared prefix appears once.

The rows of a batch form a trie over their token ids. A run is a stretch of tokens that the same
rows share; its path consists of the runs that lead to it, and itself. The runs are concatenated
into one sequence, in which every token attends to its path only (`prefix_attention.py`), so hidden
states and gradients equal those of padded rows. It does not matter whether rows share the rules of
the game (context `state`) or whole turns (`full`).

Pure: no model is needed. Letters: N rows of T padded tokens, a sequence of L tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

MIN_RUN = 16
"""Shorter stretches are not shared: keys and values are gathered for every run, so a run of few
tokens costs more than it saves."""
MAX_WASTE = 1.5
"""Runs of similar length are attended to together as long as padding makes the attention at most
this many times larger, or larger by `SMALL_WASTE` scores."""
SMALL_WASTE = 2**14
_ROOT = -1


@dataclass(frozen=True)
class Run:
    """A stretch of tokens that some rows share."""

    row: int
    """One of the rows."""
    start: int
    """Position in the rows where it begins, in tokens."""
    path: np.ndarray
    """(start + length,) indices in the sequence of the tokens of its path, its own tokens last."""

    @property
    def own(self) -> np.ndarray:
        """(length,) indices in the sequence of its own tokens."""
        return self.path[self.start :]


@dataclass(frozen=True)
class RunGroup:
    """R runs that are attended to together, padded on the right to Q own and K path tokens.

    Own token q of run r attends to the path tokens up to `num_before[r] + q`. Padding has index 0;
    its results are discarded.
    """

    queries: Tensor
    """(R, Q) int64, indices in the sequence of the runs' own tokens."""
    keys: Tensor
    """(R, K) int64, indices in the sequence of the tokens of their paths."""
    num_before: Tensor
    """(R,) int64, number of path tokens before the run's own."""


@dataclass(frozen=True)
class PrefixRows:
    """N rows of T tokens as one sequence of L tokens."""

    token_ids: Tensor
    """(L,) int64."""
    position_ids: Tensor
    """(L,) int64, position of each token in its rows."""
    places: Tensor
    """(N, T) int64, index in the sequence of each token of the rows; 0 on padding."""
    groups: list[RunGroup]
    """Groups of runs; each run is in exactly one."""
    outputs: Tensor
    """(L,) int64, index of each token among the padded own tokens of all groups."""
    own_lengths: Tensor
    """(R,) int64, number of own tokens of all runs, in the order of the sequence."""
    path_lengths: Tensor
    """(R,) int64, number of tokens of their paths."""
    paths: Tensor
    """(sum of `path_lengths`,) int64, indices in the sequence of the tokens of all paths."""

    def __len__(self) -> int:
        return len(self.token_ids)


def share_prefixes(token_ids: Tensor, attention_mask: Tensor, min_run: int = MIN_RUN) -> PrefixRows:
    """Lay rows out so that each shared prefix appears once.

    Args:
        token_ids: (N, T) int64, on the CPU; at least one row.
        attention_mask: (N, T) bool, False on the padding on the right; no row is empty.
        min_run: shortest stretch that is shared, at least 1 token.
    """
    ids, lengths = token_ids.numpy(), row_lengths(attention_mask).numpy()
    order = lexicographic_order(token_ids, attention_mask)
    runs, ends = _find_runs(order, lengths, _shared_lengths(ids, lengths, order), min_run)
    places = np.zeros(ids.shape, dtype=np.int64)
    for row, end in enumerate(ends):
        places[row, : lengths[row]] = runs[end].path
    own_ids = [ids[run.row, run.start : len(run.path)] for run in runs]
    positions = [np.arange(run.start, len(run.path)) for run in runs]
    grouped = _group_runs(runs)
    groups = [_pad_group(members) for members in grouped]
    return PrefixRows(
        token_ids=torch.from_numpy(np.concatenate(own_ids)),
        position_ids=torch.from_numpy(np.concatenate(positions)),
        places=torch.from_numpy(places),
        groups=groups,
        outputs=_outputs(grouped, [group.queries.shape[1] for group in groups]),
        own_lengths=torch.tensor([len(run.own) for run in runs]),
        path_lengths=torch.tensor([len(run.path) for run in runs]),
        paths=torch.from_numpy(np.concatenate([run.path for run in runs])),
    )


def row_lengths(attention_mask: Tensor) -> Tensor:
    """Tokens of each row, (N,) int32; a sum in int64 would first copy the whole mask to it."""
    return attention_mask.sum(dim=1, dtype=torch.int32)


def lexicographic_order(token_ids: Tensor, attention_mask: Tensor) -> list[int]:
    """Sort rows by their first token, then the second and so on, so similar rows are neighbours."""
    lengths = row_lengths(attention_mask).tolist()
    rows = zip(token_ids.numpy(), lengths, strict=True)
    texts = [row[:length].astype(">u4").tobytes() for row, length in rows]
    return sorted(range(len(texts)), key=texts.__getitem__)


def new_lengths(
    token_ids: Tensor, attention_mask: Tensor, order: Sequence[int], min_run: int = MIN_RUN
) -> list[int]:
    """Return an upper bound on the tokens that each row adds to those before it in `order`.

    Args:
        token_ids: (N, T) int64, on the CPU.
        attention_mask: (N, T) bool.
        order: rows in lexicographic order; may leave some out.
        min_run: as in `share_prefixes`.
    """
    ids, lengths = token_ids.numpy(), row_lengths(attention_mask).numpy()
    shared = np.concatenate([[0], _shared_lengths(ids, lengths, order)])[: len(order)]
    # Up to `min_run - 1` tokens before the rows diverge may be too few for a run of their own.
    reused = np.maximum(shared - (min_run - 1), 0)
    return (lengths[list(order)] - reused).tolist()


def _shared_lengths(ids: np.ndarray, lengths: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return the lengths of the prefixes that neighbours in `order` share, (num_rows - 1,)."""
    shared = []
    for row, other in pairwise(order):
        shortest = min(lengths[row], lengths[other])
        differs = (ids[row, :shortest] != ids[other, :shortest]).nonzero()[0]
        shared.append(differs[0] if len(differs) else shortest)
    return np.array(shared, dtype=int)


def _find_runs(
    order: Sequence[int], lengths: np.ndarray, shared: np.ndarray, min_run: int
) -> tuple[list[Run], list[int]]:
    """Find all runs, each after the others on its path, and the last run of each row.

    Args:
        order: rows in lexicographic order.
        lengths: (N,) number of tokens of the rows.
        shared: (N - 1,) result of `_shared_lengths`.
        min_run: as in `share_prefixes`.
    """
    runs: list[Run] = []
    ends = [_ROOT] * len(order)
    num_tokens = 0
    pending = [(0, len(order), _ROOT)]  # ranges of `order` that continue after a run
    while pending:
        first, stop, run = pending.pop()
        path = runs[run].path if run != _ROOT else np.zeros(0, dtype=np.int64)
        is_one = stop - first == 1
        alike = int(lengths[order[first]] if is_one else shared[first : stop - 1].min())
        length = alike - len(path)
        if length and (is_one or length >= min_run):
            own = np.arange(num_tokens, num_tokens + length)
            runs.append(Run(order[first], len(path), np.concatenate([path, own])))
            run, num_tokens = len(runs) - 1, num_tokens + length
        if is_one:
            ends[order[first]] = run
            continue
        parts = np.flatnonzero(shared[first : stop - 1] == alike) + first + 1
        bounds = [first, *parts.tolist(), stop]
        pending += [(*pair, run) for pair in zip(bounds, bounds[1:], strict=False)][::-1]
    return runs, ends


def _group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs of similar size; runs with nothing before them need no mask and stay separate."""
    groups: list[list[Run]] = []
    needed = longest = 0
    for run in sorted(runs, key=lambda r: (r.start > 0, len(r.own), len(r.path)), reverse=True):
        scores = len(run.own) * len(run.path)
        if groups and (groups[-1][0].start > 0) == (run.start > 0):
            allowed = max(MAX_WASTE * (needed + scores), needed + scores + SMALL_WASTE)
            widest, longest = len(groups[-1][0].own), max(longest, len(run.path))
            if (len(groups[-1]) + 1) * widest * longest <= allowed:
                groups[-1].append(run)
                needed += scores
                continue
        groups.append([run])
        needed, longest = scores, len(run.path)
    return groups


def _pad_group(runs: Sequence[Run]) -> RunGroup:
    queries = np.zeros((len(runs), max(len(run.own) for run in runs)), dtype=np.int64)
    keys = np.zeros((len(runs), max(len(run.path) for run in runs)), dtype=np.int64)
    for n, run in enumerate(runs):
        queries[n, : len(run.own)] = run.own
        keys[n, : len(run.path)] = run.path
    return RunGroup(
        queries=torch.from_numpy(queries),
        keys=torch.from_numpy(keys),
        num_before=torch.tensor([run.start for run in runs]),
    )


def _outputs(groups: Sequence[Sequence[Run]], widths: Sequence[int]) -> Tensor:
    """Compute `PrefixRows.outputs`; `widths` are the padded numbers of own tokens per group."""
    outputs = np.zeros(sum(len(run.own) for runs in groups for run in runs), dtype=np.int64)
    offset = 0
    for runs, width in zip(groups, widths, strict=True):
        for run in runs:
            outputs[run.own] = offset + np.arange(len(run.own))
            offset += width
    return torch.from_numpy(outputs)
