"""What actions are worth in a noisy world, from a tree whose equal states are merged. Numpy only.

Such a tree is a sample of the environment's transitions: every proposal was played several times
(`sampling.noise_draws`), every outcome is a turn, and an outcome that reached a known state points
to it. Values are passed on along those transitions, so what an action is worth rests on all that
was seen below it and not on the luck of one trajectory.
"""

import math

import numpy as np

from ..sampling.trajectory import TrajectoryTree

Action = tuple[int, int]
"""A decision (the turn that it follows, `ROOT` for the start) and a proposal's number there."""


def outcomes(tree: TrajectoryTree) -> dict[Action, list[int]]:
    """Group turns by the proposal that they are outcomes of, in the order they were added."""
    groups: dict[Action, list[int]] = {}
    for node, (parent, turn) in enumerate(zip(tree.parents, tree.turns, strict=True)):
        groups.setdefault((parent, turn.proposal_index), []).append(node)
    return groups


def expected_values(
    tree: TrajectoryTree, discount: float, format_penalty: float = 0.0
) -> dict[Action, float]:
    """Compute the best expected discounted return of every action.

    Q(s, a) = mean over its draws of [r + discount V(s')], V(s) = max_a Q(s, a): value iteration
    (Bellman 1957) on the sampled transitions, for as many rounds as the tree is deep, from V = 0.
    An outcome that ended the game, or that a limit cut off in a state that was never expanded, is
    followed by nothing. What was left out to keep to the cap is unknown, and left out here too.

    Args:
        tree: with merged states.
        discount: value that is kept from a turn to the next, in (0, 1].
        format_penalty: subtracted from the reward of a turn that could not be read.

    Returns:
        Q by action; NaN if nothing is known of any of its outcomes.
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
    """Mean of r + discount V(s') over the draws of an action whose outcome is known."""
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
    """Compare every action with the other proposals of its decision.

    A(s, a) = 2 (Q(s, a) - mean of Q over the proposals in s), the scale of `best_credit`.

    Args:
        tree: with merged states.
        discount: as in `expected_values`.
        format_penalty: as in `expected_values`.

    Returns:
        Shape (num_turns,): the advantage at the first outcome of every action, so that its response
        is taught once; NaN elsewhere, and where there is nothing to compare.
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
