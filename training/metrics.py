"""What a rollout says about the policy; docs/metrics.md explains each name."""

from collections.abc import Sequence

import numpy as np
import torch

from .advantages import has_signal
from .batch import Batch
from .distributed import all_reduce, largest
from .importance import engine_gap, history_gap
from .pass_at_k import pass_at_k
from .tree_summary import TreeSummary

IGNORED_GAP = 0.01
"""A log-probability that differs by less, in nats, was not influenced by the other prompt."""
RATIO_K = 16
"""k of the paper's Pass@16/Pass@1 (Figure 5)."""


def rollout_metrics(summaries: Sequence[TreeSummary]) -> dict[str, float]:
    """Describe the groups of one step; those that could not be opened are counted only.

    Args:
        summaries: of all trees that were sampled.
    """
    trees = [tree for tree in summaries if len(tree)]
    num_turns, num_calls = total(trees, "num_turns"), max(total(trees, "num_calls"), 1)
    wins = [won for tree in trees for won in tree.wins]
    returns = [value for tree in trees for value in tree.episode_returns]
    signals = [has_signal(np.array(tree.returns)) for tree in trees]
    return {
        "rollout/success_rate": float(np.mean(wins)),
        "rollout/return": float(np.mean(returns)),
        "rollout/solved_groups": float(np.mean([tree.success for tree in trees])),
        "rollout/signal_groups": float(np.mean(signals)),
        "rollout/format_groups": float(np.mean([tree.has_format_signal for tree in trees])),
        "rollout/trajectories": len(wins) / len(trees),
        "rollout/tree_size": num_turns / len(trees),
        "rollout/actions_per_decision": total(trees, "num_proposals")
        / total(trees, "num_decisions"),
        "rollout/distinct_answers": total(trees, "num_first_actions") / len(trees),
        "rollout/duplicate_rate": total(trees, "num_duplicates") / num_calls,
        "rollout/cut_prompts": total(trees, "num_cut_prompts") / num_calls,
        "rollout/repeated_states": total(trees, "num_merged") / num_turns,
        "rollout/readable_rate": (num_turns - total(trees, "num_unreadable")) / num_turns,
        "rollout/legal_rate": total(trees, "num_legal") / num_turns,
        "rollout/response_tokens": total(trees, "num_turn_tokens") / num_turns,
        "rollout/env_errors": float(sum(len(tree.env_errors) for tree in summaries)),
    }


def mean_lag(summaries: Sequence[TreeSummary], step: int) -> float:
    """Mean number of updates between the sampling of a step's trees and its own update."""
    lags = [0 if tree.num_updates is None else step - tree.num_updates for tree in summaries]
    return float(np.mean(lags))


def total(summaries: Sequence[TreeSummary], name: str) -> int:
    """Sum a count of some trees."""
    return sum(getattr(tree, name) for tree in summaries)


def variety_metrics(summaries: Sequence[TreeSummary]) -> dict[str, float]:
    """Describe how much the members of a group vary.

    Args:
        summaries: of groups of independent rollouts; the branches of a grown tree are forced apart,
            so they say nothing of the policy.

    Returns:
        `rollout/pass_ratio`, unbiased pass@k over pass@1 with k = min(16, members), where there is
        more than one member and any success; `rollout/actions_per_state`, the different actions to
        be expected of two responses to one prompt, from 1 to 2: its mean over the prompts that a
        group met at least twice, however often that was.
    """
    metrics = {}
    wins = [tree.wins for tree in summaries if len(tree)]
    if any(map(any, wins)) and all(len(group) > 1 for group in wins):
        passes = [pass_at_k(len(group), sum(group), min(RATIO_K, len(group))) for group in wins]
        metrics["rollout/pass_ratio"] = float(np.mean(passes) / np.mean([*map(np.mean, wins)]))
    numbers = [number for tree in summaries for number in tree.actions_of_two]
    if numbers:
        metrics["rollout/actions_per_state"] = float(np.mean(numbers))
    return metrics


def gap_metrics(batch: Batch, has_other_prompts: bool = True) -> dict[str, float]:
    """Describe log pi_old(y|x) - log mu(y) of the trained turns.

    Its mean by proposal number; of proposals that were not sampled under x alone, the share that
    their sketch or list did not influence; and the gap between trainer and engine, in nats per
    token of first proposals.

    Args:
        batch: this rank's rows, with scored `old_logprobs`; the metrics are those of all ranks.
        has_other_prompts: whether proposals after the first have prompts of their own; without,
            nothing could be ignored.
    """
    gaps = all_reduce(history_gap(batch))  # each turn's is on one rank, 0 on the others
    metrics = {}
    engine = engine_gap(batch)
    number = int(all_reduce(torch.tensor(len(engine))))
    if number:
        highest = largest(float(engine.max()) if len(engine) else 0.0)
        mean = float(all_reduce(engine.sum()) / number)
        metrics |= {"gap/engine_mean": mean, "gap/engine_max": highest}
    later = gaps[batch.proposal_index > 0]
    if has_other_prompts and len(later):
        metrics["gap/ignored"] = float((later.abs() < IGNORED_GAP).float().mean())
    for index in batch.proposal_index.unique().tolist():
        mean = gaps[batch.proposal_index == index].mean()
        metrics[f"gap/proposal_{index + 1}"] = float(mean)
    return metrics
