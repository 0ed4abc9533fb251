"""What every rank knows of every tree: the numbers behind counts, metrics and the monitor.

Trees stay on the rank that sampled them. A summary is small, whatever the length of its responses.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np

from ..sampling.trajectory import ROOT, Task, TrajectoryTree
from .advantages import has_signal, leaf_returns


@dataclass(frozen=True)
class TreeSummary:
    """One tree; names that `TrajectoryTree` has mean the same."""

    task: Task
    num_updates: int | None
    num_turns: int
    num_calls: int
    num_duplicates: int
    num_cut_prompts: int
    num_env_steps: int
    num_response_tokens: int
    success: bool
    error: str
    env_errors: list[str]
    returns: list[float]
    """`leaf_returns`, (num_leaves,)."""
    episode_returns: list[float]
    """(num_leaves,) sums of the rewards."""
    wins: list[bool]
    """(num_leaves,) whether the game was won."""
    has_format_signal: bool
    """Whether it has signal only because some responses could not be read."""
    num_decisions: int
    num_proposals: int
    """Of all decisions; the outcomes of a proposal count once."""
    num_first_actions: int
    """Different readable actions at the start."""
    num_merged: int
    """Turns whose state was already in the tree."""
    num_legal: int
    num_turn_tokens: int
    """Tokens of the responses of all turns."""
    actions_of_two: list[float]
    """Different actions to be expected of two responses to a prompt, for each prompt that was met
    at least twice."""
    num_unreadable: int
    """Turns without a readable action."""
    num_unreadable_cut: int
    """Those of them that reached `engine.max_new_tokens`."""
    unreadable: str
    """The first unreadable response."""

    def __len__(self) -> int:
        return self.num_turns

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, ready for `json.dump`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TreeSummary":
        """Rebuild a summary from `to_json`, exactly."""
        return cls(**{**values, "task": Task(**values["task"])})


def summarize(tree: TrajectoryTree, format_penalty: float, max_tokens: int) -> TreeSummary:
    """Summarize a tree, which may be of a puzzle that could not be opened.

    Args:
        tree: one group.
        format_penalty: `loss.format_penalty`.
        max_tokens: `engine.max_new_tokens`.
    """
    leaves, children = tree.leaves(), tree.children()
    returns = leaf_returns(tree, format_penalty) if len(tree) else np.zeros(0)
    unreadable = [turn for turn in tree.turns if turn.action is None]
    has_format_signal = (
        len(tree) > 0 and has_signal(returns) and not has_signal(leaf_returns(tree, 0.0))
    )
    proposals = [turn for turn in tree.turns if turn.outcome == 0]
    firsts = {tree.turns[node].action for node in children.get(ROOT, [])} - {None}
    return TreeSummary(
        task=tree.task,
        num_updates=tree.num_updates,
        num_turns=len(tree),
        num_calls=tree.num_calls,
        num_duplicates=tree.num_duplicates,
        num_cut_prompts=tree.num_cut_prompts,
        num_env_steps=tree.num_env_steps,
        num_response_tokens=tree.num_response_tokens,
        success=tree.success,
        error=tree.error,
        env_errors=tree.env_errors,
        returns=returns.tolist(),
        episode_returns=[path.episode_return for path in tree.trajectories()],
        wins=[tree.turns[leaf].success for leaf in leaves],
        has_format_signal=has_format_signal,
        num_decisions=len(children),
        num_proposals=len(proposals),
        num_first_actions=len(firsts),
        num_merged=sum(turn.is_merged for turn in tree.turns),
        num_legal=sum(turn.legal for turn in tree.turns),
        num_turn_tokens=sum(len(turn.response_ids) for turn in tree.turns),
        actions_of_two=_actions_of_two(tree),
        num_unreadable=len(unreadable),
        num_unreadable_cut=sum(len(turn.response_ids) >= max_tokens for turn in unreadable),
        unreadable=unreadable[0].response if unreadable else "",
    )


def _actions_of_two(tree: TrajectoryTree) -> list[float]:
    """Mean number of different actions over all pairs of responses to a prompt, by prompt."""
    actions: dict[tuple[int, ...], list[str | None]] = {}
    for turn in tree.turns:
        actions.setdefault(turn.prompt_ids, []).append(turn.action)
    return [mean_of_pairs(found) for found in actions.values() if len(found) > 1]


def mean_of_pairs(actions: list[str | None]) -> float:
    """Mean number of different actions over all pairs; unreadable ones count as one action.

    >>> mean_of_pairs(["up", "up", "down", None])  # of 6 pairs one is alike
    1.8333333333333333
    """
    num_pairs = comb(len(actions), 2)
    return 2 - sum(comb(count, 2) for count in Counter(actions).values()) / num_pairs
