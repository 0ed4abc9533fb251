"""Checkpoints that survive a kill at any moment, without pickle.

    <run>/checkpoints/step-000010/model/                 written by `save_model`
                                  optimizer.safetensors  optimiser and torch's random state
                                  optimizer/             instead, if several processes hold it
                                  state.json             everything else: step, counters
                                  replay.json            trajectories to replay, if any are kept
                                  SHA256SUMS             of all files, for `sha256sum -c`

Under torchrun each process writes what it holds (`agents/sharded_files.py`), and any number of
processes reads it, as it reads the files of a single one.

A checkpoint is written to a hidden folder, flushed to disk and renamed, so no kill leaves half of
one under its final name. For the same reason old ones are renamed to a hidden name before they are
deleted.

Only the newest checkpoint keeps the optimiser, most of its size. Once a newer one is complete, the
older ones lose its line in SHA256SUMS, in one rename, and then the file: they are whole at every
moment, without an optimiser. A run that is resumed from such a one, because the newest is damaged
or `optim.save_optimizer` is off, starts the moments of Adam from zero and says so.

What is damaged later shows when a checkpoint is read (`damage.py`). Loading runs no code from the
files.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..agents.sharded_files import writer_of
from ..configs.errors import SettingError
from ..configs.writing import drafted, writing
from .checkpoint_files import (
    MODEL_FOLDER,
    OPTIMIZER_FILE,
    OPTIMIZER_FOLDER,
    PARTS,
    REPLAY_FILE,
    STATE_FILE,
    SUMS_FILE,
    file_digest,
    flush_entry,
    has_optimizer,
    is_of_optimizer,
    read_sums,
    step_of,
    sums_text,
)
from .damage import find_damage, put_aside
from .distributed import agreed, all_gather, broadcast, is_rank_zero, rank
from .optimizer_files import save_optimizer

NO_OPTIMIZER = (
    "{path} holds no state of the optimizer: its moments start from zero, so the run is not bit "
    "for bit the one that was not stopped."
)
"""What is said when a run is resumed from such a checkpoint."""

Result = TypeVar("Result")
log = logging.getLogger(__name__)


def save_checkpoint(
    folder: Path,
    *,
    save_model: Callable[[Path], None],
    optimizer: torch.optim.Optimizer | None,
    state: dict[str, Any],
    keep: int,
    replay: dict[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of `state["step"]`, then delete what the older ones need no longer.

    These are the optimiser of all older ones, and all of those that are not among the newest.

    An existing checkpoint of this step is kept, since runs are deterministic. Under torchrun all
    ranks must call this together.

    Args:
        folder: the run folder.
        save_model: writes the model into a given folder; under torchrun all ranks call it.
        optimizer: its state is stored together with torch's CPU random state; None to leave both
            out.
        state: the fields of `Progress`; `step` names the checkpoint.
        keep: number of checkpoints to keep, at least 1.
        replay: `ReplayBuffer.to_json()`; None to leave it out.

    Returns:
        The checkpoint's folder.

    Raises:
        DiskError: on all ranks, if the disk of one refuses; older checkpoints are whole.
    """
    parent = folder / "checkpoints"
    target = parent / f"step-{state['step']:06d}"

    def together(work: Callable[[], Result]) -> Result:
        """Do work on all ranks; what the disk of one refuses is an error of all."""

        def written() -> Result:
            with writing(parent):
                return work()

        return agreed(written)

    if broadcast(together(lambda: is_rank_zero() and _make_room(target))):
        draft = _hidden(target)
        try:
            together(lambda: save_model(draft / MODEL_FOLDER))
            if optimizer is not None:
                together(lambda: save_optimizer(draft, optimizer))
            parts = all_gather(together(lambda: _flush(draft)))
            digests = {name: digest for part in parts for name, digest in part.items()}
            together(lambda: is_rank_zero() and _complete(target, state, replay, digests))
        except BaseException:
            if is_rank_zero():  # it may be what fills the disk
                shutil.rmtree(draft, ignore_errors=True)
            raise
    together(lambda: is_rank_zero() and _drop_older(folder, state["step"], keep))
    return target


def _make_room(target: Path) -> bool:
    """Make the hidden folder of a checkpoint, unless a whole one is there; returns whether."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _delete_hidden(target.parent)
    if target.exists() and find_damage(target, PARTS):
        put_aside(target)
    if target.exists():
        return False
    (_hidden(target) / MODEL_FOLDER).mkdir(parents=True)
    return True


def _complete(
    target: Path, state: dict[str, Any], replay: dict[str, Any] | None, digests: dict[str, str]
) -> None:
    """Write what is not split, and the checksums; then give the checkpoint its name."""
    draft = _hidden(target)
    (draft / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    if replay is not None:
        (draft / REPLAY_FILE).write_text(json.dumps(replay), encoding="utf-8")
    for path in (draft / STATE_FILE, draft / REPLAY_FILE):
        if path.exists():
            flush_entry(path)
            digests[path.name] = file_digest(path)
    text = sums_text(dict(sorted(digests.items())))
    (draft / SUMS_FILE).write_text(text, encoding="utf-8")
    for path in (draft / SUMS_FILE, *(path for path in draft.rglob("*") if path.is_dir()), draft):
        flush_entry(path)
    draft.rename(target)
    flush_entry(target.parent)


def _drop_older(folder: Path, step: int, keep: int) -> None:
    """Delete what older checkpoints need no longer."""
    complete = [path for path in checkpoints(folder) if _is_complete(path)]
    until_now = [path for path in complete if step_of(path) <= step]
    for old in until_now[:-keep]:
        old.rename(_hidden(old))
    _delete_hidden(folder / "checkpoints")
    for old in until_now[-keep:-1]:
        _drop_optimizer(old)


def tidy_checkpoints(folder: Path, keep_weights: bool) -> None:
    """Delete what a run that will not be trained further needs no longer.

    Args:
        folder: the run folder.
        keep_weights: keep the newest whole checkpoint without its optimizer; otherwise none.
    """
    newest = latest_checkpoint(folder) if keep_weights else None
    for checkpoint in checkpoints(folder):
        if checkpoint != newest:
            checkpoint.rename(_hidden(checkpoint))
    _delete_hidden(folder / "checkpoints")
    if newest is not None:
        _drop_optimizer(newest)


def latest_checkpoint(folder: Path, repair: bool = False) -> Path | None:
    """Return the newest whole checkpoint of a run folder; None if there is no checkpoint.

    Every newer one that is damaged is told in a line.

    Args:
        folder: the run folder.
        repair: whether the run is to be trained on: the optimiser, if it was not left out, must
            then be whole too, and damaged checkpoints are put aside. Otherwise nothing is changed.

    Raises:
        SettingError: if there are checkpoints, but none is whole; nothing is changed then.
    """
    damaged: dict[Path, str] = {}
    for checkpoint in reversed(checkpoints(folder)):
        damage = find_damage(checkpoint, PARTS if repair else (MODEL_FOLDER, STATE_FILE))
        if not damage:
            for path, reason in damaged.items():
                where = f"put aside as {put_aside(path).name}" if repair else "left out"
                log.warning(
                    f"{path} is damaged ({reason}) and was {where}; {checkpoint.name} is used."
                )
            if repair and not has_optimizer(checkpoint):
                log.warning(NO_OPTIMIZER.format(path=checkpoint))
            return checkpoint
        if checkpoint.exists():  # not deleted meanwhile by the run
            damaged[checkpoint] = damage
    if damaged:
        path, reason = next(iter(damaged.items()))
        raise SettingError(
            f"{folder} has no whole checkpoint: {path.name} is damaged ({reason})"
            f"{', and so are the older ones' if len(damaged) > 1 else ''}. Copy it here again, or "
            f"move {path.parent} away to begin at step 0."
        )
    return None


def checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoints of a run folder, the oldest first, whether whole or damaged."""
    found = (folder / "checkpoints").glob("step-*")
    return sorted((path for path in found if re.fullmatch(r"step-\d+", path.name)), key=step_of)


def _drop_optimizer(checkpoint: Path) -> None:
    """Delete the optimiser of a checkpoint with checksums; a kill before the end leaves its files.

    An unlisted file is no part of the checkpoint, and the next call deletes it.
    """
    sums = checkpoint / SUMS_FILE
    if not sums.is_file():  # then nothing would tell that the optimiser was left out
        return
    listed = read_sums(sums)
    kept = {name: digest for name, digest in listed.items() if not is_of_optimizer(name)}
    if kept != listed:
        with drafted(sums) as draft:
            draft.write_text(sums_text(kept), encoding="utf-8")
            flush_entry(draft)
        flush_entry(checkpoint)
    (checkpoint / OPTIMIZER_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint / OPTIMIZER_FOLDER, ignore_errors=True)


def _is_complete(checkpoint: Path) -> bool:
    return all((checkpoint / name).exists() for name in (MODEL_FOLDER, STATE_FILE))


def _hidden(checkpoint: Path) -> Path:
    return checkpoint.with_name(f".{checkpoint.name}.tmp")


def _delete_hidden(parent: Path) -> None:
    for path in parent.glob(".step-*.tmp"):
        shutil.rmtree(path)


def _flush(folder: Path) -> dict[str, str]:
    """Flush the files that this rank wrote to disk; returns their checksums by name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if writer_of(path) == rank()]
    with ThreadPoolExecutor() as pool:  # hashing leaves other threads the interpreter
        digests = pool.map(file_digest, files)
        for path in files:
            flush_entry(path)
    names = (path.relative_to(folder).as_posix() for path in files)
    return dict(zip(names, digests, strict=True))
