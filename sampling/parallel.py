"""Independent rollouts: the RAGEN baseline, and how every policy is evaluated.

A group of U trajectories is a tree that branches only at its root. Its members differ only by
chance.
"""

from collections.abc import Awaitable, Sequence
from itertools import zip_longest

from ..configs.schema import SamplingConfig
from .dialogue import Position
from .player import Player, together
from .trajectory import ROOT, Task, TrajectoryTree, Turn

Episode = tuple[list[Turn], bool]
"""The turns of an episode, and whether the engine failed to give a response."""


async def sample_parallel(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Play `cfg.max_trajectories` independent episodes of every task, all at once.

    With `fork_noise="shared"` all members of a group see the same environment randomness, as in
    RAGEN. An episode stops early if the engine fails to give its next response.
    """
    trees = [TrajectoryTree(task) for task in tasks]
    starts = await player.each([player.open(tree) for tree in trees])
    pairs = zip(trees, starts, strict=True)
    groups = [_episodes(tree, start, player, cfg) for tree, start in pairs]
    played = iter(await together(*(episode for group in groups for episode in group)))
    for tree, start, group in zip(trees, starts, groups, strict=True):
        _add_episodes(tree, [next(played) for _ in group])
        if start:
            player.dialogue.close(start)
    return trees


def _episodes(
    tree: TrajectoryTree, start: Position | None, player: Player, cfg: SamplingConfig
) -> list[Awaitable[Episode]]:
    """Coroutines that play a group's members; none if the environment cannot open the puzzle."""
    if start is None:
        return []
    episodes = []
    for member, own in player.split(range(cfg.max_trajectories)):
        is_independent = cfg.fork_noise == "independent" and member > 0
        noise = int(own.rng.integers(2**31)) if is_independent else None
        episodes.append(_play_episode(tree, start, own, noise))
    return episodes


async def _play_episode(
    tree: TrajectoryTree, position: Position, player: Player, noise: int | None
) -> Episode:
    """Play an episode from a start position that the group shares."""
    turns, start = list[Turn](), position
    while not turns or not (turns[-1].terminated or turns[-1].truncated):
        tree.num_cut_prompts += position.is_cut
        completion = await player.ask(position.prompt_ids)
        if completion.finish_reason == "failed":
            return turns, True
        in_place = bool(turns)  # only the start is shared
        turn, position = await player.play(position, completion, in_place=in_place, noise=noise)
        noise = None
        turns.append(turn)
    if position.env is not start.env:  # which a failed fork leaves there
        player.dialogue.close(position)
    return turns, False


def _add_episodes(tree: TrajectoryTree, episodes: Sequence[Episode]) -> None:
    """Add the turns to their tree layer by layer: first the first turn of every member."""
    nodes = [ROOT] * len(episodes)
    for layer in zip_longest(*(turns for turns, _ in episodes)):
        for member, turn in enumerate(layer):
            if turn is not None:
                nodes[member] = tree.add(nodes[member], turn)
    tree.num_calls += len(tree)
    tree.num_failed += sum(has_failed for _, has_failed in episodes)
