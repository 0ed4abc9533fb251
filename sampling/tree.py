"""Action-level SESA: a branching tree of trajectories under the cap U (paper, section 3.1).

Every open node of every tree proposes distinct actions, each is played on a fork of the
environment, and the children that the game has not ended are the next frontier. The cap bounds the
trajectories that are open or were ended by the game; `allocate_widths` splits what is left of it
before anything is proposed, so no half-grown branch is thrown away.

With merged states (deterministic environments) a child whose state already stands in its tree
becomes a dead leaf: it is recorded, costs no further call and does not count. Paper: no merging.
We: a budget spent on distinct states finds far more successes (results/tree_shape.json).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..agents.engine import Engine, SamplingParams
from ..configs.schema import SamplingConfig, SettingError
from ..environments import fork, is_deterministic, state_key
from .dialogue import Dialogue, Position
from .proposer import Decision, first_index, propose
from .trajectory import ROOT, Task, TrajectoryTree


def allocate_widths(
    num_open: int, num_finished: int, num_proposals: int, max_trajectories: int
) -> list[int]:
    """Split what is left of the cap over the open nodes.

    Args:
        num_open: open nodes, n.
        num_finished: trajectories that the game has ended.
        num_proposals: most children a node may get, G.
        max_trajectories: the cap U, at least num_open + num_finished.

    Returns:
        Children for each open node, shape (n,): at least 1 and at most G, as even as can be, and
        together with the finished trajectories at most U.

    >>> allocate_widths(num_open=3, num_finished=1, num_proposals=4, max_trajectories=8)
    [3, 2, 2]
    """
    if num_open == 0:
        return []
    room = min(max_trajectories - num_finished, num_open * num_proposals)
    base, extra = divmod(room, num_open)
    return [base + (place < extra) for place in range(num_open)]


@dataclass
class _Growth:
    """A tree and its live frontier."""

    tree: TrajectoryTree
    frontier: list[tuple[int, Position]]
    seen: set[Hashable]
    """Keys of the states that stand in the tree; empty if states are not merged."""
    stops_on_success: bool
    num_finished: int = 0


def grow_trees(
    tasks: Sequence[Task],
    engine: Engine,
    dialogue: Dialogue,
    cfg: SamplingConfig,
    params: SamplingParams,
    rng: np.random.Generator,
) -> list[TrajectoryTree]:
    """Grow one tree per task, all together.

    Args:
        tasks: the puzzles, B.
        engine: draws responses.
        dialogue: plays them.
        cfg: G, U and the rest.
        params: temperature and limits of the draws.
        rng: all random numbers of this rollout.

    Returns:
        B trees. The first proposal of every node is an ordinary draw under the plain prompt; with
        G = 1 and U = 1 a tree is one plain rollout.

    Raises:
        SettingError: if states are to be merged in an environment that is not deterministic.
    """
    growths = [_start(task, dialogue, cfg) for task in tasks]
    for depth in range(dialogue.max_turns):
        decisions = [_decide(growth, depth, dialogue.max_turns, cfg, rng) for growth in growths]
        flat = [decision for ds in decisions for decision in ds]
        if not flat:
            break
        propose(engine, dialogue, flat, params, rng, cfg.proposer, cfg.max_retries)
        for growth, ds in zip(growths, decisions, strict=True):
            _expand(growth, ds, dialogue, cfg, rng)
    return [growth.tree for growth in growths]


def _start(task: Task, dialogue: Dialogue, cfg: SamplingConfig) -> _Growth:
    position = dialogue.start(task)
    deterministic = is_deterministic(position.env)
    merge = resolve_merging(cfg.merge_states, deterministic)
    seen = {state_key(position.env)} if merge else set()
    stops = cfg.stop_on_success == "on" or cfg.stop_on_success == "auto" and deterministic
    tree = TrajectoryTree(task, num_cut_prompts=int(position.is_cut))
    return _Growth(tree, [(ROOT, position)], seen, stops)


def resolve_merging(merge_states: str, deterministic: bool) -> bool:
    """Decide whether equal states are merged.

    Raises:
        SettingError: if asked for where a state and an action do not fix the next state.
    """
    if merge_states == "on" and not deterministic:
        raise SettingError(
            "sampling.merge_states must be off or auto in an environment that is not "
            "deterministic, got 'on'. Equal states have no equal futures there."
        )
    return merge_states != "off" and deterministic


def _decide(
    growth: _Growth, depth: int, max_turns: int, cfg: SamplingConfig, rng: np.random.Generator
) -> list[Decision]:
    """Give every open node of a tree its width; which nodes get one more is drawn by lot."""
    num_open = len(growth.frontier)
    cap = cfg.max_trajectories
    if cfg.allocation == "even":
        # The whole cap is given out at two thirds of the depth.
        share = math.ceil(cap * 1.5 * (depth + 1) / max_turns)
        cap = min(cap, max(share, num_open + growth.num_finished))
    widths = allocate_widths(num_open, growth.num_finished, cfg.num_proposals, cap)
    return [
        Decision(position, int(width))
        for (_, position), width in zip(growth.frontier, rng.permutation(widths), strict=True)
    ]


def _expand(
    growth: _Growth,
    decisions: list[Decision],
    dialogue: Dialogue,
    cfg: SamplingConfig,
    rng: np.random.Generator,
) -> None:
    """Play every proposal; the children that are neither over nor repeated are the new frontier."""
    frontier = []
    for (node, position), decision in zip(growth.frontier, decisions, strict=True):
        growth.tree.num_calls += decision.num_calls
        growth.tree.num_duplicates += decision.num_duplicates
        growth.tree.num_cut_prompts += decision.num_cut_prompts
        first = first_index(cfg.proposer, decision.width)
        for index, completion in enumerate(decision.proposals, start=first):
            reseed = cfg.fork_noise == "independent" and index > first
            env = fork(position.env, int(rng.integers(2**31)) if reseed else None)
            child_position = replace(position, env=env)
            turn, after = dialogue.play(child_position, completion, index, in_place=True)
            is_over = turn.terminated or turn.truncated
            growth.num_finished += is_over
            if growth.seen and not is_over:
                key = state_key(after.env)
                turn = replace(turn, is_repeat=key in growth.seen)
                growth.seen.add(key)
            child = growth.tree.add(node, turn)
            if not is_over and not turn.is_repeat:
                frontier.append((child, after))
    growth.frontier = [] if growth.stops_on_success and growth.tree.success else frontier
