"""`sesa-agent serve`: starts a vLLM server for `engine.name=server`."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sesa_agent.agents.engines.vllm_head_padding import MIN_HEAD_DIM, head_dim, widen_config
from sesa_agent.agents.model_folder import locate_model
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.screen import say

CPU_OPTIONS = ("--block-size", "32", "--enforce-eager", "--no-enable-chunked-prefill")
"""As the engine in this process: small cache blocks, and generators that CPUs support."""


@dataclass(frozen=True)
class ServeOptions:
    """The options of the command."""

    model: str
    """Folder or hub name of a causal LM, or a bundled one."""
    num_gpus: int = 1
    """GPUs that the model is split over (tensor parallel)."""
    host: str = "127.0.0.1"
    port: int = 8000
    max_tokens: int = 0
    """Longest prompt and response together; 0 for the model's context length."""
    memory_fraction: float = 0.9
    """Fraction of each GPU's memory."""
    dtype: str = "auto"


def server_words(options: ServeOptions, folder: str, on_gpu: bool) -> list[str]:
    """Return the words of vLLM's command.

    Args:
        options: of our command.
        folder: what vLLM loads.
        on_gpu: whether the server runs on GPUs.
    """
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    words += ["--served-model-name", "sesa", "--host", options.host, "--port", str(options.port)]
    words += ["--tensor-parallel-size", str(options.num_gpus), "--dtype", options.dtype]
    words += ["--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    worker = "sesa_agent.agents.engines.server_worker.Worker"
    words += ["--worker-extension-cls", worker, "--disable-log-stats"]
    words += ["--max-model-len", str(options.max_tokens)] if options.max_tokens else []
    memory = ("--gpu-memory-utilization", str(options.memory_fraction))
    return [*words, *(memory if on_gpu else CPU_OPTIONS)]


def run_serve(options: ServeOptions) -> None:
    """Serve a model until it is interrupted.

    Raises:
        SettingError: in one line, for a wrong option, or if vLLM is not installed.
    """
    check(bool(options.model), "--model", options.model, "given", "Try --model sesa-tiny.")
    check(options.num_gpus >= 1, "--tp", options.num_gpus, "at least 1")
    check(1 <= options.port <= 65535, "--port", options.port, "from 1 to 65535")
    check(options.max_tokens >= 0, "--max-tokens", options.max_tokens, "0 or more")
    fits = 0 < options.memory_fraction < 1
    check(fits, "--memory-fraction", options.memory_fraction, "above 0 and below 1")
    folder = locate_model(options.model)
    if find_spec("vllm") is None:
        raise SettingError(
            "sesa-agent serve needs vLLM. Install it: make vllm on a machine without a GPU, else "
            "pip install vllm."
        )
    import torch

    on_gpu = torch.cuda.is_available()
    # `collective_rpc`, by which weights are handed over, is a developer's endpoint.
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    with tempfile.TemporaryDirectory(prefix="sesa-serve-") as scratch:
        if not on_gpu:
            folder = widened(folder, Path(scratch)) or folder
        say(
            f"Serving {options.model}. Once it is ready: sesa-agent train engine.name=server "
            f"engine.urls=http://{options.host}:{options.port}"
        )
        # Whoever reaches the port can change the weights.
        code = subprocess.run(server_words(options, folder, on_gpu), check=False).returncode
    raise SystemExit(code)


def widened(folder: str, scratch: Path) -> str:
    """Write a copy of a model whose attention heads fit vLLM's CPU kernels.

    Returns:
        Its folder; empty if the model fits as it is.

    Raises:
        SettingError: if the heads cannot be widened.
    """
    from transformers import AutoConfig

    from sesa_agent.agents.engines.handover import write_weights
    from sesa_agent.agents.engines.vllm_engine import named_weights
    from sesa_agent.agents.policy import Policy

    path = Path(folder) / "config.json"
    if not path.is_file() or head_dim(AutoConfig.from_pretrained(folder)) >= MIN_HEAD_DIM:
        return ""
    policy = Policy.load(folder, device="cpu")
    target = scratch / "model"
    write_weights(named_weights(policy, is_wide=True), widen_config(policy.model.config), target)
    policy.tokenizer.save_pretrained(target)
    return str(target)
