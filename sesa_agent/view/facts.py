"""What a tree shows beyond its turns: how each branch ended, values, advantages, one sentence.

Values and advantages are not saved but computed, by the run's own credit rule: the numbers that
training used, before its learning rate, clipping and filter.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sesa_agent.configs.schema import Config, LossConfig
from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree, Turn
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
"""How a branch can end; a turn that goes on has an empty end."""
VALUE_WORDS = {
    "best": "discount to the power of the turns to the nearest success below",
    "expected": "best expected discounted return of the action",
}
"""What the value of a turn is, by credit rule."""
MEAN_WORDS = "mean return of the trajectories through it"
"""The same for all other rules."""


@dataclass(frozen=True)
class TurnFacts:
    """What is computed about a turn; None where it cannot be told."""

    end: str
    value: float | None
    advantage: float | None
    """None: the turn is not taught."""
    weight: float | None
    """What `loss.history_correction` multiplies the advantage by."""


def turn_facts(tree: TrajectoryTree, cfg: Config) -> list[TurnFacts]:
    """Compute what the run's credit rule says of every turn.

    Args:
        tree: as it was saved.
        cfg: the run's settings, without "auto".
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
    """Name how the branch ends at each turn, "" where it goes on."""
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
    """Value of each turn, in the sense of `VALUE_WORDS`."""
    if cfg.credit == "expected":
        by_action = expected_values(tree, cfg.discount, cfg.format_penalty)
        pairs = zip(tree.parents, tree.turns, strict=True)
        values = [by_action[parent, turn.proposal_index] for parent, turn in pairs]
    elif cfg.credit == "best":
        values = best_values(tree, cfg.discount).tolist()
    else:
        values = mean_values(tree, leaf_returns(tree, cfg.format_penalty)).tolist()
    return [None if math.isnan(value) else value for value in values]


def turn_advantages(tree: TrajectoryTree, cfg: LossConfig) -> list[float | None]:
    """Advantage of each turn; of a turn that several trajectories share their weighted mean.

    All outcomes of an action have the action's.
    """
    credit = ADVANTAGES[cfg.credit](tree, leaf_returns(tree, cfg.format_penalty), cfg)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (credit.positive + credit.negative) / credit.weight
    found = [
        float(mean) if weight else None for mean, weight in zip(means, credit.weight, strict=True)
    ]
    for node, turn in enumerate(tree.turns):  # an action is taught once, at its first outcome
        if turn.outcome:
            found[node] = found[node - 1]
    return found


def gap_weight(turn: Turn, advantage: float | None, mode: str) -> float | None:
    """What `loss.history_correction` makes of a turn's advantage (training/batch.py).

    Returns:
        The factor; None where it is not known.
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
    """Say in a few words what was found, and what part branching had in it.

    Args:
        tree: at least one turn.
        facts: of its turns.
    """
    ends = [fact.end for fact in facts]
    parts = [_found(tree, ends), *_branching(tree, ends)]
    if not any(fact.advantage for fact in facts):
        parts.append("It teaches nothing: no proposal was better than another.")
    return " ".join(parts)


def _found(tree: TrajectoryTree, ends: Sequence[str]) -> str:
    """How many branches won, and what else became of them."""
    counts = Counter(ends)
    num_leaves = len(tree.leaves())
    merged = f", {counts[MERGED]} ended in a state met before" if counts[MERGED] else ""
    dropped = f", {_count(len(tree.duplicates), 'repeat')} dropped" if tree.duplicates else ""
    won = f"{counts[WON] or 'None'} of {_count(num_leaves, 'branch')} won"
    return f"{won}{merged}{dropped}."


def _branching(tree: TrajectoryTree, ends: Sequence[str]) -> list[str]:
    """What first proposals alone came to, and what the others added."""
    if any(turn.sketch for turn in tree.turns):
        return []
    if not any(turn.proposal_index > 0 for turn in tree.turns):
        return ["They were drawn independently."] if len(tree.leaves()) > 1 else []
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
    MERGED: "came back to a state met before",
    NOT_EXPANDED: "were not played to an end",
}


def _first_leaf(tree: TrajectoryTree) -> int:
    """Where the first proposals lead, each the first of its decision."""
    children, node = tree.children(), ROOT
    while node in children:
        node = children[node][0]
    return node


def _win(tree: TrajectoryTree, path: Sequence[int]) -> str:
    """What the shortest win took."""
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
        f"{words}; the least expected of these is {what} at turn {place}, "
        f"of probability {show_probability(scored[node])} under the plain prompt."
    )


def show_probability(logprob: float) -> str:
    """A probability where it can be read, else as a power of e.

    >>> show_probability(-0.5), show_probability(-40.0)
    ('.607', 'e^-40.0')
    """
    if logprob < math.log(0.001):
        return f"e^{logprob:.1f}"
    return f"{min(math.exp(logprob), 1.0):.3f}".removeprefix("0")


def _count(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"
