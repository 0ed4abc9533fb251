"""Checkpoints that survive a kill at any moment, without pickle.

    <run>/checkpoints/step-000010/model/                 written by `save_model`
                                  optimizer.safetensors  optimiser and torch's random state
                                  state.json             everything else: step, counters

A checkpoint is written to a hidden folder, flushed to disk and renamed, so a folder with its final
name is complete. For the same reason old ones are renamed to a hidden name before they are deleted.
Loading runs no code from the files.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
RNG_KEY = "rng_state"


def save_checkpoint(
    folder: Path,
    *,
    save_model: Callable[[Path], None],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint of `state["step"]`, then delete all but the newest ones.

    An existing checkpoint of this step is kept, since runs are deterministic.

    Args:
        folder: the run folder.
        save_model: writes the model into a given folder.
        optimizer: its state is stored together with torch's CPU random state.
        state: ready for JSON; `step` names the checkpoint.
        keep: number of checkpoints to keep, at least 1.

    Returns:
        The checkpoint's folder.
    """
    parent = folder / "checkpoints"
    parent.mkdir(parents=True, exist_ok=True)
    target = parent / f"step-{state['step']:06d}"
    _delete_hidden(parent)
    if not _is_whole(target):
        draft = _hidden(target)
        try:
            (draft / "model").mkdir(parents=True)
            save_model(draft / "model")
            _save_optimizer(draft, optimizer)
            (draft / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
            _flush(draft)
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)  # it may be what fills the disk
            raise
        _flush_entry(parent)
    for old in _checkpoints(parent)[:-keep]:
        old.rename(_hidden(old))
    _delete_hidden(parent)
    return target


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint of a run folder, or None."""
    checkpoints = _checkpoints(folder / "checkpoints")
    return checkpoints[-1] if checkpoints else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the `state` that was saved with a checkpoint."""
    return json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Restore an optimiser and torch's CPU random state, bit for bit.

    Args:
        folder: the checkpoint's folder.
        optimizer: a fresh one with the same parameters in the same order.

    Raises:
        ValueError: if the optimiser has different parameter groups.
    """
    with safe_open(folder / OPTIMIZER_FILE, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    torch.set_rng_state(tensors.pop(RNG_KEY))
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **json.loads(metadata["scalars"])}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = [
        {key: tuple(v) if key == "betas" else v for key, v in group.items()}
        for group in json.loads(metadata["param_groups"])
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Save tensors as "<parameter index>.<name>"; numbers and hyperparameters as JSON metadata."""
    content = optimizer.state_dict()
    entries = {
        f"{index}.{name}": value
        for index, values in content["state"].items()
        for name, value in values.items()
    }
    tensors = {key: v.contiguous() for key, v in entries.items() if isinstance(v, torch.Tensor)}
    scalars = {key: v for key, v in entries.items() if not isinstance(v, torch.Tensor)}
    tensors[RNG_KEY] = torch.get_rng_state()
    metadata = {"param_groups": content["param_groups"], "scalars": scalars}
    save_file(
        tensors,
        folder / OPTIMIZER_FILE,
        metadata={key: json.dumps(value) for key, value in metadata.items()},
    )


def _checkpoints(parent: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    steps = {
        int(match[1]): path
        for path in parent.glob("step-*")
        if (match := re.fullmatch(r"step-(\d+)", path.name)) and _is_whole(path)
    }
    return [steps[step] for step in sorted(steps)]


def _is_whole(checkpoint: Path) -> bool:
    names = ("model", OPTIMIZER_FILE, STATE_FILE)
    return all((checkpoint / name).exists() for name in names)


def _hidden(checkpoint: Path) -> Path:
    return checkpoint.with_name(f".{checkpoint.name}.tmp")


def _delete_hidden(parent: Path) -> None:
    for path in parent.glob(".step-*.tmp"):
        shutil.rmtree(path)


def _flush(folder: Path) -> None:
    """Flush a folder and everything in it to disk."""
    for path in [folder, *folder.rglob("*")]:
        _flush_entry(path)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
