"""Loads a model's weights into their places, none of which exists before.

A model on torch's meta device has shapes only. It may be split over processes; then it gets memory
and reads its weights from safetensors files, each process the part that it holds. What no file has,
such as the frequencies of rotary positions, transformers computes.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..configs.errors import SettingError
from .sharded_files import read_shards, shapes_in
from .sharding import is_split, own_part


def empty_model(place: str, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """Build a model from its configuration, on torch's meta device.

    Args:
        place: a model folder.
        dtype: of its weights.
        trust_remote_code: whether code that comes with it may run.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, trust_remote_code=trust_remote_code
        )
    if (Path(place) / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(place)
    return model


def can_fill(model: Any, folder: Path) -> bool:
    """Return whether a folder's files hold all weights of a model under the names it has for them.

    Those of some families are converted when transformers loads them.
    """
    try:
        shapes = shapes_in(folder)
    except ValueError:
        return False
    return all(shapes.get(name) == tensor.shape for name, tensor in stored_tensors(model).items())


def fill_model(model: Any, folder: Path, device: str) -> None:
    """Give a model on the meta device memory and its weights, in place.

    Args:
        model: whole or split over processes.
        folder: of its weights.
        device: where its weights go.

    Raises:
        ValueError: if a weight is missing or does not fit, or a file cannot be read.
    """
    computed = dict(model.named_buffers()).keys() - stored_tensors(model).keys()
    model.to_empty(device=device)
    if not is_split(model):
        model.tie_weights()  # each of two names got memory of its own
    for name in sorted(computed):
        place, _, own_name = name.rpartition(".")
        module = model.get_submodule(place)
        buffer = torch.full_like(module.get_buffer(own_name), math.nan)
        module.register_buffer(own_name, buffer, persistent=False)
    for place in {name.rpartition(".")[0] for name in computed}:
        model._init_weights(model.get_submodule(place))
    unknown = [name for name in computed if not model.get_buffer(name).isfinite().all()]
    if unknown:
        raise ValueError(f"transformers does not compute {unknown[0]} by itself")
    read_shards(folder, stored_tensors(model))


def stored_tensors(model: Any) -> dict[str, Tensor]:
    """Name the tensors that are stored with a model: its weights, and some buffers."""
    stored = model.state_dict().keys()
    buffers = {name: value for name, value in model.named_buffers() if name in stored}
    return {name: value.detach() for name, value in model.named_parameters()} | buffers


@torch.no_grad()
def round_weights(model: Any, dtype: torch.dtype) -> None:
    """Round float32 weights to what another dtype can hold, in place."""
    for weight in model.parameters():
        part = own_part(weight)
        part.copy_(part.to(dtype))


def check_embeddings(model: Any, tokenizer: Any, path: str) -> None:
    """Check that a model knows all tokens of its tokenizer.

    Raises:
        SettingError: in one line, if it does not.
    """
    num_embeddings = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > num_embeddings:
        raise SettingError(
            f"model.path {path!r} is damaged: its tokenizer has {len(tokenizer)} tokens, its "
            f"model knows {num_embeddings}. Copy it again."
        )
