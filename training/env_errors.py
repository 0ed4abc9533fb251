"""What a run does about an environment that fails: it goes on, unless nothing can be played."""

from collections.abc import Sequence

from ..configs.errors import SettingError
from ..sampling.trajectory import TrajectoryTree
from .monitor import Symptom


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
            "Mend it and go on with --resume: what was saved is whole."
        )
    return played


def first_error(trees: Sequence[TrajectoryTree]) -> Symptom | None:
    """Tell of the first failure of the environment in some trees; None if there was none."""
    errors = ((tree.task, error) for tree in trees for error in tree.env_errors)
    task, error = next(errors, (None, ""))
    if task is None:
        return None
    text = (
        f"Warning: {task.env_id} failed on puzzle {task.seed}: {error}. Such trajectories end "
        "there, and rollout/env_errors counts them."
    )
    return Symptom("env_error", text)
