"""Action values in a noisy environment, from a tree with merged states. Numpy only.

Such a tree is a sample of the environment's transitions: every proposal was played several times
(`sampling.noise_draws`), every outcome is a turn, and an outcome in a known state refers to it.
Values are backed up along these transitions, so an action's value uses everything sampled below it
instead of the luck of one trajectory.
"""

import math

import numpy as np

from ..sampling.trajectory import TrajectoryTree

Action = tuple[int, int]
"""A decision, given by the turn before it (`ROOT` for the start), and a proposal index."""


def outcomes(tree: TrajectoryTree) -> dict[Action, list[int]]:
    """Group the turns that are outcomes of the same proposal, in the order they were added."""
    groups: dict[Action, list[int]] = {}
    for node, (parent, turn) in enumerate(zip(tree.parents, tree.turns, strict=True)):
        groups.setdefault((parent, turn.proposal_index), []).append(node)
    return groups


def expected_values(
    tree: TrajectoryTree, discount: float, format_penalty: float = 0.0
) -> dict[Action, float]:
    """Compute the best expected discounted return of every action.

    Q(s, a) = mean of [r + discount V(s')] over its sampled transitions, V(s) = max_a Q(s, a): value
    iteration (Bellman 1957) from V = 0, for as many rounds as the tree is deep. V(s') is 0 after a
    terminated outcome, and after a truncated one in a state that was never expanded. Outcomes that
    were not expanded because of the cap have no known value and are ignored.

    Args:
        tree: with merged states.
        discount: factor per turn, in (0, 1].
        format_penalty: subtracted from the reward of an unreadable turn.

    Returns:
        Q by action; NaN if the value of no outcome is known.
    """
    groups = outcomes(tree)
    decisions: dict[int, list[Action]] = {}
    for action in groups:
        decisions.setdefault(action[0], []).append(action)
    depth = max((len(tree.path(leaf)) for leaf in tree.leaves()), default=0)
    states: dict[int, float] = dict.fromkeys(decisions, 0.0)
    values: dict[Action, float] = {}
    for _ in range(depth):
        for action, nodes in groups.items():
            values[action] = _mean_outcome(tree, nodes, states, discount, format_penalty)
        for state, actions in decisions.items():
            known = [values[action] for action in actions if not math.isnan(values[action])]
            states[state] = max(known, default=math.nan)
    return values


def _mean_outcome(
    tree: TrajectoryTree,
    nodes: list[int],
    states: dict[int, float],
    discount: float,
    format_penalty: float,
) -> float:
    """Mean of r + discount V(s') over an action's sampled transitions with a known V(s')."""
    total, num_known = 0.0, 0
    for node in nodes:
        turn = tree.turns[node]
        state = node if turn.merged_into is None else turn.merged_into
        is_over = turn.terminated or (turn.truncated and state not in states)
        following = 0.0 if is_over else states.get(state, math.nan)
        if not math.isnan(following):
            penalty = format_penalty * (turn.action is None)
            total += turn.num_draws * (turn.reward - penalty + discount * following)
            num_known += turn.num_draws
    return total / num_known if num_known else math.nan


def action_advantages(
    tree: TrajectoryTree, discount: float, format_penalty: float = 0.0
) -> np.ndarray:
    """Compare every action with all proposals of its decision.

    A(s, a) = 2 (Q(s, a) - mean of Q over the proposals in s), on the scale of `best_credit`.

    Args:
        tree: with merged states.
        discount: as in `expected_values`.
        format_penalty: as in `expected_values`.

    Returns:
        Shape (num_turns,): the advantage at the first outcome of every action, so that its response
        is trained once; NaN elsewhere, and where a decision has fewer than two known values.
    """
    values = expected_values(tree, discount, format_penalty)
    groups = outcomes(tree)
    advantages = np.full(len(tree), np.nan)
    siblings: dict[int, list[Action]] = {}
    for action, value in values.items():
        if not math.isnan(value):
            siblings.setdefault(action[0], []).append(action)
    for actions in siblings.values():
        known = np.array([values[action] for action in actions])
        if len(known) > 1:
            places = [groups[action][0] for action in actions]
            advantages[places] = 2 * (known - known.mean())
    return advantages
