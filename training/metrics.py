"""What a rollout says about the policy. Pure functions; docs/metrics.md explains each name."""

from collections import Counter
from collections.abc import Sequence
from math import comb

import numpy as np

from ..sampling.trajectory import ROOT, TrajectoryTree
from .advantages import has_signal, leaf_returns
from .batch import Batch
from .importance import engine_gap, history_gap
from .pass_at_k import pass_at_k

IGNORED_GAP = 0.01
"""A log-probability that differs by less, in nats, was not influenced by the other prompt."""
RATIO_K = 16
"""k of the paper's Pass@16/Pass@1 (Figure 5)."""


def rollout_metrics(
    trees: Sequence[TrajectoryTree], returns: Sequence[np.ndarray]
) -> dict[str, float]:
    """Describe the groups of one step; those that could not be opened are counted only.

    Args:
        trees: all that were sampled.
        returns: of the leaves of each tree that could be opened, shape (num_leaves,).
    """
    num_errors = sum(len(tree.env_errors) for tree in trees)
    trees = [tree for tree in trees if len(tree)]
    turns = [turn for tree in trees for turn in tree.turns]
    leaves = [tree.turns[leaf] for tree in trees for leaf in tree.leaves()]
    paths = [path for tree in trees for path in tree.trajectories()]
    firsts = [
        {tree.turns[node].action for node in tree.children()[ROOT]} - {None} for tree in trees
    ]
    decisions = [
        sum(tree.turns[child].outcome == 0 for child in children)
        for tree in trees
        for children in tree.children().values()
    ]
    calls = sum(tree.num_calls for tree in trees)
    return {
        "rollout/success_rate": float(np.mean([leaf.success for leaf in leaves])),
        "rollout/return": float(np.mean([path.episode_return for path in paths])),
        "rollout/solved_groups": float(np.mean([tree.success for tree in trees])),
        "rollout/signal_groups": float(np.mean([has_signal(group) for group in returns])),
        "rollout/format_groups": float(np.mean([*map(_differs_in_format_alone, trees, returns)])),
        "rollout/trajectories": len(leaves) / len(trees),
        "rollout/tree_size": len(turns) / len(trees),
        "rollout/actions_per_decision": float(np.mean(decisions)),
        "rollout/distinct_answers": float(np.mean([len(actions) for actions in firsts])),
        "rollout/duplicate_rate": sum(tree.num_duplicates for tree in trees) / max(calls, 1),
        "rollout/cut_prompts": sum(tree.num_cut_prompts for tree in trees) / max(calls, 1),
        "rollout/repeated_states": float(np.mean([turn.is_merged for turn in turns])),
        "rollout/readable_rate": float(np.mean([turn.action is not None for turn in turns])),
        "rollout/legal_rate": float(np.mean([turn.legal for turn in turns])),
        "rollout/response_tokens": float(np.mean([len(turn.response_ids) for turn in turns])),
        "rollout/env_errors": float(num_errors),
    }


def variety_metrics(trees: Sequence[TrajectoryTree]) -> dict[str, float]:
    """Describe how much the members of a group vary.

    Args:
        trees: groups of independent rollouts; the branches of a grown tree are forced apart, so
            they say nothing of the policy.

    Returns:
        `rollout/pass_ratio`, unbiased pass@k over pass@1 with k = min(16, members), where there is
        more than one member and any success; `rollout/actions_per_state`, the different actions to
        be expected of two responses to one prompt, from 1 to 2: its mean over the prompts that a
        group met at least twice, however often that was.
    """
    metrics = {}
    trees = [tree for tree in trees if len(tree)]
    wins = [[tree.turns[leaf].success for leaf in tree.leaves()] for tree in trees]
    if any(map(any, wins)) and all(len(group) > 1 for group in wins):
        passes = [pass_at_k(len(group), sum(group), min(RATIO_K, len(group))) for group in wins]
        metrics["rollout/pass_ratio"] = float(np.mean(passes) / np.mean([*map(np.mean, wins)]))
    numbers = [_actions_of_two(actions) for tree in trees for actions in _by_prompt(tree)]
    if numbers:
        metrics["rollout/actions_per_state"] = float(np.mean(numbers))
    return metrics


def gap_metrics(batch: Batch, has_other_prompts: bool = True) -> dict[str, float]:
    """Describe log pi_old(y|x) - log mu(y) of the trained turns.

    Its mean by proposal number; of proposals that were not sampled under x alone, the share that
    their sketch or list did not influence; and the gap between trainer and engine, in nats per
    token of first proposals.

    Args:
        batch: with scored `old_logprobs`.
        has_other_prompts: whether proposals after the first have prompts of their own; without,
            nothing could be ignored.
    """
    gaps = history_gap(batch)
    metrics = {}
    engine = engine_gap(batch)
    if len(engine):
        metrics |= {"gap/engine_mean": float(engine.mean()), "gap/engine_max": float(engine.max())}
    later = gaps[batch.proposal_index > 0]
    if has_other_prompts and len(later):
        metrics["gap/ignored"] = float((later.abs() < IGNORED_GAP).float().mean())
    for index in batch.proposal_index.unique().tolist():
        mean = gaps[batch.proposal_index == index].mean()
        metrics[f"gap/proposal_{index + 1}"] = float(mean)
    return metrics


def _differs_in_format_alone(tree: TrajectoryTree, returns: np.ndarray) -> bool:
    """Whether a group has signal only because some responses could not be read."""
    return has_signal(returns) and not has_signal(leaf_returns(tree, format_penalty=0.0))


def _by_prompt(tree: TrajectoryTree) -> list[list[str | None]]:
    """Actions by the prompt that they answer, of prompts that were met at least twice."""
    actions: dict[tuple[int, ...], list[str | None]] = {}
    for turn in tree.turns:
        actions.setdefault(turn.prompt_ids, []).append(turn.action)
    return [found for found in actions.values() if len(found) > 1]


def _actions_of_two(actions: Sequence[str | None]) -> float:
    """Mean number of different actions over all pairs; unreadable ones count as one action.

    >>> _actions_of_two(["up", "up", "down", None])  # of 6 pairs one is alike
    1.8333333333333333
    """
    num_pairs = comb(len(actions), 2)
    return 2 - sum(comb(count, 2) for count in Counter(actions).values()) / num_pairs
