"""The rollout of one step: puzzles, trees, and which of them are learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..agents.engines.base import Engine
from ..configs.errors import SettingError
from ..configs.schema import Config, EngineConfig
from ..environments.splits import training_seeds
from ..sampling import SAMPLERS
from ..sampling.dialogue import Dialogue
from ..sampling.player import Phase, Player, untimed
from ..sampling.trajectory import Task, TrajectoryTree
from .advantages import has_signal, leaf_returns
from .distributed import own_rng, parallel_map
from .monitor import Symptom
from .setup import sampling_params


@dataclass(frozen=True)
class Rollout:
    """The trees of a step, one group each."""

    trees: list[TrajectoryTree]
    """All that were sampled."""
    played: list[TrajectoryTree]
    """Those that the environment could open."""
    returns: list[np.ndarray]
    """Of the leaves of each one that was played, shape (num_leaves,)."""
    chosen: list[int]
    """Places of those to learn from among `played`."""
    num_within: int
    """Trees within the budget, the first ones of `trees`; the others are not learned from."""

    @property
    def within(self) -> list[TrajectoryTree]:
        """The trees within the budget, whose calls and steps count."""
        return self.trees[: self.num_within]

    @property
    def left_out(self) -> list[TrajectoryTree]:
        """The trees beyond the budget."""
        return self.trees[self.num_within :]

    @property
    def taught(self) -> list[TrajectoryTree]:
        """The groups to learn from."""
        return [self.played[place] for place in self.chosen]

    @property
    def taught_returns(self) -> list[np.ndarray]:
        """Their returns."""
        return [self.returns[place] for place in self.chosen]


def rollout(cfg: Config, step: int, player: Player, max_calls: int | None = None) -> Rollout:
    """Sample the trees of one step.

    Args:
        cfg: the run's configuration.
        step: chooses the puzzles.
        player: of the policy that is to be trained, with the random numbers of this step.
        max_calls: policy calls that are left of the run's budget; None if it has none.

    Returns:
        The trees. Taught are all that were played, or with `sampling.max_redraws` at most the first
        `sampling.num_tasks` that have signal; none beyond the budget.

    Raises:
        SettingError: if the environment could not open a single puzzle.
    """
    sampling = cfg.sampling
    sample = SAMPLERS[sampling.name].sample
    # The puzzles of all rounds are reserved, sampled or not: a step's must not depend on how many
    # rounds the steps before it took, which a resumed run does not know.
    seeds = training_seeds(cfg.seed, step, sampling.num_tasks * (1 + sampling.max_redraws))
    trees: list[TrajectoryTree] = []
    with_signal: list[int] = []
    num_within = 0
    returns: list[np.ndarray] = []
    for start in range(0, len(seeds), sampling.num_tasks):
        sampled = parallel_map(
            lambda part: player.run(sample, _tasks(cfg, player, part), sampling),
            seeds[start : start + sampling.num_tasks],
            TrajectoryTree.to_json,
            TrajectoryTree.from_json,
        )
        trees += sampled
        returns += [leaf_returns(tree, cfg.loss.format_penalty) for tree in sampled if len(tree)]
        with_signal = [place for place, group in enumerate(returns) if has_signal(group)]
        num_within = count_within(trees, max_calls)
        if len(with_signal) >= sampling.num_tasks or num_within < len(trees):
            break
    played = played_trees(trees)
    chosen = with_signal[: sampling.num_tasks] if sampling.max_redraws else [*range(len(played))]
    num_played = sum(len(tree) > 0 for tree in trees[:num_within])
    chosen = [place for place in chosen if place < num_played]
    return Rollout(trees, played, returns, chosen, num_within)


def _tasks(cfg: Config, player: Player, seeds: Sequence[int]) -> list[Task]:
    """The training puzzles of some seeds."""
    return [Task(cfg.env.id, seed) for seed in player.dialogue.find_puzzles(seeds)]


def count_within(trees: Sequence[TrajectoryTree], max_calls: int | None) -> int:
    """Count the first trees that together take at most `max_calls` calls; all if it is None.

    They are sampled at once, and how many calls each takes shows only then. As if one after another
    had been sampled until the next was too large.
    """
    if max_calls is None:
        return len(trees)
    totals = accumulate(tree.num_calls for tree in trees)
    return sum(total <= max_calls for total in totals)


def step_player(
    cfg: Config, step: int, engine: Engine, dialogue: Dialogue, phase: Phase = untimed
) -> Player:
    """The player of one step, with this rank's random numbers."""
    params = sampling_params(cfg.engine, stop=dialogue.style.stop)
    return Player(engine, dialogue, params, own_rng(cfg.seed, step), phase)


def played_trees(trees: Sequence[TrajectoryTree]) -> list[TrajectoryTree]:
    """Leave out the puzzles that the environment could not open.

    Raises:
        SettingError: if it opened none of them.
    """
    played = [tree for tree in trees if len(tree)]
    if not played:
        task, error = trees[0].task, trees[0].error
        raise SettingError(
            f"env.id {task.env_id} opened none of {len(trees)} puzzles; seed {task.seed}: {error}. "
            "Fix it and continue with --resume: what was saved is whole."
        )
    return played


def first_error(trees: Sequence[TrajectoryTree]) -> Symptom | None:
    """Describe the first failure of the environment in some trees; None if there was none."""
    errors = ((tree.task, error) for tree in trees for error in tree.env_errors)
    task, error = next(errors, (None, ""))
    if task is None:
        return None
    text = (
        f"Warning: {task.env_id} failed on puzzle {task.seed}: {error}. Such trajectories end "
        "there, and rollout/env_errors counts them."
    )
    return Symptom("env_error", text)


def find_cut_prompts(trees: Sequence[TrajectoryTree], cfg: Config) -> Symptom | None:
    """Describe that prompts of some trees were too long; None if none was."""
    num_cut = sum(tree.num_cut_prompts for tree in trees)
    if not num_cut:
        return None
    return Symptom("cut_prompts", f"Warning: {describe_cut_prompts(num_cut, cfg.engine)}")


def describe_cut_prompts(num_cut: int, cfg: EngineConfig) -> str:
    """Say that prompts were too long, what they lack and what to set."""
    prompts = "1 prompt was" if num_cut == 1 else f"{num_cut} prompts were"
    return (
        f"{prompts} longer than engine.max_prompt_tokens={cfg.max_prompt_tokens}, or than the "
        "model's positions, and left out turns, the middle of the observation or earlier "
        "proposals. Raise it, or shorten the observations."
    )
