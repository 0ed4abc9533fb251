"""What a disk, a copy or an editor has damaged in a checkpoint.

It shows by the checksums, or in checkpoints without them by what the files hold.
"""

from pathlib import Path

from ..agents.finite import all_finite
from ..agents.lora import is_adapter
from ..agents.sharded_files import has_shards
from ..configs.errors import first_line
from .checkpoint_files import (
    MODEL_FOLDER,
    OPTIMIZER_FILE,
    OPTIONAL,
    PARTS,
    STATE_FILE,
    SUMS_FILE,
    file_digest,
    read_state,
    read_sums,
    step_of,
)
from .optimizer_files import opened, read_optimizer
from .progress import Progress


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
    if step != step_of(checkpoint):
        raise ValueError(f"{STATE_FILE} is that of step {step}")


def _check_sums(checkpoint: Path, parts: tuple[str, ...]) -> None:
    """Compare the files of some parts with their checksums.

    Raises:
        ValueError: naming a file that differs.
        OSError: if one is missing.
    """
    sums = read_sums(checkpoint / SUMS_FILE)
    for name in sums:
        if name.split("/")[0] not in PARTS:
            raise ValueError(f"{SUMS_FILE} has a wrong line")
    for part in parts:
        names = [name for name in sums if name.split("/")[0] == part]
        if not names and part not in OPTIONAL:
            raise ValueError(f"{SUMS_FILE} lacks {part}")
        for name in names:
            if file_digest(checkpoint / name) != sums[name]:
                raise ValueError(f"{name} does not match its checksum")


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
        read_optimizer(checkpoint / OPTIMIZER_FILE)
        files.append(checkpoint / OPTIMIZER_FILE)
    for path in files:
        with opened(path) as file:
            if not all(all_finite([file.get_tensor(key)]) for key in file.keys()):
                raise ValueError(f"{path.name} holds numbers that are not finite")
