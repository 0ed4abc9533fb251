"""The state of an optimizer as safetensors, in one file or in one for each process.

Tensors are named "<parameter index>.<name>"; numbers and hyperparameters are JSON beside them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..agents.sharded_files import read_shards, shapes_in, write_shards
from ..configs.errors import SettingError, first_line
from ..configs.json_text import read_json, read_json_file
from .checkpoint_files import OPTIMIZER_FILE, OPTIMIZER_FOLDER, RNG_KEY, STATE_FILE
from .distributed import barrier, is_rank_zero, weights_mesh
from .optimizer import parameters_of


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Save an optimizer and torch's CPU random state; under torchrun, in all ranks together.

    Args:
        folder: of the checkpoint.
        optimizer: of the policy's parameters, or of copies of them.
    """
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
            values, random_state, groups = read_optimizer(folder / OPTIMIZER_FILE)
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


def read_optimizer(path: Path) -> tuple[dict[str, Any], Tensor, list[dict[str, Any]]]:
    """Read an optimiser's values by name, torch's random state, and the parameter groups.

    Raises:
        ValueError: if one of them is missing.
    """
    with opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    try:
        scalars, groups = (read_json(metadata[key]) for key in ("scalars", "param_groups"))
        random_state = tensors.pop(RNG_KEY)
        return {**tensors, **scalars}, random_state, _with_betas(groups)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} lacks a part: {first_line(error)}") from error


def _read_split_optimizer(
    folder: Path, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], Tensor, list[dict[str, Any]]]:
    """`read_optimizer` of files that processes wrote together, or into split parameters.

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
        with opened(folder / OPTIMIZER_FILE) as file:
            stored = file.metadata() or {}
            random_state = file.get_tensor(RNG_KEY)
        metadata = {key: read_json(stored[key]) for key in ("scalars", "param_groups")}
        groups = _with_betas(metadata["param_groups"])
    weights = parameters_of(optimizer)
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


def _check_shapes(state: dict[int, dict[str, Any]], optimizer: torch.optim.Optimizer) -> None:
    """Check tensors against the parameters: torch's fused kernels would read past their end.

    Raises:
        ValueError: naming a tensor of another shape.
    """
    weights = parameters_of(optimizer)
    for index, values in state.items():
        if not 0 <= index < len(weights):
            raise ValueError(f"it has a parameter {index} of {len(weights)}")
        for name, value in values.items():
            shape = getattr(value, "shape", ())
            if len(shape) and shape != weights[index].shape:
                raise ValueError(
                    f"{index}.{name} has shape {list(shape)}, not {list(weights[index].shape)}"
                )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of tensors; one that cannot be read is a ValueError with its name."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {first_line(error)}") from error
