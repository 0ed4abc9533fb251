"""Tensors in safetensors files, one for each process that holds a part of them.

    shard-00001-model-00001-of-00001.safetensors   parts of the first process, with their offsets

Written and read by torch.distributed.checkpoint. Any number of processes can read the files of any
other number, each of them what it holds itself; plain safetensors files, such as a model's from the
hub, are read likewise.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ..configs.errors import first_line

PATTERN = "shard-*.safetensors"


def has_shards(folder: Path) -> bool:
    """Return whether a folder holds files that processes wrote together."""
    return any(folder.glob(PATTERN))


def writer_of(path: Path) -> int:
    """Return the number of the process that wrote a file; 0 if it is not one of several.

    >>> writer_of(Path("model/shard-00003-model-00001-of-00001.safetensors"))
    2
    """
    return int(path.name.split("-")[1]) - 1 if path.match(PATTERN) else 0


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors in all processes together, each its own parts; equal parts are written once.

    Args:
        folder: exists, and is the same for all.
        tensors: the same names in every process.

    Raises:
        OSError: in all processes, if one of them could not write.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        with _quiet():
            save(tensors, storage_writer=writer)
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


def shapes_in(folder: Path) -> dict[str, torch.Size]:
    """Read the shapes of the whole tensors in a folder's safetensors files, by name.

    Raises:
        ValueError: if a file cannot be read, or one of several is missing.
    """
    with _readable(folder):
        found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    shapes: dict[str, torch.Size] = {}
    for name, entry in found.items():
        assert isinstance(entry, TensorStorageMetadata)
        if sum(part.sizes.numel() for part in entry.chunks) < entry.size.numel():
            raise ValueError(f"{folder.name} lacks a file with a part of {name}")
        shapes[name] = entry.size
    return shapes


def read_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Read tensors in place, of split ones the part that this process holds.

    No other process takes part. Numbers are converted to the dtype of the tensors.

    Raises:
        ValueError: if a tensor is missing or has another shape, or a file cannot be read.
    """
    shapes = shapes_in(folder)
    for name, tensor in tensors.items():
        if shapes.get(name) != tensor.shape:
            found = list(shapes[name]) if name in shapes else "none"
            raise ValueError(f"{name} has shape {found}, not {list(tensor.shape)}")
    with _readable(folder), _quiet():
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise ValueError(f"{folder.name}: {first_line(cause)}") from error
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{folder.name}: {first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch where it doubts that a process means to read by itself, or lists an error."""
    logger = logging.getLogger("torch.distributed.checkpoint")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
