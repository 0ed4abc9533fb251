"""Loads a model and its tokenizer; what is wrong with them is told in one line."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..configs.errors import SettingError, first_line
from .finite import all_finite
from .meta_loading import check_embeddings, empty_model, fill_model
from .model_folder import locate_model
from .sharded_files import has_shards

_KERNEL = re.compile(r'attn_implementation\w*": (\{[^}]*|"[^"]*)/[^"]*"')


def check_finite(model: Any, path: str) -> None:
    """Check that a model's weights are finite, as far as this process holds them.

    Raises:
        SettingError: in one line, naming the first one that is not.
    """
    if not all_finite(model.parameters()):
        names = (name for name, p in model.named_parameters() if not all_finite([p]))
        dtype = str(model.dtype).removeprefix("torch.")
        raise SettingError(
            f"model.path {path!r} is damaged: its weights are not finite in {dtype}, "
            f"{next(names)} among others. Choose another model or checkpoint."
        )


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Say in one line why a model could not be loaded."""
    try:
        yield
    except Exception as error:  # transformers, tokenizers and safetensors raise all kinds
        refuse_own_code(path, error)
        raise SettingError(
            f"model.path {path!r} could not be loaded: {first_line(error)}. "
            "It must be a whole model folder with safetensors weights, or a model on the hub."
        ) from error


def load_pretrained(path: str, dtype: str, trust_remote_code: bool) -> tuple[Any, Any]:
    """Load model and tokenizer, and check that the weight files are complete.

    Raises:
        SettingError: in one line that says what is wrong with the model and what to do.
    """
    place = locate_model(path)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with explained(path), quiet_transformers():
        check_kernels(place)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
        if has_shards(Path(place)):
            model = empty_model(place, getattr(torch, dtype), trust_remote_code)
            fill_model(model, Path(place), "cpu")
            return model, tokenizer
        load: Any = AutoModelForCausalLM.from_pretrained  # its type lacks the report
        model, report = load(
            place,
            dtype=getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, in one line
            output_loading_info=True,
        )
    wrong = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if wrong:
        raise SettingError(
            f"model.path {path!r} is damaged: its weight files do not hold what config.json "
            f"says, {wrong[0]} among others. Copy or download it again."
        )
    if getattr(model.config.get_text_config(), "num_hidden_layers", 1) < 1:
        raise SettingError(
            f"model.path {path!r} is damaged: config.json says that the model has no layers."
        )
    check_embeddings(model, tokenizer, path)
    return model, tokenizer


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and reports, which would disturb the run's own bar."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_verbosity = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # it reports every attempt to reach the hub
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if has_bars:
            logging.enable_progress_bar()


def refuse_own_code(path: str, error: Exception) -> None:
    """Say what to type if transformers refuses to run code that comes with a model.

    Raises:
        SettingError: if that is what the error is about.
    """
    if "trust_remote_code" in str(error):
        raise SettingError(
            f"model.path {path!r} comes with Python code of its own, which runs only if you type "
            "model.trust_remote_code=true. Do so if you trust its authors."
        ) from error


def check_kernels(place: str) -> None:
    """Refuse a model whose config.json names an attention kernel, which is code from the hub.

    Raises:
        ValueError: naming it.
    """
    from transformers import PreTrainedConfig

    values, _ = PreTrainedConfig.get_config_dict(place)
    if found := _KERNEL.search(json.dumps(values)):
        wanted = found[0].replace('"', "")
        raise ValueError(f"config.json asks for code from the hub ({wanted})")
