"""Action-level SESA: a branching tree of trajectories under the cap U (paper, section 3.1).

Every open node of every tree proposes distinct actions. Each is played on a fork of the
environment, and the unfinished children form the next frontier. The cap U bounds the open and
finished trajectories together; `allocate_widths` splits the remaining budget before anything is
proposed, so no half-grown branch is thrown away.

With merged states, a child whose state is already in its tree becomes a dead leaf: it is recorded,
needs no further calls and does not count towards U. Paper: no merging. We: a budget spent on
distinct states finds far more successes (results/tree_shape.json).

A turn without a readable action, in which nothing was played, is a dead leaf in the same way,
whether states are merged or not: the same decision would follow, a turn later. It goes on only if
its decision has no other turn.

In a noisy environment with merged states every proposal is played several times with independent
noise, and every distinct outcome is a child. The tree is then a sample of the environment's
transitions, from which `loss.credit=expected` estimates an action's average value. This costs
environment steps but no policy calls. Since chance multiplies finished trajectories there, U bounds
the proposals of a layer and its open nodes instead; a random choice of U open nodes is expanded.
"""

import math
from collections.abc import Awaitable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np

from ..agents.engines.base import Completion
from ..configs.errors import SettingError
from ..configs.schema import SamplingConfig
from ..environments import is_deterministic, state_key
from ..environments.text_env import has_state_key
from .dialogue import Position
from .player import Player, together
from .proposer import Decision, first_index, propose
from .trajectory import ROOT, DuplicateProposal, Task, TrajectoryTree, Turn


def allocate_widths(
    num_open: int, num_finished: int, num_proposals: int, max_trajectories: int
) -> list[int]:
    """Split the remaining budget over the open nodes.

    Args:
        num_open: open nodes, n.
        num_finished: finished trajectories.
        num_proposals: most children of a node, G.
        max_trajectories: the cap U, at least num_open + num_finished.

    Returns:
        Children of each open node, shape (n,): between 1 and G, as even as possible; together with
        the finished trajectories at most U.

    >>> allocate_widths(num_open=3, num_finished=1, num_proposals=4, max_trajectories=8)
    [3, 2, 2]
    """
    if num_open == 0:
        return []
    room = min(max_trajectories - num_finished, num_open * num_proposals)
    base, extra = divmod(room, num_open)
    return [base + (place < extra) for place in range(num_open)]


@dataclass
class GrowingTree:
    """A tree and its live frontier."""

    tree: TrajectoryTree
    frontier: list[tuple[int, Position]]
    seen: dict[Hashable, int]
    """The first turn that reached each state; empty if states are not merged."""
    stops_on_success: bool
    num_outcomes: int
    """Times each proposal is played."""
    num_finished: int = 0
    """Finished trajectories; not counted if proposals are played several times."""
    first_draws: list[float] = field(default_factory=list)
    """Probabilities of the first draws of the last layer's decisions."""


async def grow_trees(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Grow one tree per task, all together.

    Args:
        tasks: the B puzzles.
        player: samples responses, reads and plays them.
        cfg: G, U and the other settings.

    Returns:
        B trees. The first proposal of a node is an on-policy sample under the plain prompt (except
        with `proposer=one_response`); with G = U = 1 a tree is one plain rollout.

    Raises:
        SettingError: if states should be merged but the environment has no `state_key`.
    """
    growing = await player.each([start_tree(task, player, cfg) for task in tasks])
    max_turns = player.dialogue.max_turns
    for depth in range(max_turns):
        decisions = [decide(tree, depth, max_turns, cfg, player.rng) for tree in growing]
        flat = player.split([decision for ds in decisions for decision in ds])
        if not flat:
            break
        await together(*(propose(decision, own, cfg) for decision, own in flat))
        layers = zip(growing, decisions, strict=True)
        await player.each([expand(tree, ds, player, cfg) for tree, ds in layers])
    return [tree.tree for tree in growing]


async def start_tree(task: Task, player: Player, cfg: SamplingConfig) -> GrowingTree:
    """Start a tree with the root as its frontier."""
    tree = TrajectoryTree(task)
    position = await player.open(tree)
    if position is None:  # the environment failed: nothing to grow
        return GrowingTree(tree, [], {}, stops_on_success=False, num_outcomes=1)
    deterministic = is_deterministic(position.env)
    merges = resolve_merging(cfg.merge_states, position.env)
    return GrowingTree(
        tree,
        frontier=[(ROOT, position)],
        seen={state_key(position.env): ROOT} if merges else {},
        stops_on_success=cfg.stop_on_success == "on"
        or (cfg.stop_on_success == "auto" and deterministic),
        num_outcomes=cfg.noise_draws if merges and not deterministic else 1,
    )


def resolve_merging(merge_states: str, env: gymnasium.Env[Any, Any]) -> bool:
    """Decide whether equal states are merged; "auto" merges if the environment has `state_key`.

    Raises:
        SettingError: if `merge_states` is "on" and the environment has no `state_key`.
    """
    has_key = has_state_key(env)
    if merge_states == "on" and not has_key:
        raise SettingError(
            f"sampling.merge_states must be off or auto in {env}, which has no state_key(), got "
            "'on'. Add a state_key() to the environment, or leave the setting out."
        )
    return merge_states != "off" and has_key


def decide(
    growing: GrowingTree, depth: int, max_turns: int, cfg: SamplingConfig, rng: np.random.Generator
) -> list[Decision]:
    """Give every open node of a tree its width; the wider nodes are chosen at random."""
    num_open = len(growing.frontier)
    cap = cfg.max_trajectories
    if cfg.allocation == "even":
        # The cap rises linearly and reaches U at two thirds of the depth.
        share = math.ceil(cap * 1.5 * (depth + 1) / max_turns)
        cap = min(cap, max(share, num_open + growing.num_finished))
    widths = allocate_widths(num_open, growing.num_finished, cfg.num_proposals, cap)
    return [
        Decision(position, int(width), elsewhere=growing.first_draws)
        for (_, position), width in zip(growing.frontier, rng.permutation(widths), strict=True)
    ]


async def expand(
    growing: GrowingTree, decisions: Sequence[Decision], player: Player, cfg: SamplingConfig
) -> None:
    """Play every proposal; children that are neither finished nor merged are the new frontier."""
    positions = [position for _, position in growing.frontier]
    growing.first_draws = [share for decision in decisions for share in decision.first_draws]
    plays: list[tuple[int, bool, Awaitable[Sequence[tuple[Turn, Position]]]]] = []
    for (node, position), decision in zip(growing.frontier, decisions, strict=True):
        _count(growing.tree, node, decision)
        first = first_index(cfg.proposer, decision.width)
        pairs = zip(decision.proposals, decision.actions, strict=True)
        for index, (completion, action) in enumerate(pairs, start=first):
            if growing.num_outcomes > 1:
                noises = player.rng.integers(2**31, size=growing.num_outcomes).tolist()
                outcomes = _sample_outcomes(player, position, completion, index, noises)
            else:
                has_own_noise = cfg.fork_noise == "independent" and index > first
                noise = int(player.rng.integers(2**31)) if has_own_noise else None
                outcomes = _sample_outcome(player, position, completion, index, noise)
            is_spare = action is None and (bool(decision.readable) or index > first)
            plays.append((node, is_spare, outcomes))
    frontier: list[tuple[int, Position]] = []
    played = await player.each([outcomes for *_, outcomes in plays])
    for (node, is_spare, _), outcomes in zip(plays, played, strict=True):
        for turn, after in outcomes:
            positions.append(after)
            child = _add(growing, node, turn, after, is_spare and not turn.num_env_steps)
            if child is not None:
                frontier.append((child, after))
    if len(frontier) > cfg.max_trajectories:  # a noisy environment gave several outcomes each
        kept = player.rng.choice(len(frontier), cfg.max_trajectories, replace=False)
        frontier = [frontier[place] for place in sorted(kept)]
    growing.frontier = [] if growing.stops_on_success and growing.tree.success else frontier
    still_played = {id(position) for _, position in growing.frontier}
    for position in positions:
        if id(position) not in still_played:
            player.dialogue.close(position)


def _count(tree: TrajectoryTree, node: int, decision: Decision) -> None:
    """Add a decision's counts and duplicates to its tree."""
    tree.num_calls += decision.num_calls
    tree.num_duplicates += decision.num_duplicates
    tree.num_cut_prompts += decision.num_cut_prompts
    tree.duplicates += [
        DuplicateProposal(
            node, earlier, response.token_ids, response.logprobs, response.text, action
        )
        for earlier, response, action in decision.duplicates
    ]


async def _sample_outcome(
    player: Player, position: Position, completion: Completion, index: int, noise: int | None
) -> Sequence[tuple[Turn, Position]]:
    """Play a proposal once."""
    return [await player.play(position, completion, index, noise=noise)]


async def _sample_outcomes(
    player: Player, position: Position, completion: Completion, index: int, noises: Sequence[int]
) -> Sequence[tuple[Turn, Position]]:
    """Play a proposal several times with independent noise; return its distinct outcomes."""
    outcomes: dict[Hashable, tuple[Turn, Position]] = {}
    plays = [player.play(position, completion, index, noise=noise) for noise in noises]
    for turn, after in await player.each(plays):
        key = state_key(after.env) if not turn.error else turn.error
        kind = turn.reward, turn.terminated, turn.truncated, turn.success, key
        first = replace(turn, outcome=len(outcomes), num_draws=0, num_env_steps=0)
        if kind in outcomes and after.env is not position.env:  # which a failed fork leaves there
            player.dialogue.close(after)
        known, after = outcomes.get(kind, (first, after))
        num_steps = known.num_env_steps + turn.num_env_steps
        known = replace(known, num_draws=known.num_draws + 1, num_env_steps=num_steps)
        outcomes[kind] = known, after
    return list(outcomes.values())


def _add(
    growing: GrowingTree, parent: int, turn: Turn, after: Position, is_spare: bool
) -> int | None:
    """Add a turn to its tree; return its node number if it should be expanded.

    Args:
        growing: the tree.
        parent: the turn before.
        turn: the turn.
        after: what it led to.
        is_spare: whether nothing was played and another turn of its decision goes on.
    """
    is_over, is_noisy = turn.terminated or turn.truncated, growing.num_outcomes > 1
    if is_spare and not is_over:
        turn = replace(turn, merged_into=parent)  # nothing was played: its state is the same
    growing.num_finished += is_over and not (is_noisy or is_spare)
    # With noise, `expected_values` gives a truncated outcome the value of the state it reached.
    is_end = turn.terminated if is_noisy else is_over
    if growing.seen and not (turn.error or turn.is_merged or is_end):
        key = state_key(after.env)
        turn = replace(turn, merged_into=growing.seen.get(key))
        if not is_over:
            growing.seen.setdefault(key, len(growing.tree))
    child = growing.tree.add(parent, turn)
    return None if is_over or turn.is_merged else child
