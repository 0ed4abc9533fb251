"""Facts about a tree beyond its turns: ends of branches, values, advantages and a summary.

Values and advantages are not saved; they are computed with the run's own credit rule. They are the
numbers that training used, before learning rate, clipping and filter.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sesa_agent.configs.schema import Config, LossConfig
from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree, Turn
from sesa_agent.screen import differs_from_success, show_probability
from sesa_agent.training.action_values import expected_values
from sesa_agent.training.advantages import (
    ADVANTAGES,
    best_values,
    leaf_returns,
    mean_values,
    punish_overlong,
)

WON, LOST, OUT_OF_TURNS, MERGED, NOT_EXPANDED = (
    "won",
    "lost",
    "out of turns",
    "merged",
    "not expanded",
)
"""How a branch can end; a turn with children has an empty end."""
VALUE_WORDS = {
    "best": "discount to the power of the number of turns to the nearest success below",
    "expected": "best expected discounted return of the action",
}
"""The meaning of a turn's value, by credit rule."""
MEAN_WORDS = "mean return of the trajectories through it"
"""Its meaning with all other rules."""


@dataclass(frozen=True)
class TurnFacts:
    """What is computed about a turn; None where it is unknown."""

    end: str
    value: float | None
    advantage: float | None
    """None if the turn is not trained on."""
    weight: float | None
    """The factor of `loss.history_correction`."""


def turn_facts(tree: TrajectoryTree, cfg: Config) -> list[TurnFacts]:
    """Compute the facts of every turn with the run's credit rule.

    Args:
        tree: a saved tree.
        cfg: the run's settings, each "auto" resolved.
    """
    tree = punish_overlong(tree, cfg.loss.overlong_buffer, cfg.engine.max_new_tokens)
    advantages = turn_advantages(tree, cfg.loss)
    return [
        TurnFacts(end, value, advantage, gap_weight(turn, advantage, cfg.loss.history_correction))
        for turn, end, value, advantage in zip(
            tree.turns, turn_ends(tree), turn_values(tree, cfg.loss), advantages, strict=True
        )
    ]


def turn_ends(tree: TrajectoryTree) -> list[str]:
    """How the branch ends at each turn, "" where it continues."""
    inner = set(tree.parents)
    return ["" if node in inner else _end(turn) for node, turn in enumerate(tree.turns)]


def _end(turn: Turn) -> str:
    if turn.success:
        return WON
    if turn.terminated:
        return LOST
    if turn.is_merged:
        return MERGED
    return OUT_OF_TURNS if turn.truncated else NOT_EXPANDED


def turn_values(tree: TrajectoryTree, cfg: LossConfig) -> list[float | None]:
    """The value of each turn, as `VALUE_WORDS` explains it."""
    if not _has_finite_rewards(tree):
        return [None] * len(tree)
    if cfg.credit == "expected":
        by_action = expected_values(tree, cfg.discount, cfg.format_penalty)
        pairs = zip(tree.parents, tree.turns, strict=True)
        values = [by_action[parent, turn.proposal_index] for parent, turn in pairs]
    elif cfg.credit == "best":
        values = best_values(tree, cfg.discount).tolist()
    else:
        values = mean_values(tree, leaf_returns(tree, cfg.format_penalty)).tolist()
    return [None if math.isnan(value) else value for value in values]


def _has_finite_rewards(tree: TrajectoryTree) -> bool:
    """Whether the tree could be trained on; a file may hold others."""
    return all(math.isfinite(turn.reward) for turn in tree.turns)


def turn_advantages(tree: TrajectoryTree, cfg: LossConfig) -> list[float | None]:
    """The advantage of each turn; for a turn of several trajectories their weighted mean.

    All outcomes of an action have the advantage of the action.
    """
    if not _has_finite_rewards(tree):
        return [None] * len(tree)
    credit = ADVANTAGES[cfg.credit](tree, leaf_returns(tree, cfg.format_penalty), cfg)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (credit.positive + credit.negative) / credit.weight
    found = [
        float(mean) if weight else None for mean, weight in zip(means, credit.weight, strict=True)
    ]
    for node, turn in enumerate(tree.turns):  # an action is trained once, at its first outcome
        if turn.outcome:
            found[node] = found[node - 1]
    return found


def gap_weight(turn: Turn, advantage: float | None, mode: str) -> float | None:
    """The factor that `loss.history_correction` applies to a turn's advantage.

    Returns:
        The factor; None if it is unknown.
    """
    if advantage is None or mode == "none" or turn.proposal_index == 0:
        return 1.0
    if mode == "negatives" and advantage >= 0:
        return 1.0
    if turn.plain_logprob is None:
        return None
    gap = turn.plain_logprob - math.fsum(turn.sampling_logprobs)
    return math.exp(min(gap, math.log(1.0 if mode == "negatives" else 2.0)))


def summary(tree: TrajectoryTree, facts: Sequence[TurnFacts]) -> str:
    """Say in a few sentences what the tree found, and what branching contributed.

    Args:
        tree: a tree with at least one turn.
        facts: the facts of its turns.
    """
    ends = [fact.end for fact in facts]
    parts = [_found(tree, ends), *_branching(tree, ends)]
    if not any(fact.advantage for fact in facts):
        parts.append("There is no learning signal: no proposal was better than another.")
    return " ".join(parts)


def _found(tree: TrajectoryTree, ends: Sequence[str]) -> str:
    """How many branches won, and how the others ended."""
    counts = Counter(ends)
    num_leaves = len(tree.leaves())
    merged = f", {counts[MERGED]} reached a state again" if counts[MERGED] else ""
    dropped = f", {_count(len(tree.duplicates), 'duplicate')} dropped" if tree.duplicates else ""
    won = f"{counts[WON] or 'None'} of {_count(num_leaves, 'branch')} won"
    returns = [path.episode_return for path in tree.trajectories()]
    mean = sum(returns) / num_leaves
    shown = differs_from_success(mean, counts[WON] / num_leaves)
    return f"{won}{merged}{dropped}." + (f" The mean return is {mean:.3g}." if shown else "")


def _branching(tree: TrajectoryTree, ends: Sequence[str]) -> list[str]:
    """Where the first proposals led, and what the others added."""
    if any(turn.sketch for turn in tree.turns):
        return []
    if not any(turn.proposal_index > 0 for turn in tree.turns):
        return ["They were sampled independently."] if len(tree.leaves()) > 1 else []
    first = _first_leaf(tree)
    is_ordinary = all(tree.turns[node].proposal_index == 0 for node in tree.path(first))
    what = ", an ordinary rollout," if is_ordinary else ""
    sentences = [f"First proposals alone{what} {_FIRST_WORDS[ends[first]]}."]
    wins = [node for node, end in enumerate(ends) if end == WON]
    if wins and ends[first] != WON:
        sentences.append(_win(tree, min((tree.path(node) for node in wins), key=len)))
    return sentences


_FIRST_WORDS = {
    WON: "won",
    LOST: "lost",
    OUT_OF_TURNS: "ran out of turns",
    MERGED: "reached a state again",
    NOT_EXPANDED: "were not played to an end",
}


def _first_leaf(tree: TrajectoryTree) -> int:
    """The leaf that the first proposals of all decisions lead to."""
    children, node = tree.children(), ROOT
    while node in children:
        node = children[node][0]
    return node


def _win(tree: TrajectoryTree, path: Sequence[int]) -> str:
    """What the shortest successful branch needed."""
    later = [node for node in path if tree.turns[node].proposal_index > 0]
    turns = f"The shortest win takes {_count(len(path), 'turn')}"
    words = f"{turns}, {len(later) or 'none'} of them by a later proposal"
    scored = {
        node: logprob for node in later if (logprob := tree.turns[node].plain_logprob) is not None
    }
    if not scored:
        return f"{words}."
    node = min(scored, key=lambda node: scored[node])
    what = tree.turns[node].action or "an unreadable answer"
    place = path.index(node) + 1
    return (
        f"{words}; the least likely of these is {what} at turn {place}, "
        f"with probability {show_probability(scored[node])} under the plain prompt."
    )


def _count(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"
