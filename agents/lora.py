"""LoRA (Hu et al. 2021, arXiv:2106.09685) by PEFT: small trained matrices beside frozen weights.

Every linear layer except the head computes W x + (32 / rank) B A x; only A and B are trained. B
starts at 0, so a fresh adapter changes nothing. Layers are replaced in place: the model keeps its
class, and engines that share it see the adapter's effect.

A saved adapter is a folder in PEFT's format, with `adapter_config.json` (which names its base
model) and `adapter_model.safetensors`. PEFT is an extra, so it is imported where it is used.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..configs.errors import SettingError, first_line
from ..configs.json_text import read_json_file
from .finite import all_finite
from .sharding import round_to, whole

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
ALPHA = 32
"""Numerator of the scale: with 32 / rank, the best learning rate hardly depends on the rank."""


def is_adapter(folder: str) -> bool:
    """Return whether a folder holds an adapter rather than a whole model."""
    return (Path(folder) / CONFIG_FILE).is_file()


def base_of(folder: str) -> str:
    """Read the base model of an adapter.

    Raises:
        SettingError: if the adapter does not name it, or is not a LoRA adapter.
    """
    try:
        config = read_json_file(Path(folder) / CONFIG_FILE)
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
    if config.get("megatron_config"):  # PEFT would import the module that it names
        raise SettingError(f"model.path {folder!r} must be an adapter of PEFT, not of Megatron.")
    if Path(base).resolve() == Path(folder).resolve():
        raise SettingError(f"model.path {folder!r} is damaged: it is its own base model.")
    return base


def import_peft(reason: str) -> ModuleType:
    """Import PEFT, or explain how to install it.

    Args:
        reason: what needs it, as the start of a sentence.

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
    """Freeze a model and put a fresh adapter on all its linear layers except the head.

    Args:
        model: a causal language model of transformers; changed in place.
        rank: of the adapter's matrices, at least 1.
        base: path or name of the model, saved with the adapter.
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
    """Load the weights of a saved adapter into a model's adapter.

    Raises:
        SettingError: if the files are missing or do not fit this model's adapter.
    """
    peft = import_peft(f"The adapter {folder}")
    try:
        weights = load_file(Path(folder) / WEIGHTS_FILE)
        result = peft.set_peft_model_state_dict(model, weights)
        wrong = [*(key for key in result.missing_keys if "lora_" in key), *result.unexpected_keys]
        if wrong:
            raise ValueError(f"{wrong[0]} does not fit")
        if not all_finite(weights.values()):
            raise ValueError("its weights are not finite")
    except Exception as error:  # safetensors, torch and PEFT have errors of their own
        raise SettingError(
            f"model.path {folder!r} is no adapter for this model and model.lora_rank: "
            f"{first_line(error)}."
        ) from error


def merge_adapter(model: Any, folder: str) -> None:
    """Add a saved adapter to a model's weights; the result is a plain model."""
    peft = import_peft(f"The adapter {folder}")
    peft.inject_adapter_in_model(peft.LoraConfig.from_pretrained(folder), model)
    _keep_in_float32(model)
    load_adapter(model, folder)
    for name, layer in _adapted_layers(model):
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    del model.peft_config  # PEFT's note that an adapter is there
    model.requires_grad_(True)


@torch.no_grad()
def merge_in_place(model: Any) -> list[tuple[Any, Tensor]]:
    """Add the adapter's effect to a model's weights, until `restore_weights` puts them back.

    Generation is faster so: a layer is one product instead of three. In bfloat16 the sums are
    rounded, as those that vLLM gets are. Needs memory for a second copy of the linear weights.

    Returns:
        The changed layers with their own weights, which are kept and not computed back: no rounding
        adds up. Empty for a model without an adapter, or if its adapter is merged already.
    """
    kept = []
    for _, layer in _adapted_layers(model):
        if not layer.merged:
            weight = layer.get_base_layer().weight
            kept.append((layer, weight.data))
            delta = layer.get_delta_weight("default")
            weight.data = (weight.to(delta.dtype) + delta).to(weight.dtype)
            layer.merged_adapters.append("default")  # PEFT then leaves out A and B
    return kept


def restore_weights(kept: Sequence[tuple[Any, Tensor]]) -> None:
    """Take back `merge_in_place`, given what it returned."""
    for layer, weight in kept:
        layer.get_base_layer().weight.data = weight
        layer.merged_adapters.clear()


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """Switch a model's adapter off inside the block, which restores the original model."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


@torch.no_grad()
def merged_weights(model: Any, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield all weights under their names in the plain model, with the adapter's effect added.

    For engines with their own copy of the model. Adapter and model are not changed. Weights that
    are split over processes are gathered one at a time.

    Args:
        model: a causal language model of transformers.
        dtype: of the weights; their own by default.
    """
    layers = dict(_adapted_layers(model))
    for name, weight in model.state_dict().items():
        place, _, kind = name.rpartition(".base_layer.")
        if place in layers and kind == "weight":
            delta = whole(layers[place].get_delta_weight("default"))
            weight = (whole(weight).to(delta.dtype) + delta).to(weight.dtype)
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), whole(round_to(weight, dtype))


def has_adapter(model: Any) -> bool:
    """Return whether a model has an adapter."""
    return bool(_adapted_layers(model))


def _adapted_layers(model: Any) -> list[tuple[str, Any]]:
    """List the layers with an adapter, with their names in the model."""
    return [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "lora_A")]


def _keep_in_float32(model: Any) -> None:
    """Keep the adapter in float32, so that small updates add up whatever the model's dtype."""
    for name, parameter in model.named_parameters():
        if ".lora_" in name and parameter.dtype.itemsize < 4:
            parameter.data = parameter.data.float()


def _has_transposed_layers(model: Any) -> bool:
    """Return whether linear layers store transposed weights, as in GPT-2."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(layer, Conv1D) for layer in model.modules())
