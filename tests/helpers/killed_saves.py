"""Processes that die while they save, for `test_kills.py`.

`python -m tests.helpers.killed_saves at_any_moment FOLDER` kills them from outside, and
`... at_any_operation FOLDER KEEP` at every file operation of a save in turn.
"""

import itertools
import os
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from sesa_agent.training.checkpoint import checkpoints, latest_checkpoint, save_checkpoint
from sesa_agent.training.checkpoint_files import PARTS, has_optimizer, read_state
from sesa_agent.training.damage import find_damage
from sesa_agent.training.optimizer_files import load_optimizer
from sesa_agent.training.progress import Progress


class Saver:
    """A parameter with its optimizer, and what saves both."""

    def __init__(self, size: int) -> None:
        self.parameter = torch.nn.Parameter(torch.ones(size))
        self.parameter.grad = torch.ones(size)
        self.optimizer = torch.optim.AdamW([self.parameter])
        self.optimizer.step()

    def save(self, folder: Path, step: int, keep: int) -> None:
        state = vars(Progress(step=step))
        save_checkpoint(
            folder, save_model=self._save_model, optimizer=self.optimizer, state=state, keep=keep
        )

    def _save_model(self, path: Path) -> None:
        (path / "config.json").write_text("{}")
        save_file({"w": self.parameter.detach()}, path / "model.safetensors")


def at_any_moment(folder: Path) -> None:
    """Kill processes that save without pause; print the step that each began with."""

    def names() -> list[str]:
        entries = (folder / "checkpoints").iterdir()
        return [entry.name for entry in entries if entry.name.startswith("step-")]

    saver = Saver(20_000)
    saver.save(folder, 0, keep=1)
    for attempt in range(8):
        step = read_state(newest(folder))["step"]
        print(step)
        sys.stdout.flush()  # or each child would print it again
        child = os.fork()
        if child == 0:
            for later in itertools.count(step + 1):
                saver.optimizer.step()
                saver.save(folder, later, keep=1)
        while max(names(), default="") <= f"step-{step:06d}":  # until it has saved once
            time.sleep(0.002)
        time.sleep(0.007 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        load_optimizer(newest(folder), saver.optimizer)


def at_any_operation(root: Path, keep: str) -> None:
    """Save in a process that dies at its k-th file operation, for every k; print their number."""
    saver, num_kept = Saver(9), int(keep)
    for k in itertools.count(1):
        folder = root / str(k)
        for step in (1, 2):
            saver.save(folder, step, num_kept)
        child = os.fork()
        if child == 0:
            die_at(root, k)
            saver.save(folder, 3, num_kept)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = newest(folder)
        assert found.name in ("step-000002", "step-000003"), found
        assert has_optimizer(found)
        assert not any(find_damage(path, PARTS) for path in checkpoints(folder))
        saver.save(folder, 3, num_kept)  # the run, resumed, goes on to save
        left = sorted(path.name for path in (folder / "checkpoints").iterdir())
        assert left == ["step-000002", "step-000003"][-num_kept:]
        assert not any(find_damage(path, PARTS) for path in checkpoints(folder))
        states = (folder / "checkpoints").glob("*/optimizer.safetensors")
        assert [path.parent.name for path in states] == ["step-000003"]
        if code == 0:
            print(k)
            return


def newest(folder: Path) -> Path:
    """The newest whole checkpoint; damaged ones are moved away."""
    found = latest_checkpoint(folder, repair=True)
    assert found is not None
    return found


def die_at(root: Path, k: int) -> None:
    """Let this process die at its k-th open, mkdir, rename or removal below `root`."""
    left = k

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event.startswith(("open", "os.", "shutil.")) and str(root) in str(arguments):
            left -= 1
            if not left:
                os._exit(9)

    sys.addaudithook(count)


if __name__ == "__main__":
    torch.set_num_threads(1)  # a forked child has no pool of threads to wait for
    how, place, *words = sys.argv[1:]
    {"at_any_moment": at_any_moment, "at_any_operation": at_any_operation}[how](Path(place), *words)
