"""The files of a checkpoint: their names, their checksums, what is plain JSON in them."""

import hashlib
import os
from pathlib import Path
from typing import Any

from ..configs.json_text import read_json_file

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


def step_of(checkpoint: Path) -> int:
    """The number of finished steps, by a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the `state` that was saved with a checkpoint."""
    return read_json_file(checkpoint / STATE_FILE)


def read_replay(checkpoint: Path) -> dict[str, Any]:
    """Return the `replay` that was saved with a checkpoint; an empty buffer if none was."""
    path = checkpoint / REPLAY_FILE
    return read_json_file(path) if path.exists() else {"replays": [], "means": []}


def has_optimizer(checkpoint: Path) -> bool:
    """Whether a whole checkpoint holds the state of the optimiser."""
    sums = checkpoint / SUMS_FILE
    return any(map(is_of_optimizer, read_sums(sums))) if sums.exists() else True


def is_of_optimizer(name: str) -> bool:
    """Whether a file is part of the optimiser, by its name relative to the checkpoint."""
    return name.split("/")[0] in (OPTIMIZER_FILE, OPTIMIZER_FOLDER)


def read_sums(path: Path) -> dict[str, str]:
    """The digests of a checkpoint's files, by their names relative to it."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in pairs}


def sums_text(digests: dict[str, str]) -> str:
    """The content of the file of checksums."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def flush_entry(path: Path) -> None:
    """Flush a file or the entries of a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
