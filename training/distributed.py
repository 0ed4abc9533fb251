"""Several processes train one policy: data parallelism under torchrun, on GPUs or on CPU cores.

    torchrun --nproc-per-node 8 -m sesa_agent train --env sokoban

Every process holds a whole policy and an engine of its own. It grows the trees of its part of the
tasks and shows them to all others, so that each then knows and decides what one process would:
which groups are kept, what is taught, how rows are dealt into minibatches. The rows themselves are
computed by one process each, and gradients are summed. An update is thus the one that a single
process makes of the same trees, but for the order in which numbers are added up.

Values travel as JSON: nothing is unpickled. In a single process every function is the plain one.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..agents.engines.base import EngineError
from ..configs.errors import SettingError, check
from ..configs.schema import Config

TIMEOUT = timedelta(hours=4)
"""The longest wait for the slowest process. One that died is noticed by torchrun at once."""
BUCKET = 2**25
"""Gradients that are summed in one exchange, in numbers: 128 MiB of float32."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The place of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_rank_zero() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def start_processes(cfg: Config) -> None:
    """Join the other processes that torchrun started; without them do nothing.

    Args:
        cfg: with every "auto" resolved. On GPUs each process takes one for itself.

    Raises:
        SettingError: in one line, if their number does not fit the machine or the settings.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        return
    on_gpu = cfg.model.device == "cuda"
    num_here = int(os.environ["LOCAL_WORLD_SIZE"])
    check_processes(cfg, int(os.environ["WORLD_SIZE"]), num_here, torch.cuda.device_count())
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)


def leave_processes(cfg: Config) -> None:
    """Part from the other processes at the end of a run; vLLM does it itself when it ends."""
    if world_size() > 1 and cfg.engine.name != "vllm":
        dist.destroy_process_group()


def check_processes(cfg: Config, num: int, num_here: int, num_gpus: int) -> None:
    """Refuse a number of processes that does not fit.

    Args:
        cfg: with every "auto" resolved.
        num: of all processes.
        num_here: of those on this machine.
        num_gpus: that this machine has.

    Raises:
        SettingError: in one line.
    """
    check(
        cfg.model.device != "cuda" or num_here <= num_gpus,
        "torchrun --nproc-per-node",
        num_here,
        f"at most {num_gpus}, the GPUs of this machine",
        "Start fewer processes.",
    )
    check(
        cfg.sampling.num_tasks % num == 0,
        "sampling.num_tasks",
        cfg.sampling.num_tasks,
        f"a multiple of {num}, the number of processes",
        "Change it, or start another number of them.",
    )


def own_rng(*key: int) -> np.random.Generator:
    """Random numbers of this process; those of the first are the ones a single process has.

    >>> own_rng(7, 2).random() == np.random.default_rng([7, 2]).random()
    True
    """
    index = rank()
    return np.random.default_rng([*key, index] if index else [*key])


def all_gather(value: Any) -> list[Any]:
    """Give every process the values of all of them, in their order.

    Args:
        value: this process's, ready for JSON.
    """
    if world_size() == 1:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    dist.all_gather(lengths, torch.tensor([len(text)]))
    padded = torch.zeros(int(max(lengths)), dtype=torch.uint8)
    padded[: len(text)] = text
    texts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(texts, padded)
    return [
        json.loads(text[: int(length)].numpy().tobytes())
        for text, length in zip(texts, lengths, strict=True)
    ]


def broadcast(value: Any) -> Any:
    """Give every process the first one's value, which is ready for JSON."""
    return all_gather(value if is_rank_zero() else None)[0]


def barrier() -> None:
    """Wait until every process has come here."""
    all_gather(None)


def agreed(work: Callable[[], Result]) -> Result:
    """Do something in every process; where it fails in one, fail in all with the same words.

    Raises:
        SettingError: if it was raised in any process.
        EngineError: likewise.
    """
    if world_size() == 1:
        return work()
    result, failure = None, None
    try:
        result = work()
    except (SettingError, EngineError) as error:
        failure = {"is_setting": isinstance(error, SettingError), "text": str(error)}
    for failed in filter(None, all_gather(failure)):
        raise (SettingError if failed["is_setting"] else EngineError)(failed["text"])
    return result  # pyright: ignore[reportReturnType]


def parallel_map(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    encode: Callable[[Result], Any],
    decode: Callable[[Any], Result],
) -> list[Result]:
    """Have each process treat its part of the items, and give every one all results.

    Args:
        work: treats some items, with a result for each.
        items: the same in every process; item n goes to process n modulo their number.
        encode: makes a result ready for JSON.
        decode: makes it a result again.

    Returns:
        The results in the order of the items.

    Raises:
        SettingError: if `work` raised it in any process.
        EngineError: likewise.
    """
    num = world_size()
    if num == 1:
        return work(items)
    own = agreed(lambda: work(items[rank() :: num]))
    parts = all_gather([encode(result) for result in own])
    return [decode(parts[place % num][place // num]) for place in range(len(items))]


def all_reduce(values: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


@torch.no_grad()
def all_reduce_gradients(weights: Sequence[Tensor]) -> None:
    """Sum the gradients of all processes, in place.

    A process without rows to compute has none, which counts as zeros. A weight that has none
    anywhere keeps none, so that the optimiser leaves it alone as it would in a single process.
    """
    if world_size() == 1:
        return
    has_grad = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.int32)
    dist.all_reduce(has_grad, op=dist.ReduceOp.MAX)
    used = [weight for weight, has in zip(weights, has_grad.tolist(), strict=True) if has]
    for bucket in _buckets(used):
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in bucket]
        total = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(total)
        parts = total.split([grad.numel() for grad in grads])
        for weight, part in zip(bucket, parts, strict=True):
            weight.grad = part.view_as(weight)


def _buckets(weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Cut into parts of at most `BUCKET` numbers; a larger weight is a part of its own."""
    bucket: list[Tensor] = []
    for weight in weights:
        if bucket and sum(w.numel() for w in bucket) + weight.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket
