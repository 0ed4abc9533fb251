"""What a rollout says about the policy. Pure functions; docs/metrics.md explains each name."""

from collections.abc import Sequence

import numpy as np

from ..configs.schema import LossConfig
from ..sampling.trajectory import ROOT, TrajectoryTree
from .advantages import has_signal
from .batch import Batch, history_gap

IGNORED_GAP = 0.01
"""A turn whose likelihood moved by less, in nats, took no notice of what was in view."""


def rollout_metrics(trees: Sequence[TrajectoryTree], cfg: LossConfig) -> dict[str, float]:
    """Describe the groups of one step."""
    turns = [turn for tree in trees for turn in tree.turns]
    leaves = [tree.turns[leaf] for tree in trees for leaf in tree.leaves()]
    firsts = [{tree.turns[node].action for node in tree.children()[ROOT]} for tree in trees]
    decisions = [len(children) for tree in trees for children in tree.children().values()]
    calls = sum(tree.num_calls for tree in trees)
    return {
        "rollout/success_rate": float(np.mean([leaf.success for leaf in leaves])),
        "rollout/solved_groups": float(np.mean([tree.success for tree in trees])),
        "rollout/signal_groups": float(np.mean([has_signal(tree, cfg) for tree in trees])),
        "rollout/trajectories": len(leaves) / len(trees),
        "rollout/tree_size": len(turns) / len(trees),
        "rollout/actions_per_decision": float(np.mean(decisions)),
        "rollout/distinct_answers": float(np.mean([len(actions) for actions in firsts])),
        "rollout/duplicate_rate": sum(tree.num_duplicates for tree in trees) / max(calls, 1),
        "rollout/cut_prompts": sum(tree.num_cut_prompts for tree in trees) / max(calls, 1),
        "rollout/repeated_states": float(np.mean([turn.is_repeat for turn in turns])),
        "rollout/readable_rate": float(np.mean([turn.action is not None for turn in turns])),
        "rollout/legal_rate": float(np.mean([turn.legal for turn in turns])),
        "rollout/response_tokens": float(np.mean([len(turn.response_ids) for turn in turns])),
    }


def gap_metrics(batch: Batch, has_other_prompts: bool = True) -> dict[str, float]:
    """Describe log pi_old(y|x) - log mu(y) of the trained turns.

    Its mean by place among their proposals, and among those not drawn under x alone the share whose
    sketch or list had no influence on them.

    Args:
        batch: with scored `old_logprobs`.
        has_other_prompts: whether proposals after the first have prompts of their own; without,
            nothing could be ignored.
    """
    gaps = history_gap(batch)
    metrics = {}
    later = gaps[batch.proposal_index > 0]
    if has_other_prompts and len(later):
        metrics["gap/ignored"] = float((later.abs() < IGNORED_GAP).float().mean())
    for index in batch.proposal_index.unique().tolist():
        mean = gaps[batch.proposal_index == index].mean()
        metrics[f"gap/proposal_{index + 1}"] = float(mean)
    return metrics
