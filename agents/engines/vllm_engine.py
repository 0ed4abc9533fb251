"""Generates with vLLM in this process: token ids in and out, weights updated in place.

Requests are independent: `submit` queues one and `step` returns those that finished, so a caller
can continue one tree while others are still being generated. vLLM has its own random numbers: a
seed reproduces the same responses, but not those of another engine.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...configs.errors import SettingError, first_line
from ...configs.schema import EngineConfig
from ..pretrained import quiet_transformers
from ..response_text import ResponseDecoder
from .base import Completion, EngineError, SamplingParams, Usage, generate_by_streaming
from .hf_batch import end_ids
from .vllm_head_padding import MIN_HEAD_DIM, head_dim, widen_config, widen_weights

if TYPE_CHECKING:
    from ..policy import Policy

CPU_BLOCK = 32
"""Tokens per cache block on the CPU: the smallest size that vLLM allows there. Only whole blocks
are shared, and a game's prompts would hardly fill one of the usual 128 tokens."""
CPU_CACHE_GIB = 2


@dataclass
class _Request:
    """A response that is being generated."""

    prompt: list[int]
    exclusion: Any
    """An `Exclusion`, or None."""


class VLLMEngine:
    """Samples responses with vLLM.

    A process holds one vLLM model at a time; an engine for another model replaces it.

    Args:
        policy: the model and its tokenizer.
        cfg: lengths, and the fraction of a GPU's memory that vLLM may use.

    Raises:
        SettingError: in one line, if vLLM is not installed or cannot run the model.
    """

    def __init__(self, policy: "Policy", cfg: EngineConfig):
        self.decoder = ResponseDecoder(policy.tokenizer)
        self.usage = Usage()
        self._end_ids = sorted(end_ids(policy.model, policy.tokenizer))
        self._is_wide = needs_wide_heads(policy)
        self._llm = start_llm(policy, cfg, self._is_wide)
        self._open: dict[str, _Request] = {}
        self._num_requests = 0
        self.load_weights(policy)

    def load_weights(self, policy: "Policy") -> None:
        """Copy the policy's current weights into vLLM, and drop its prefix cache."""
        engine, on_cpu = self._llm.llm_engine, policy.model.device.type == "cpu"
        if not on_cpu:
            self._llm.wake_up(tags=["weights"])
        weights = named_weights(policy, self._is_wide)
        engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if on_cpu:
            engine.collective_rpc(_repack_head)
        else:
            self._llm.wake_up(tags=["kv_cache"])
        self._llm.reset_prefix_cache()

    def sleep(self) -> None:
        """Release GPU memory until weights are loaded again; does nothing on the CPU."""
        if torch.cuda.is_available():
            self._llm.sleep(level=2)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Sample one response to each prompt; see `Engine.generate`."""
        return generate_by_streaming(self, prompts, params, excluded)

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        seed: int,
        excluded: Sequence[Completion] = (),
    ) -> str:
        """Queue a request.

        Args:
            prompt: token ids.
            params: how to sample; its seed is not used.
            seed: of this request.
            excluded: completions of the same prompt that must not be sampled again.

        Returns:
            The request's name.
        """
        from vllm import SamplingParams as VLLMParams  # pyright: ignore[reportMissingImports]
        from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

        from .vllm_exclusion import KEY, OPEN, Exclusion

        name = str(self._num_requests)
        self._num_requests += 1
        request = _Request(list(prompt), None)
        if excluded:
            request.exclusion = OPEN[name] = Exclusion(excluded, params.temperature)
        how = VLLMParams(
            temperature=params.temperature,
            top_p=params.top_p,
            max_tokens=params.max_new_tokens,
            stop=list(params.stop),
            stop_token_ids=self._end_ids,
            include_stop_str_in_output=True,
            skip_special_tokens=False,  # a stop string may be a special token
            spaces_between_special_tokens=False,
            seed=seed % 2**63,
            logprobs=0,  # of the sampled token only
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={KEY: name} if excluded else None,
        )
        self._open[name] = request
        self._llm.llm_engine.add_request(name, {"prompt_token_ids": request.prompt}, how)
        return name

    def step(self) -> list[tuple[str, Completion]]:
        """Sample a token of every open request; return those that finished, by name.

        Raises:
            EngineError: if vLLM fails.
        """
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as error:  # its workers raise all kinds
            raise EngineError(f"vLLM failed: {first_line(error)}") from error
        done = []
        for output in outputs:
            if output.finished:
                done.append((output.request_id, self._finish(output)))
        return done

    def _finish(self, output: Any) -> Completion:
        from .vllm_exclusion import OPEN

        request = self._open.pop(output.request_id)
        OPEN.pop(output.request_id, None)
        (sample,) = output.outputs
        ids = tuple(sample.token_ids)
        logprobs = tuple(
            min(found[token].logprob, 0.0)
            for token, found in zip(ids, sample.logprobs, strict=True)
        )
        is_end = sample.finish_reason == "stop" and not isinstance(sample.stop_reason, str)
        completion = Completion(
            self.decoder.text(ids),
            ids,
            logprobs,
            "eos" if is_end else sample.finish_reason,
            request.exclusion.raw_logprobs(ids, logprobs) if request.exclusion else logprobs,
        )
        self.usage.add([request.prompt], [completion])
        self.usage.cached_tokens += output.num_cached_tokens or 0
        return completion


_LIVE: dict[str, Any] = {}
"""The process's vLLM model, by the settings it was started with."""


def start_llm(policy: "Policy", cfg: EngineConfig, is_wide: bool) -> Any:
    """Start vLLM for the policy's kind of model, or reuse the running one; weights come later.

    Raises:
        SettingError: if vLLM is not installed, or cannot run the model.
    """
    if find_spec("vllm") is None:
        raise SettingError(
            "engine.name must be hf where vLLM is not installed, got 'vllm'. Install it: make vllm "
            "on a machine without a GPU, else pip install vllm."
        )
    config = widen_config(policy.model.config) if is_wide else policy.model.config
    options = _llm_options(policy, config, cfg)
    key = f"{config.to_json_string()}{options}{policy.tokenizer.name_or_path}"
    if key in _LIVE:
        return _LIVE[key]
    for llm in _LIVE.values():
        llm.llm_engine.engine_core.shutdown()
    _LIVE.clear()
    _LIVE[key] = _load_llm(policy, config, options)
    return _LIVE[key]


def _llm_options(policy: "Policy", config: Any, cfg: EngineConfig) -> dict[str, Any]:
    """Return the options of vLLM that depend on the model, the machine and the settings."""
    on_cpu = policy.model.device.type == "cpu"
    positions = getattr(config, "max_position_embeddings", None) or 2**31
    longest = min(cfg.max_prompt_tokens + cfg.max_new_tokens, positions)
    options: dict[str, Any] = {
        "dtype": str(policy.compute_dtype).removeprefix("torch."),
        "max_model_len": longest,
        "max_num_batched_tokens": max(cfg.max_batch_tokens, longest),
        "enforce_eager": on_cpu,
    }
    if on_cpu:
        # With chunked prefill vLLM rewinds a request's random generator, which CPU generators do
        # not support.
        options |= {"block_size": CPU_BLOCK, "enable_chunked_prefill": False}
    else:
        options |= {"enable_sleep_mode": True, "gpu_memory_utilization": cfg.memory_fraction}
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        # One of several ranks: it uses the GPU that torchrun assigned, and the process group that
        # exists, since torch allows only one. The engines are independent of each other.
        options["distributed_executor_backend"] = "external_launcher"
    return options


def _load_llm(policy: "Policy", config: Any, options: dict[str, Any]) -> Any:
    """Build vLLM's model with dummy weights."""
    # In this process, so that weights are passed directly and nothing is pickled.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GIB))
    set_num_threads = torch.set_num_threads
    from vllm import LLM  # pyright: ignore[reportMissingImports]

    with TemporaryDirectory() as folder, quiet_transformers():
        config.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        try:
            return LLM(
                folder,
                load_format="dummy",
                trust_remote_code=False,
                generation_config="vllm",
                logprobs_mode="processed_logprobs",  # of the distribution that is sampled from
                logits_processors=["sesa_agent.agents.engines.vllm_exclusion:WithoutExcluded"],
                async_scheduling=False,  # a processor must see every token sampled so far
                disable_log_stats=True,
                **options,
            )
        except Exception as error:  # its loaders and workers raise all kinds
            if "KV cache" in str(error):
                on_cpu = policy.model.device.type == "cpu"
                message = cache_too_small(options["max_model_len"], on_cpu)
                raise SettingError(message) from error
            raise SettingError(
                f"engine.name 'vllm' cannot run this model: {first_line(error)}. "
                "Try engine.name=hf."
            ) from error
        finally:
            torch.set_num_threads = set_num_threads  # vLLM's workers disable it for the process


def cache_too_small(longest: int, on_cpu: bool) -> str:
    """Explain what to do if not even one response fits into vLLM's cache."""
    more = "set VLLM_CPU_KVCACHE_SPACE to more GiB" if on_cpu else "raise engine.memory_fraction"
    return (
        "engine.max_prompt_tokens and engine.max_new_tokens must together fit into vLLM's cache, "
        f"got {longest} tokens, which do not. Lower engine.max_prompt_tokens, or {more}."
    )


def needs_wide_heads(policy: "Policy") -> bool:
    """Return whether the model's attention heads are too small for vLLM's CPU kernels."""
    return policy.model.device.type == "cpu" and head_dim(policy.model.config) < MIN_HEAD_DIM


def named_weights(policy: "Policy", is_wide: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield the policy's weights under the names of its checkpoint."""
    tied = policy.model.config.tie_word_embeddings
    weights = (
        (name, weight.detach())
        for name, weight in policy.weights()
        if not (tied and name.startswith("lm_head."))
    )
    return widen_weights(weights, policy.model.config) if is_wide else weights


def _repack_head(worker: Any) -> None:
    """Repack the output head for the CPU kernels; a reload of tied embeddings misses it."""
    head = worker.model_runner.get_model().lm_head
    head.quant_method.process_weights_after_loading(head)
