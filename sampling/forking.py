"""Samplers that go back to a state and play on: Tree-GRPO's, TreeRL's and CURE's.

Whole trajectories are played, the first ones from the start and the others from a position that an
earlier one passed (`ForkedTree`, which `arpo.py`, `go_explore.py` and `dars.py` share). Responses
are independent samples under the plain prompt: nothing makes them distinct and no states are
merged. A position is a copy of the environment, as in `tree.py`; every response counts as a call
and every action as an environment step. Where an episode has a single turn, all of them are
independent rollouts.

The trajectories of a round are played side by side, and what follows is decided when the round has
ended, so results do not depend on which response ends first.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..configs.schema import SamplingConfig
from .dialogue import Position
from .player import Player, together
from .trajectory import ROOT, Task, TrajectoryTree, Turn

TREE_GRPO_LEAVES = 3
"""Leaves of one of Tree-GRPO's trees: a trajectory and N = 2 forks of it (arXiv:2509.21240)."""
TREE_RL_LEAVES = 5
"""Leaves of one of EPTree's trees: a trajectory, and T = 2 forks at each of N = 2 turns."""
TREE_RL_BRANCHES = 2
"""T, forks at a turn (arXiv:2506.11902)."""
CURE_LEAVES = 4
"""A trajectory of CURE and the three that go on from a turn of it (arXiv:2508.11016)."""
CURE_CANDIDATES = 20
"""Least likely turns among which that turn is drawn."""


@dataclass
class Passage:
    """A trajectory, or the part of it that was played on from somewhere."""

    parent: int
    """The turn before it."""
    turns: list[Turn] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    """Before each turn, and after the last one."""
    has_failed: bool = False
    """The engine failed to give a response."""


@dataclass
class ForkedTree:
    """A tree, and the live positions from which it may grow on."""

    tree: TrajectoryTree
    start: Position
    after: dict[int, Position] = field(default_factory=dict)
    """The position after each turn, of those that were kept."""

    def add(self, passage: Passage, keeps_positions: bool) -> list[int]:
        """Add the turns of a passage; returns their numbers."""
        nodes, node = [], passage.parent
        for turn, after in zip(passage.turns, passage.positions[1:], strict=True):
            node = self.tree.add(node, turn)
            nodes.append(node)
            if keeps_positions:
                self.after[node] = after
        self.tree.num_calls += len(nodes)
        self.tree.num_failed += passage.has_failed
        return nodes

    async def play(
        self,
        parents: Sequence[int],
        player: Player,
        cfg: SamplingConfig,
        max_turns: int | None = None,
        is_last: bool = False,
    ) -> list[list[int]]:
        """Play on from after each of these turns (`ROOT`: the start), side by side.

        Every turn is played on a copy of the environment, unless nothing will go on from it.

        Args:
            parents: the turns.
            player: of this tree.
            cfg: `fork_noise`; with `shared` the branches of a position meet the same noise.
            max_turns: most turns to add to each; None plays to the end.
            is_last: whether nothing will be played on from the new turns.

        Returns:
            The new turns of each, which are fewer if the engine fails to give a response.
        """
        calls: list[Awaitable[Passage]] = []
        for place, (parent, own) in enumerate(player.split(parents)):
            position = self.start if parent == ROOT else self.after[parent]
            has_own_noise = cfg.fork_noise == "independent" and (len(self.tree) or place)
            noise = int(own.rng.integers(2**31)) if has_own_noise else None
            passage = Passage(parent, positions=[position])
            calls.append(self._play_on(passage, own, noise, max_turns, is_last))
        return [self.add(passage, not is_last) for passage in await together(*calls)]

    async def _play_on(
        self,
        passage: Passage,
        player: Player,
        noise: int | None,
        max_turns: int | None,
        is_last: bool,
    ) -> Passage:
        turns = passage.turns
        while len(turns) != max_turns and not (turns and is_over(turns[-1])):
            position = passage.positions[-1]
            self.tree.num_cut_prompts += position.is_cut
            completion = await player.ask(position.prompt_ids)
            if completion.finish_reason == "failed":
                passage.has_failed = True
                break
            in_place = is_last and bool(turns)  # others go on from where it began
            turn, after = await player.play(position, completion, in_place=in_place, noise=noise)
            noise = None
            turns.append(turn)
            passage.positions.append(after)
        if is_last and passage.positions[-1].env is not passage.positions[0].env:
            player.dialogue.close(passage.positions[-1])
        return passage


def is_over(turn: Turn) -> bool:
    """Whether a turn ended its trajectory."""
    return turn.terminated or turn.truncated


Grow = Callable[[ForkedTree, Player, SamplingConfig], Awaitable[None]]
"""Plays at most `max_trajectories` trajectories of an opened tree."""


async def sample_forked(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig, grow: Grow
) -> list[TrajectoryTree]:
    """Grow a tree for every task, all together; positions are closed as each is done."""
    return await together(*(_sample(task, own, cfg, grow) for task, own in player.split(tasks)))


async def _sample(task: Task, player: Player, cfg: SamplingConfig, grow: Grow) -> TrajectoryTree:
    tree = TrajectoryTree(task)
    start = await player.open(tree)
    if start is None:
        return tree
    forked = ForkedTree(tree, start)
    await grow(forked, player, cfg)
    for position in (start, *forked.after.values()):
        player.dialogue.close(position)
    return tree


async def sample_cure(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Play some trajectories, then play on from before one critical turn of each.

    Stage 1 of CURE (arXiv:2508.11016): four responses are each cut before a token drawn from the 20
    of highest entropy and completed three times; all are one group. Here a turn is drawn among the
    20 with the least likely tokens, M = U / 4. Stage 2 is DAPO without forks: resume the run with
    `--method dapo`.
    """
    return await sample_forked(tasks, player, cfg, _grow_cure)


async def _grow_cure(forked: ForkedTree, player: Player, cfg: SamplingConfig) -> None:
    chains, shares = await _first_chains(forked, player, cfg, CURE_LEAVES)
    tree, parents = forked.tree, list[int]()
    for chain, share in zip(chains, shares, strict=True):
        critical = _least_likely_first(tree, chain)[:CURE_CANDIDATES]
        place = int(player.rng.integers(max(len(critical), 1)))
        parents += [tree.parents[critical[place]] if critical else ROOT] * share
    await forked.play(parents, player, cfg, is_last=True)


async def sample_tree_grpo(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Play some trajectories, then play on from random turns of each (arXiv:2509.21240).

    Tree-GRPO starts M trees with a trajectory each and expands N = 2 of a tree's turns, drawn
    uniformly from those that are no leaf, in L = 1 round. Here M = U / 3. A trajectory of one turn
    has no such turn; another is then played from the start.
    """
    return await sample_forked(tasks, player, cfg, _grow_tree_grpo)


async def _grow_tree_grpo(forked: ForkedTree, player: Player, cfg: SamplingConfig) -> None:
    chains, shares = await _first_chains(forked, player, cfg, TREE_GRPO_LEAVES)
    parents: list[int] = []
    for chain, share in zip(chains, shares, strict=True):
        places = chain[:-1] or [ROOT]
        parents += [places[place] for place in player.rng.integers(len(places), size=share)]
    await forked.play(parents, player, cfg, is_last=True)


async def sample_tree_rl(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Play some trajectories, then play on from before the least likely turns of each.

    EPTree of TreeRL (arXiv:2506.11902) forks a response at the N = 2 tokens that were least likely,
    T = 2 times each, before the token. Here the unit is a turn: those are played again whose least
    likely token was least likely. M = U / 5; of what is left over the first trajectories get more.
    Paper: temperature 1.2 and top-p .95. We: the temperature of every other method.
    """
    return await sample_forked(tasks, player, cfg, _grow_tree_rl)


async def _grow_tree_rl(forked: ForkedTree, player: Player, cfg: SamplingConfig) -> None:
    chains, shares = await _first_chains(forked, player, cfg, TREE_RL_LEAVES)
    tree, parents = forked.tree, list[int]()
    for chain, share in zip(chains, shares, strict=True):
        wanted = np.repeat(_least_likely_first(tree, chain) or [ROOT], TREE_RL_BRANCHES)
        nodes = [int(node) for node in np.resize(wanted, share)]
        parents += [ROOT if node == ROOT else tree.parents[node] for node in nodes]
    await forked.play(parents, player, cfg, is_last=True)


def _least_likely_first(tree: TrajectoryTree, chain: Sequence[int]) -> list[int]:
    """Sort turns by the log-probability of their least likely token."""
    return sorted(chain, key=lambda node: min(tree.turns[node].sampling_logprobs, default=0.0))


async def _first_chains(
    forked: ForkedTree, player: Player, cfg: SamplingConfig, num_leaves: int
) -> tuple[list[list[int]], list[int]]:
    """Play one trajectory for every `num_leaves` of U; returns their turns, and the forks of each.

    The forks are what is left of U, as evenly as possible.
    """
    num = max(1, cfg.max_trajectories // num_leaves)
    chains = await forked.play([ROOT] * num, player, cfg)
    base, extra = divmod(cfg.max_trajectories - num, num)
    return chains, [base + (place < extra) for place in range(num)]
