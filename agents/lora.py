"""LoRA (Hu et al. 2021, arXiv:2106.09685) by PEFT: small trained matrices beside frozen weights.

Every linear layer but the head computes W x + (32 / rank) B A x, of which A and B are trained. At
the start B = 0, so the adapter changes nothing. The layers are replaced in place: the model stays
of its own class, and engines that share it see the adapter's effect.

A saved adapter is a folder in PEFT's format, with `adapter_config.json` (which names the model it
belongs to) and `adapter_model.safetensors`. PEFT is imported where it is used: it is an extra.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..configs.errors import SettingError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
ALPHA = 32
"""Numerator of the scale: with 32 / rank the learning rate that fits hardly depends on the rank."""


def is_adapter(folder: str) -> bool:
    """Whether a folder holds an adapter instead of a whole model."""
    return (Path(folder) / CONFIG_FILE).is_file()


def base_of(folder: str) -> str:
    """Read which model an adapter belongs to.

    Raises:
        SettingError: if the adapter does not say so, or is not a LoRA.
    """
    try:
        config = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
        base, kind = config["base_model_name_or_path"], config["peft_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"model.path {folder!r} is damaged: {CONFIG_FILE}: {error!r}."
        ) from error
    if not isinstance(base, str) or not base or kind != "LORA":
        raise SettingError(
            f"model.path {folder!r} must be a whole model or a LoRA adapter that names its base "
            f"model, got peft_type {kind!r}, base_model_name_or_path {base!r}."
        )
    return base


def import_peft(reason: str) -> ModuleType:
    """Import PEFT, or say how to install it.

    Args:
        reason: what needs it, as the beginning of a sentence.

    Raises:
        SettingError: if it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise SettingError(
            f"{reason} needs the package peft. Install it: pip install 'sesa-agent[lora]'."
        ) from error
    return peft


def add_adapter(model: Any, rank: int, base: str, seed: int) -> None:
    """Freeze a model and put a fresh adapter on all its linear layers but the head.

    Args:
        model: a causal language model of transformers; changed in place.
        rank: of the adapter's matrices, at least 1.
        base: path or name of the model, kept with the adapter when it is saved.
        seed: of the random matrices A.
    """
    peft = import_peft(f"model.lora_rank={rank}")
    known = str(Path(base).resolve()) if Path(base).is_dir() else base
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=ALPHA,
        target_modules="all-linear",
        fan_in_fan_out=_has_transposed_layers(model),
        task_type="CAUSAL_LM",
        base_model_name_or_path=known,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.add_adapter(config)
    _keep_in_float32(model)
    model.eval()


def load_adapter(model: Any, folder: str) -> None:
    """Give the adapter that a model has the weights of a saved one.

    Raises:
        SettingError: if the files are missing or belong to another adapter.
    """
    peft = import_peft(f"The adapter {folder}")
    try:
        weights = load_file(Path(folder) / WEIGHTS_FILE)
        result = peft.set_peft_model_state_dict(model, weights)
        wrong = [*(key for key in result.missing_keys if "lora_" in key), *result.unexpected_keys]
        if wrong:
            raise ValueError(f"{wrong[0]} does not fit")
    except Exception as error:  # safetensors, torch and PEFT have errors of their own
        raise SettingError(
            f"model.path {folder!r} is no adapter for this model and model.lora_rank: "
            f"{str(error).strip().splitlines()[0]}."
        ) from error


def merge_adapter(model: Any, folder: str) -> None:
    """Add a saved adapter to a model's weights, so that it is a plain model again."""
    peft = import_peft(f"The adapter {folder}")
    peft.inject_adapter_in_model(peft.LoraConfig.from_pretrained(folder), model)
    _keep_in_float32(model)
    load_adapter(model, folder)
    for name, layer in _adapted_layers(model):
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    del model.peft_config  # PEFT's note that an adapter is there
    model.requires_grad_(True)


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """Switch a model's adapter off: it is the model that training began with."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


@torch.no_grad()
def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """All weights of a model by the names of a plain one, an adapter's effect added to them.

    For engines with a copy of the model. The adapter and the model stay as they are.
    """
    layers = dict(_adapted_layers(model))
    for name, weight in model.state_dict().items():
        place, _, kind = name.rpartition(".base_layer.")
        if place in layers and kind == "weight":
            delta = layers[place].get_delta_weight("default")
            weight = (weight.to(delta.dtype) + delta).to(weight.dtype)
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), weight


def _adapted_layers(model: Any) -> list[tuple[str, Any]]:
    """The layers with an adapter, by their place in the model."""
    return [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "lora_A")]


def _keep_in_float32(model: Any) -> None:
    """Small updates of the adapter add up, whatever the model's own number format."""
    for name, parameter in model.named_parameters():
        if ".lora_" in name and parameter.dtype.itemsize < 4:
            parameter.data = parameter.data.float()


def _has_transposed_layers(model: Any) -> bool:
    """GPT-2 stores the weights of its linear layers the other way round."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(layer, Conv1D) for layer in model.modules())
