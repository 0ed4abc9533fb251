"""The rollout of one step: puzzles, trees, and which of them are learned from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np

from ..agents.engines.base import Engine
from ..configs.errors import SettingError
from ..configs.schema import Config, EngineConfig, SamplingConfig
from ..environments.splits import training_seeds
from ..sampling import SAMPLERS
from ..sampling.dialogue import Dialogue
from ..sampling.player import Phase, Player, untimed
from ..sampling.trajectory import Task, TrajectoryTree
from .advantages import has_signal
from .distributed import agreed, gather_lists, own_block, own_rng
from .monitor import Symptom
from .setup import sampling_params
from .tree_summary import TreeSummary, summarize


@dataclass(frozen=True)
class Rollout:
    """The trees of a step, one group each: some are on this rank, which knows all by summary."""

    summaries: list[TreeSummary]
    """Of all trees that were sampled."""
    trees: list[TrajectoryTree]
    """Those that this rank has sampled; in a single process all."""
    numbers: list[int]
    """(len(trees),) their places among all."""
    chosen: list[int]
    """Places among all trees of those to learn from."""
    num_within: int
    """Trees within the budget, the first ones; the others are not learned from."""

    @property
    def within(self) -> list[TreeSummary]:
        """The trees within the budget, whose calls and steps count."""
        return self.summaries[: self.num_within]

    @property
    def left_out(self) -> list[TreeSummary]:
        """The trees beyond the budget."""
        return self.summaries[self.num_within :]

    @property
    def played(self) -> list[TrajectoryTree]:
        """This rank's trees that the environment could open."""
        return [tree for tree in self.trees if len(tree)]

    @property
    def taught(self) -> list[TrajectoryTree]:
        """This rank's groups to learn from."""
        chosen = set(self.chosen)
        pairs = zip(self.numbers, self.trees, strict=True)
        return [tree for number, tree in pairs if number in chosen]

    @property
    def taught_returns(self) -> list[np.ndarray]:
        """Their returns, shape (num_leaves,) each."""
        chosen = sorted({*self.chosen} & {*self.numbers})
        return [np.array(self.summaries[number].returns) for number in chosen]


def rollout(
    cfg: Config,
    step: int,
    player: Player,
    max_calls: int | None = None,
    drawn: Callable[[], list[TrajectoryTree]] | None = None,
) -> Rollout:
    """Sample the trees of one step.

    Args:
        cfg: the run's configuration.
        step: chooses the puzzles.
        player: of the policy that is to be trained, with the random numbers of this step.
        max_calls: policy calls that are left of the run's budget; None if it has none.
        drawn: gives this rank's trees, if `draw_round` has sampled them already.

    Returns:
        The trees. Taught are all that were played, or with `sampling.max_redraws` at most the first
        `sampling.num_tasks` that have signal; none beyond the budget, and none at all if less than
        half of the trees are within it, but for the first step.

    Raises:
        SettingError: if the environment could not open a single puzzle.
    """
    sampling = cfg.sampling
    trees: list[TrajectoryTree] = []
    numbers: list[int] = []
    summaries: list[TreeSummary] = []
    with_signal: list[int] = []
    num_within = 0
    for round_number in range(1 + sampling.max_redraws):
        sampled = agreed(drawn or partial(draw_round, cfg, step, player, round_number))
        trees, numbers = trees + sampled, numbers + _own_numbers(sampling, round_number)
        penalty, longest = cfg.loss.format_penalty, cfg.engine.max_new_tokens
        found = [summarize(tree, penalty, longest) for tree in sampled]
        summaries += gather_lists(found, TreeSummary.to_json, TreeSummary.from_json)
        played = [number for number, tree in enumerate(summaries) if len(tree)]
        with_signal = [n for n in played if has_signal(np.array(summaries[n].returns))]
        num_within = count_within(summaries, max_calls)
        if len(with_signal) >= sampling.num_tasks or num_within < len(summaries):
            break
    chosen = check_played(summaries)
    if sampling.max_redraws:
        chosen = with_signal[: sampling.num_tasks]
    chosen = [number for number in chosen if number < num_within]
    if step and 2 * num_within < len(summaries):
        chosen = []  # a few groups alone would move the weights as far as a whole step
    return Rollout(summaries, trees, numbers, chosen, num_within)


def draw_round(cfg: Config, step: int, player: Player, number: int = 0) -> list[TrajectoryTree]:
    """Sample this rank's trees of a round of a step; exchanges nothing with other ranks."""
    sampling = cfg.sampling
    # The puzzles of all rounds are reserved, sampled or not: a step's must not depend on how many
    # rounds the steps before it took, which a resumed run does not know.
    seeds = training_seeds(cfg.seed, step, sampling.num_tasks * (1 + sampling.max_redraws))
    own = player.dialogue.find_puzzles([seeds[place] for place in _own_numbers(sampling, number)])
    tasks = [Task(cfg.env.id, seed) for seed in own]
    return player.run(SAMPLERS[sampling.name].sample, tasks, sampling)


def _own_numbers(sampling: SamplingConfig, number: int) -> list[int]:
    """This rank's places among the puzzles of all rounds, in a round."""
    return [number * sampling.num_tasks + place for place in own_block(sampling.num_tasks)]


def count_within(trees: Sequence[TreeSummary], max_calls: int | None) -> int:
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


def check_played(trees: Sequence[TreeSummary]) -> list[int]:
    """Return the places of the puzzles that the environment could open.

    Raises:
        SettingError: if it opened none of them.
    """
    played = [number for number, tree in enumerate(trees) if len(tree)]
    if not played:
        task, error = trees[0].task, trees[0].error
        raise SettingError(
            f"env.id {task.env_id} opened none of {len(trees)} puzzles; seed {task.seed}: {error}. "
            "Fix it and continue with --resume: what was saved is whole."
        )
    return played


def first_error(trees: Sequence[TreeSummary]) -> Symptom | None:
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


def find_cut_prompts(trees: Sequence[TreeSummary], cfg: Config) -> Symptom | None:
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
