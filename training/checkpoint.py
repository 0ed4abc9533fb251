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

What a disk, a copy or an editor damaged later shows when a checkpoint is read: by its checksums, or
in checkpoints without them by what the files hold. Loading runs no code from the files.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..agents.finite import all_finite
from ..agents.lora import is_adapter
from ..agents.sharded_files import has_shards, read_shards, shapes_in, write_shards, writer_of
from ..configs.errors import SettingError, first_line
from ..configs.json_text import read_json, read_json_file
from ..configs.writing import drafted, writing
from .distributed import (
    agreed,
    all_gather,
    barrier,
    broadcast,
    is_rank_zero,
    rank,
    weights_mesh,
)
from .progress import Progress

MODEL_FOLDER = "model"
OPTIMIZER_FILE = "optimizer.safetensors"
OPTIMIZER_FOLDER = "optimizer"
STATE_FILE = "state.json"
REPLAY_FILE = "replay.json"
SUMS_FILE = "SHA256SUMS"
PARTS = (MODEL_FOLDER, OPTIMIZER_FILE, OPTIMIZER_FOLDER, STATE_FILE, REPLAY_FILE)
"""What a checkpoint is made of."""
OPTIONAL = (OPTIMIZER_FILE, OPTIMIZER_FOLDER, REPLAY_FILE)
"""Of these, what may be left out."""
RNG_KEY = "rng_state"
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
                together(lambda: _save_optimizer(draft, optimizer))
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
            _flush_entry(path)
            digests[path.name] = _digest(path)
    text = _sums_text(dict(sorted(digests.items())))
    (draft / SUMS_FILE).write_text(text, encoding="utf-8")
    for path in (draft / SUMS_FILE, *(path for path in draft.rglob("*") if path.is_dir()), draft):
        _flush_entry(path)
    draft.rename(target)
    _flush_entry(target.parent)


def _drop_older(folder: Path, step: int, keep: int) -> None:
    """Delete what older checkpoints need no longer."""
    complete = [path for path in checkpoints(folder) if _is_complete(path)]
    until_now = [path for path in complete if _step(path) <= step]
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
    return sorted((path for path in found if re.fullmatch(r"step-\d+", path.name)), key=_step)


def has_optimizer(checkpoint: Path) -> bool:
    """Whether a whole checkpoint holds the state of the optimiser."""
    sums = checkpoint / SUMS_FILE
    return any(map(_is_of_optimizer, _read_sums(sums))) if sums.exists() else True


def find_damage(checkpoint: Path, parts: tuple[str, ...]) -> str:
    """Say what is wrong with some parts of a checkpoint; empty if they are whole.

    An optimiser that was left out is no damage.

    Raises:
        PermissionError: if a file may not be read, which says nothing about it.
    """
    try:
        _check_state(checkpoint)
        if (checkpoint / SUMS_FILE).exists() or has_shards(checkpoint / MODEL_FOLDER):
            _check_sums(checkpoint, parts)
        else:
            _check_content(checkpoint, parts)
    except PermissionError:
        raise
    except OSError as error:
        return f"{Path(error.filename or '').name}: {error.strerror}"
    except ValueError as error:
        return first_line(error)
    return ""


def put_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that it is no checkpoint any more; returns its new place."""
    target, number = checkpoint.with_name(f"{checkpoint.name}.damaged"), 1
    while target.exists():
        number += 1
        target = checkpoint.with_name(f"{checkpoint.name}.damaged-{number}")
    return checkpoint.rename(target)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the `state` that was saved with a checkpoint."""
    return read_json_file(checkpoint / STATE_FILE)


def read_replay(checkpoint: Path) -> dict[str, Any]:
    """Return the `replay` that was saved with a checkpoint; an empty buffer if none was."""
    path = checkpoint / REPLAY_FILE
    return read_json_file(path) if path.exists() else {"replays": [], "means": []}


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Restore an optimiser and torch's CPU random state, bit for bit.

    Args:
        folder: the checkpoint's folder.
        optimizer: a fresh one with the same parameters in the same order. Of those that are split
            over processes, each one reads its own part.

    Raises:
        SettingError: if the files are damaged, or do not fit the optimiser's parameters.
    """
    is_split = (folder / OPTIMIZER_FOLDER).is_dir()
    try:
        if is_split or weights_mesh() is not None:
            values, random_state, groups = _read_split_optimizer(folder, optimizer)
        else:
            values, random_state, groups = _read_optimizer(folder / OPTIMIZER_FILE)
        state: dict[int, dict[str, Any]] = {}
        for key, value in values.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        _check_shapes(state, optimizer)
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(random_state)
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        place = folder / (OPTIMIZER_FOLDER if is_split else OPTIMIZER_FILE)
        raise SettingError(
            f"{place} does not fit the model: {first_line(error)}. Move {folder} away to resume "
            "from the checkpoint before it."
        ) from error


def _read_split_optimizer(
    folder: Path, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], Tensor, list[dict[str, Any]]]:
    """`_read_optimizer` of files that processes wrote together, or into split parameters.

    Raises:
        ValueError: if a part is missing or does not fit.
    """
    place = folder / OPTIMIZER_FOLDER
    if place.is_dir():
        metadata = read_json_file(place / STATE_FILE)
        random_state = torch.tensor(list(bytes.fromhex(metadata[RNG_KEY])), dtype=torch.uint8)
        groups = _with_betas(metadata["param_groups"])
    else:
        place = folder  # optimizer.safetensors is the only file of tensors in it
        with _opened(folder / OPTIMIZER_FILE) as file:
            stored = file.metadata() or {}
            random_state = file.get_tensor(RNG_KEY)
        metadata = {key: read_json(stored[key]) for key in ("scalars", "param_groups")}
        groups = _with_betas(metadata["param_groups"])
    weights = _parameters(optimizer)
    tensors: dict[str, Tensor] = {}
    for key, shape in shapes_in(place).items():
        if key != RNG_KEY:
            weight = weights[int(key.split(".", 1)[0])]
            is_like = shape == weight.shape
            tensors[key] = torch.zeros_like(weight) if is_like else torch.zeros(shape)
    read_shards(place, tensors)
    return {**tensors, **metadata["scalars"]}, random_state, groups


def _with_betas(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups that were read from JSON, which knows no tuples."""
    return [{key: tuple(v) if key == "betas" else v for key, v in one.items()} for one in groups]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _read_optimizer(path: Path) -> tuple[dict[str, Any], Tensor, list[dict[str, Any]]]:
    """Read an optimiser's values by name, torch's random state, and the parameter groups.

    Raises:
        ValueError: if one of them is missing.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    try:
        scalars, groups = (read_json(metadata[key]) for key in ("scalars", "param_groups"))
        random_state = tensors.pop(RNG_KEY)
        return {**tensors, **scalars}, random_state, _with_betas(groups)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} lacks a part: {first_line(error)}") from error


def _check_shapes(state: dict[int, dict[str, Any]], optimizer: torch.optim.Optimizer) -> None:
    """Check tensors against the parameters: torch's fused kernels would read past their end.

    Raises:
        ValueError: naming a tensor of another shape.
    """
    weights = _parameters(optimizer)
    for index, values in state.items():
        if not 0 <= index < len(weights):
            raise ValueError(f"it has a parameter {index} of {len(weights)}")
        for name, value in values.items():
            shape = getattr(value, "shape", ())
            if len(shape) and shape != weights[index].shape:
                raise ValueError(
                    f"{index}.{name} has shape {list(shape)}, not {list(weights[index].shape)}"
                )


def _save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Save tensors as "<parameter index>.<name>"; numbers and hyperparameters as JSON."""
    content = optimizer.state_dict()
    entries = {
        f"{index}.{name}": value
        for index, values in content["state"].items()
        for name, value in values.items()
    }
    tensors = {key: v.contiguous() for key, v in entries.items() if isinstance(v, torch.Tensor)}
    scalars = {key: v for key, v in entries.items() if not isinstance(v, torch.Tensor)}
    metadata = {"param_groups": content["param_groups"], "scalars": scalars}
    if weights_mesh() is not None:
        _save_split_optimizer(folder / OPTIMIZER_FOLDER, tensors, metadata)
        return
    tensors[RNG_KEY] = torch.get_rng_state()
    save_file(
        tensors,
        folder / OPTIMIZER_FILE,
        metadata={key: json.dumps(value) for key, value in metadata.items()},
    )


def _save_split_optimizer(
    folder: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]
) -> None:
    """Save an optimiser from all ranks, each its own parts."""
    steps = {key: float(value) for key, value in tensors.items() if not value.ndim}
    metadata["scalars"] |= steps  # the number of steps, a tensor only for fused kernels
    if is_rank_zero():
        folder.mkdir()
        random_state = torch.get_rng_state().numpy().tobytes().hex()
        text = json.dumps({**metadata, RNG_KEY: random_state})
        (folder / STATE_FILE).write_text(text, encoding="utf-8")
    barrier()
    write_shards(folder, {key: value for key, value in tensors.items() if key not in steps})


def _check_state(checkpoint: Path) -> None:
    """Check that the state is the progress of this step.

    Raises:
        ValueError: saying what is wrong.
        OSError: if the file is missing.
    """
    try:
        step = Progress.from_json(read_state(checkpoint)).step
    except ValueError as error:
        raise ValueError(f"{STATE_FILE}: {first_line(error)}") from error
    if step != _step(checkpoint):
        raise ValueError(f"{STATE_FILE} is that of step {step}")


def _check_sums(checkpoint: Path, parts: tuple[str, ...]) -> None:
    """Compare the files of some parts with their checksums.

    Raises:
        ValueError: naming a file that differs.
        OSError: if one is missing.
    """
    sums = _read_sums(checkpoint / SUMS_FILE)
    for name in sums:
        if name.split("/")[0] not in PARTS:
            raise ValueError(f"{SUMS_FILE} has a wrong line")
    for part in parts:
        names = [name for name in sums if name.split("/")[0] == part]
        if not names and part not in OPTIONAL:
            raise ValueError(f"{SUMS_FILE} lacks {part}")
        for name in names:
            if _digest(checkpoint / name) != sums[name]:
                raise ValueError(f"{name} does not match its checksum")


def _read_sums(path: Path) -> dict[str, str]:
    """The digests of a checkpoint's files, by their names relative to it."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in pairs}


def _drop_optimizer(checkpoint: Path) -> None:
    """Delete the optimiser of a checkpoint with checksums; a kill before the end leaves its files.

    An unlisted file is no part of the checkpoint, and the next call deletes it.
    """
    sums = checkpoint / SUMS_FILE
    if not sums.is_file():  # then nothing would tell that the optimiser was left out
        return
    listed = _read_sums(sums)
    kept = {name: digest for name, digest in listed.items() if not _is_of_optimizer(name)}
    if kept != listed:
        with drafted(sums) as draft:
            draft.write_text(_sums_text(kept), encoding="utf-8")
            _flush_entry(draft)
        _flush_entry(checkpoint)
    (checkpoint / OPTIMIZER_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint / OPTIMIZER_FOLDER, ignore_errors=True)


def _is_of_optimizer(name: str) -> bool:
    """Whether a file is part of the optimiser, by its name relative to the checkpoint."""
    return name.split("/")[0] in (OPTIMIZER_FILE, OPTIMIZER_FOLDER)


def _sums_text(digests: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def _check_content(checkpoint: Path, parts: tuple[str, ...]) -> None:
    """Check that the tensors of some parts are there, readable and finite.

    For checkpoints without checksums. Whether they fit the model shows when they are loaded.

    Raises:
        ValueError: saying what is wrong.
        OSError: if a file is missing.
    """
    model = checkpoint / MODEL_FOLDER
    files = sorted(model.glob("*.safetensors"))
    if not files or not ((model / "config.json").is_file() or is_adapter(str(model))):
        raise ValueError(f"{MODEL_FOLDER} lacks its weights or its config.json")
    if OPTIMIZER_FILE in parts:
        _read_optimizer(checkpoint / OPTIMIZER_FILE)
        files.append(checkpoint / OPTIMIZER_FILE)
    for path in files:
        with _opened(path) as file:
            if not all(all_finite([file.get_tensor(key)]) for key in file.keys()):
                raise ValueError(f"{path.name} holds numbers that are not finite")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of tensors; one that cannot be read is a ValueError with its name."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {first_line(error)}") from error


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


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
        digests = pool.map(_digest, files)
        for path in files:
            _flush_entry(path)
    names = (path.relative_to(folder).as_posix() for path in files)
    return dict(zip(names, digests, strict=True))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
