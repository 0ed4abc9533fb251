"""A process that dies while it saves leaves a checkpoint that can be resumed."""

import pytest

from ..helpers.runs import REPOSITORY, run_python


def killed(*words) -> list[int]:
    """Run `tests.helpers.killed_saves`; returns the numbers that it printed."""
    done = run_python("-m", "tests.helpers.killed_saves", *words, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """Processes that save without pause are killed, each 7 ms later in its life than the last."""
    steps = killed("at_any_moment", tmp_path)
    assert len(steps) == 8
    assert steps == sorted(steps)
    assert steps[-1] > 0


@pytest.mark.parametrize("keep", [1, 2])
def test_a_kill_at_any_file_operation_leaves_a_run_to_resume(tmp_path, keep):
    """A process dies at its k-th open, mkdir, rename or removal in the run folder, for every k.

    What it leaves is resumed with its optimizer, so bit for bit, and no older one is damaged.
    """
    (num_operations,) = killed("at_any_operation", tmp_path, keep)
    assert num_operations > 25
