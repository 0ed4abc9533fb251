"""Estimates the memory that a run needs, from the shape of its model and its settings.

No weights are loaded: a model on torch's `meta` device has shapes only. Weights, gradients and
optimizer state are counted exactly; activations by a formula that is correct within a factor of 1.4
for Llama, Qwen 2, Qwen 3 and GPT-2. Temporary allocations (sampling in the engine, gradients
between two layers) are not counted, so leave 10 % free. `sesa-agent doctor` prints the result.

On a GPU vLLM uses its share of the memory while it generates and frees nearly all of it while the
policy is updated; the trainer's weights and optimizer state stay all the time. The peak is that of
the larger phase.

Processes of torchrun split weights, gradients and optimizer state (`agents/sharding.py`). What is
gathered at a time is estimated: two layers, since the next one comes while one computes, and the
weights that belong to no layer, with their gradients.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from sesa_agent.agents.engines.vllm_engine import CPU_CACHE_GIB
from sesa_agent.agents.logprobs import MAX_LOGITS
from sesa_agent.agents.lora import base_of, is_adapter
from sesa_agent.agents.model_folder import locate_model
from sesa_agent.agents.pretrained import check_kernels, quiet_transformers, refuse_own_code
from sesa_agent.agents.sharding import marked_layers
from sesa_agent.configs.errors import SettingError, first_line
from sesa_agent.configs.schema import Config

LIBRARIES = 2**29
"""Bytes of Python, torch and transformers without a model; a CUDA context is as large."""
VLLM_ASLEEP = 2**30
"""Bytes that vLLM keeps on a GPU while it sleeps, mostly CUDA graphs. Assumed, not measured."""
LOGITS_COPIES = 5
"""Tensors of the size of the logits that exist at once, including softmax and gradient."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a causal language model, in numbers (not bytes)."""

    num_weights: int
    layer_weights: int
    """Of one decoder layer; 0 if transformers does not mark them."""
    linear_sizes: int
    """Sum of the input and output sizes of all linear layers except the head; LoRA trains rank
    times this."""
    num_layers: int
    hidden_size: int
    intermediate_size: int
    query_size: int
    """Number of query heads times head size."""
    kv_size: int
    """Number of key heads times head size."""
    vocabulary_size: int


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run needs, by purpose."""

    libraries: int
    weights: int
    """Of the model, a LoRA adapter, and the reference model of a KL penalty."""
    float32_copies: int
    """Copies of a bfloat16 model's weights, which the optimizer updates; split weights have none,
    being float32 themselves."""
    gathered: int
    """What a process gathers of split weights at a time while the policy is updated."""
    gathered_whole: int
    """Split weights that the model itself generates with."""
    gradients: int
    optimizer: int
    """The two moments of AdamW."""
    activations: int
    """Activations of a micro-batch that are stored for the backward pass."""
    logits: int
    kv_cache: int
    """Keys and values of the prompts and responses that are generated at once."""
    prefill: int
    """Activations of one layer during prefill."""
    vllm: int
    """vLLM while it generates, including weights, KV cache and prefill: on a GPU its share
    (`engine.memory_fraction`), on the CPU what it needs."""
    vllm_asleep: int
    """vLLM while the policy is updated."""

    @property
    def learning(self) -> int:
        """Bytes while the policy is updated."""
        updating = self.gathered + self.gradients + self.activations + self.logits
        return self._lasting + updating + self.vllm_asleep

    @property
    def generating(self) -> int:
        """Bytes while responses are generated; gradients are freed before that."""
        return self._lasting + self.gathered_whole + self.kv_cache + self.prefill + self.vllm

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return max(self.learning, self.generating)

    @property
    def _lasting(self) -> int:
        return self.libraries + self.weights + self.float32_copies + self.optimizer


def estimate_memory(
    shape: ModelShape, cfg: Config, gpu_size: int = 0, num_processes: int = 1
) -> MemoryEstimate:
    """Estimate the memory of a run; of several processes, that of each.

    Args:
        shape: shape of the model.
        cfg: settings of the run.
        gpu_size: bytes of the GPU of a process; 0 on the CPU.
        num_processes: that torchrun starts, on all machines together.
    """
    model, tokens = cfg.model, cfg.optim.max_batch_tokens
    num_bytes = _num_bytes(cfg)
    is_split = num_processes > 1
    num_parts = cfg.optim.shard or num_processes
    num_weights, layer_weights = shape.num_weights, shape.layer_weights
    num_adapter = model.lora_rank * shape.linear_sizes
    num_trained = num_adapter or num_weights
    num_references = int(bool(cfg.loss.kl_coef and not num_adapter))
    has_copies = num_bytes == 2 and not num_adapter
    weights = (4 if is_split and has_copies else num_bytes) * num_weights + 4 * num_adapter
    gathered = 0
    if is_split:
        num_at_once = num_weights - shape.num_layers * layer_weights + 2 * layer_weights
        gathered = (num_bytes if num_adapter else 2 * num_bytes + 4) * num_at_once
    layer = _layer_activations(shape, num_bytes, bool(model.lora_rank))
    inputs = shape.hidden_size * num_bytes
    if model.gradient_checkpointing:
        activations = tokens * ((shape.num_layers + 2) * inputs + layer)  # 2 for the last norm
    else:
        activations = tokens * shape.num_layers * layer
    num_logits = min(tokens * shape.vocabulary_size, MAX_LOGITS)
    has_hf = cfg.engine.name == "hf"
    has_vllm = cfg.engine.name == "vllm"
    vllm, asleep = _vllm_memory(shape, cfg, gpu_size) if has_vllm else (0, 0)
    return MemoryEstimate(
        libraries=LIBRARIES,
        weights=(weights + num_references * num_bytes * num_weights) // num_parts,
        float32_copies=4 * num_trained if has_copies and not is_split else 0,
        gathered=gathered,
        gathered_whole=num_bytes * num_weights if has_hf and is_split else 0,
        gradients=4 * num_trained // num_parts,
        optimizer=8 * num_trained // num_parts,
        activations=activations,
        logits=4 * LOGITS_COPIES * num_logits,
        kv_cache=cfg.engine.max_batch_tokens * _kv_bytes(shape, cfg) if has_hf else 0,
        prefill=_prefill(shape, cfg) if has_hf else 0,
        vllm=vllm,
        vllm_asleep=asleep,
    )


def least_vllm_share(shape: ModelShape, cfg: Config) -> int:
    """Minimum bytes for vLLM: weights, prefill of a batch, KV cache of the longest sequence."""
    longest = cfg.engine.max_prompt_tokens + cfg.engine.max_new_tokens
    weights = _num_bytes(cfg) * shape.num_weights
    return weights + _prefill(shape, cfg) + longest * _kv_bytes(shape, cfg)


def vllm_cache_tokens(shape: ModelShape, cfg: Config, gpu_size: int) -> int:
    """Number of tokens whose keys and values fit into vLLM's share of a GPU."""
    longest = cfg.engine.max_prompt_tokens + cfg.engine.max_new_tokens
    spare = int(cfg.engine.memory_fraction * gpu_size) - least_vllm_share(shape, cfg)
    return max(0, longest + spare // _kv_bytes(shape, cfg))


def _vllm_memory(shape: ModelShape, cfg: Config, gpu_size: int) -> tuple[int, int]:
    """Bytes of vLLM while it generates, and while the policy is updated."""
    if gpu_size:
        return int(cfg.engine.memory_fraction * gpu_size), VLLM_ASLEEP
    lasting = _num_bytes(cfg) * shape.num_weights + CPU_CACHE_GIB * 2**30
    return lasting + _prefill(shape, cfg), lasting


def _num_bytes(cfg: Config) -> int:
    """Bytes per number of the model."""
    return 2 if cfg.model.dtype == "bfloat16" else 4


def _kv_bytes(shape: ModelShape, cfg: Config) -> int:
    """Bytes per token of the KV cache."""
    return _num_bytes(cfg) * shape.num_layers * 2 * shape.kv_size


def _prefill(shape: ModelShape, cfg: Config) -> int:
    """Bytes of one layer's activations during the prefill of a batch."""
    numbers = 4 * shape.hidden_size + 3 * shape.intermediate_size
    return cfg.engine.max_batch_tokens * _num_bytes(cfg) * numbers


def _layer_activations(shape: ModelShape, num_bytes: int, has_lora: bool) -> int:
    """Bytes per token that one layer stores for the backward pass.

    The inputs of both norms and of all linear layers; queries, and the keys and values repeated for
    them, before and after rotation; the activations between the linear layers of the MLP. Norms and
    LoRA adapters compute in float32 and store float32 inputs.
    """
    hidden, query, intermediate = shape.hidden_size, shape.query_size, shape.intermediate_size
    kept = num_bytes * (6 * hidden + 6 * query + 4 * intermediate)
    if num_bytes == 2:
        kept += 4 * hidden
        kept += 4 * (5 * hidden + query + intermediate) if has_lora else 0
    return kept


def fitting_changes(
    shape: ModelShape, cfg: Config, available: int, gpu_size: int = 0, num_processes: int = 1
) -> tuple[list[str], int]:
    """Find settings that make a run fit, those with the least side effects first.

    Args:
        shape: shape of the model.
        cfg: settings of the run.
        available: available bytes.
        gpu_size: as for `estimate_memory`.
        num_processes: likewise.

    Returns:
        Words to add to the command, and the bytes that the run needs with them. No words if it
        fits already; all that help if it does not fit even then.
    """

    def needed_with(changes: dict[str, Any]) -> int:
        return _needed(shape, cfg, changes, gpu_size, num_processes)

    changes: dict[str, Any] = {}
    needed = needed_with(changes)
    for key, value in _candidates(shape, cfg, gpu_size):
        more = changes | {key: value}
        if needed > available and needed_with(more) < needed:
            changes, needed = more, needed_with(more)
    for key in list(changes):  # a later change may have made this one unnecessary
        fewer = {name: value for name, value in changes.items() if name != key}
        if needed_with(fewer) <= available:
            changes, needed = fewer, needed_with(fewer)
    return [f"{key}={str(value).lower()}" for key, value in changes.items()], needed


def _needed(
    shape: ModelShape, cfg: Config, changes: dict[str, Any], gpu_size: int, num_processes: int
) -> int:
    """Bytes that a run needs with some settings changed."""
    for key, value in changes.items():
        group, name = key.split(".")
        cfg = replace(cfg, **{group: replace(getattr(cfg, group), **{name: value})})
    return estimate_memory(shape, cfg, gpu_size, num_processes).total


def _candidates(shape: ModelShape, cfg: Config, gpu_size: int) -> list[tuple[str, Any]]:
    """Settings that need less memory; the first ones only change the speed of a run."""
    candidates: list[tuple[str, Any]] = [("model.gradient_checkpointing", True)]
    for divisor in (2, 4, 8, 16):
        for group in ("optim", "engine"):
            tokens = getattr(cfg, group).max_batch_tokens // divisor
            candidates.append((f"{group}.max_batch_tokens", max(tokens, 1)))
        fraction = round(cfg.engine.memory_fraction / divisor, 2)
        if fraction * gpu_size >= least_vllm_share(shape, cfg):
            candidates.append(("engine.memory_fraction", fraction))
    bfloat16 = ("model.dtype", "bfloat16")  # saves more once the weights are not trained
    lora = [("model.lora_rank", 16)] if not cfg.model.lora_rank else []
    return [*candidates, bfloat16, *lora, bfloat16]


def read_shape(path: str, trust_remote_code: bool = False) -> ModelShape:
    """Read the shape of a model: a folder, a bundled model or one on the hub, without its weights.

    Raises:
        SettingError: in one line, if there is no such model or its configuration cannot be read.
    """
    if is_adapter(path):
        return read_shape(base_of(path), trust_remote_code)
    place = locate_model(path)
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet_transformers(), torch.device("meta"):
            check_kernels(place)
            config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever transformers and the hub raise
        refuse_own_code(path, error)
        raise SettingError(
            f"model.path {path!r} could not be read: {first_line(error)}. Give a model folder, or "
            "the name of a model on a hub that can be reached from here."
        ) from error
    return shape_of(model)


def shape_of(model: Any) -> ModelShape:
    """The shape of a causal language model of transformers, on any device."""
    from transformers.pytorch_utils import Conv1D

    config = model.config.get_text_config()
    head_size = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    linear = [
        layer
        for layer in model.modules()
        if isinstance(layer, (torch.nn.Linear, Conv1D))
        and layer is not model.get_output_embeddings()
    ]
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    layers = [sum(part.numel() for part in layer.parameters()) for layer in marked_layers(model)]
    return ModelShape(
        num_weights=sum(weight.numel() for weight in model.parameters()),
        layer_weights=max(layers, default=0),
        linear_sizes=sum(sum(layer.weight.shape) for layer in linear),
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        query_size=config.num_attention_heads * head_size,
        kv_size=kv_heads * head_size,
        vocabulary_size=model.get_input_embeddings().num_embeddings,
    )


def memory_rows(estimate: MemoryEstimate) -> list[tuple[str, int]]:
    """The parts of an estimate that are not 0, by name."""
    parts = [(field.name, getattr(estimate, field.name)) for field in fields(estimate)]
    return [(name.replace("_", " "), num_bytes) for name, num_bytes in parts if num_bytes]
