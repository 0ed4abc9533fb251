"""Updates of a real model on one device: shared-prefix against padded rows, split against whole.

`benchmarks/gpu_day.py` runs both.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from sesa_agent.agents.policy import Policy
from sesa_agent.agents.sharding import whole
from sesa_agent.configs.schema import LossConfig
from sesa_agent.training.advantages import leaf_returns, trajectory_credit
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.micro_batches import computing_order, group_rows

from .shared_prefix import SHAPES, VOCABULARY, grow, update


@dataclass(frozen=True)
class Update:
    """One forward and backward pass over 16 trajectories of six turns."""

    shape: str
    packed_tokens: int
    row_tokens: int
    packed_s: float
    padded_s: float
    packed_gib: float
    """Peak memory on the GPU, weights included; 0 without one."""
    padded_gib: float
    gain: float
    """Padded seconds by packed seconds."""


def time_updates(model: Path, device: str, is_toy: bool) -> list[dict[str, Any]]:
    """Time an update on shared-prefix rows and on padded rows, for each shape of tree.

    Args:
        model: folder of the model.
        device: "cpu" or "cuda".
        is_toy: short prompts and one shape.
    """
    dtype = "bfloat16" if device == "cuda" else "float32"
    policy = Policy.load(str(model), dtype, device)
    shapes = ["early"] if is_toy else list(SHAPES)
    prompt, turn = (20, 6) if is_toy else (400, 100)
    return [asdict(_time_update(policy, shape, prompt, turn)) for shape in shapes]


def _batch(policy: Policy, shape: str, prompt: int, turn: int) -> Batch:
    tree = grow(SHAPES[shape], prompt, turn, min(VOCABULARY, policy.model.config.vocab_size))
    return collate([tree], [trajectory_credit(tree, leaf_returns(tree, 0.0), LossConfig())], 0)


def _time_update(policy: Policy, shape: str, prompt: int, turn: int) -> Update:
    batch = _batch(policy, shape, prompt, turn)
    rows = group_rows(batch, 16 * batch.token_ids.shape[1], computing_order(batch))
    packed_s, packed_gib, packed_tokens = _measure(policy, [batch], "")
    parts = [batch.select(part) for part in rows]
    padded_s, padded_gib, row_tokens = _measure(policy, parts, "this side is padded")
    return Update(
        shape=shape,
        packed_tokens=packed_tokens,
        row_tokens=row_tokens,
        packed_s=round(packed_s, 4),
        padded_s=round(padded_s, 4),
        packed_gib=round(packed_gib, 2),
        padded_gib=round(padded_gib, 2),
        gain=round(padded_s / packed_s, 2),
    )


def _measure(policy: Policy, parts: list[Batch], padding_reason: str) -> tuple[float, float, int]:
    """The least of three times, the peak of memory, and the tokens that are read."""
    is_gpu = policy.model.device.type == "cuda"
    counts: list[int] = []
    embeddings = policy.model.get_input_embeddings()
    hook = embeddings.register_forward_pre_hook(lambda _, given: counts.append(given[0].numel()))
    policy.padding_reason = padding_reason
    seconds = []
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(4):  # the first one warms up
        counts.clear()
        if is_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        update(policy, parts)
        if is_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    hook.remove()
    policy.padding_reason = ""
    peak = torch.cuda.max_memory_allocated() / 2**30 if is_gpu else 0.0
    return min(seconds[1:]), peak, sum(counts)


@contextmanager
def lone_mesh(device: str) -> Iterator[DeviceMesh]:
    """A mesh of this process alone, over gloo or NCCL."""
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield init_device_mesh(device, (1,))
        finally:
            dist.destroy_process_group()


def compare_split(model: Path, device: str, is_toy: bool) -> dict[str, float]:
    """Update with whole and with split weights.

    Args:
        model: folder of the model.
        device: "cpu" or "cuda".
        is_toy: a short prompt.

    Returns:
        `*_s` and `*_gib` of both; the largest difference of a log-probability, in nats; the norm
        of the difference of the gradients by that of the gradient of whole weights.
    """
    dtype = "bfloat16" if device == "cuda" else "float32"
    prompt, turn = (20, 6) if is_toy else (400, 100)
    policy = Policy.load(str(model), dtype, device)
    batch = _batch(policy, "early", prompt, turn)
    whole_s, whole_gib, _ = _measure(policy, [batch], "")
    expected = _logprobs_and_gradient(policy, batch)
    del policy
    with lone_mesh(device) as mesh:
        policy = Policy.load(str(model), dtype, device)
        policy.split(mesh)
        policy.ask_head()
        split_s, split_gib, _ = _measure(policy, [batch], "")
        found = _logprobs_and_gradient(policy, batch)
        del policy
    return {
        "whole_s": round(whole_s, 4),
        "split_s": round(split_s, 4),
        "whole_gib": round(whole_gib, 2),
        "split_gib": round(split_gib, 2),
        "logprobs": float((found[0] - expected[0]).abs().max()),
        "gradient": float((found[1] - expected[1]).norm() / expected[1].norm()),
    }


def _logprobs_and_gradient(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and the gradient of an update, in float32 on the CPU."""
    with torch.no_grad():
        logprobs, _ = policy.logprobs(batch)
    update(policy, [batch])
    grads = [whole(weight.grad) for weight in policy.parameters() if weight.grad is not None]
    return logprobs.float().cpu(), torch.cat([grad.float().cpu().flatten() for grad in grads])
