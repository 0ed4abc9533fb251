"""Data-parallel training of one policy under torchrun, on GPUs or on CPU cores.

    torchrun --nproc-per-node 8 -m sesa_agent train --env sokoban

The weights are split over the ranks (`agents/sharding.py`), all of them or groups of `optim.shard`
that each hold a copy. Every rank has its own engine. It samples the trees of its share of the tasks
and keeps them; all ranks know a summary of each (`tree_summary.py`). So every rank makes the same
decisions as a single process would: which groups are kept, what their credit is divided by, the
split into minibatches. Rows of the trees move as tensors to the one rank that computes them
(`row_exchange.py`), and gradients are summed. An update thus equals that of a single process on the
same trees, except for the order of summation.

Small values are exchanged as JSON: nothing is unpickled. In a single process nothing is exchanged.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.rendezvous import rendezvous

from ..agents.engines.base import EngineError
from ..configs.errors import SettingError, check, first_line
from ..configs.schema import Config
from ..configs.writing import DiskError

AGREED_ERRORS = (DiskError, SettingError, EngineError)
"""What `agreed` raises on all ranks, the special kinds first."""

Item = TypeVar("Item")
Number = TypeVar("Number", int, float)
Result = TypeVar("Result")


class StalledError(EngineError):
    """A process did not answer in time, or was lost; everything saved before is intact."""


class _Roll:
    """How many exchanges each process has come to, in torchrun's store, where all can read it."""

    def __init__(self, store: Any, rank: int):
        self.store, self.rank, self.number = store, rank, 0
        store.set(f"sesa/host/{rank}", socket.gethostname())
        self.call()

    def call(self) -> None:
        """Note that this process comes to its next exchange."""
        self.number += 1
        self.store.set(f"sesa/exchange/{self.rank}", str(self.number))

    def missing(self) -> list[str]:
        """The processes that have not come to this one's exchange, with their machines."""
        ranks = range(world_size())
        late = [r for r in ranks if int(self.store.get(f"sesa/exchange/{r}")) < self.number]
        return [f"{r} on {self.store.get(f'sesa/host/{r}').decode()}" for r in late]


_roll: _Roll | None = None
"""That of this process, once it has joined the others."""
_mesh: DeviceMesh | None = None


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_rank_zero() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def start_processes(cfg: Config) -> None:
    """Join the process group if torchrun started several processes.

    Args:
        cfg: with every "auto" resolved. On GPUs each process gets its own.

    Raises:
        SettingError: in one line, if their number does not fit the machine or the settings.
    """
    num = int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1
    num_local = int(os.environ["LOCAL_WORLD_SIZE"]) if num > 1 else 1
    check_processes(cfg, num, num_local, torch.cuda.device_count())
    if num == 1:
        return
    on_gpu = cfg.model.device == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    patience = timedelta(seconds=cfg.optim.patience)
    store, number, _ = next(iter(rendezvous("env://", timeout=patience)))
    global _roll, _mesh
    _roll = _Roll(store, number) if _roll is None else _roll
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=num, timeout=patience)
    _mesh = _build_mesh(cfg, patience)


def _build_mesh(cfg: Config, patience: timedelta) -> DeviceMesh:
    """Arrange all ranks as (copies of the weights, parts of a copy)."""
    num_parts = cfg.optim.shard or world_size()
    ranks = torch.arange(world_size()).view(-1, num_parts)
    names = ("copy", "part")
    if len(ranks) == 1:
        return init_device_mesh(cfg.model.device, (num_parts,), mesh_dim_names=names[1:])
    # torch would make the groups of the dimensions with a patience of its own.
    groups: list[Any] = [
        dist.new_subgroups_by_enumeration(lists, timeout=patience)[0]
        for lists in (ranks.t().tolist(), ranks.tolist())
    ]
    return DeviceMesh.from_group(groups, cfg.model.device, mesh=ranks, mesh_dim_names=names)


def weights_mesh() -> DeviceMesh | None:
    """Return how the weights are split over the ranks; None in a single process."""
    return _mesh if world_size() > 1 else None


def leave_processes(cfg: Config) -> None:
    """Leave the process group at the end of a run; vLLM does so itself when it shuts down."""
    if world_size() > 1 and cfg.engine.name != "vllm":
        dist.destroy_process_group()


@contextmanager
def naming_stalled(patience_s: int) -> Iterator[None]:
    """Say which processes an exchange waited for in vain.

    torchrun notices at once if a process dies, but not one that hangs.

    Args:
        patience_s: how long exchanges wait, in seconds.

    Raises:
        StalledError: in one line, if an exchange inside the block failed. It names the processes
            that had not come to it, where that is known: not within a pass of the model.
    """
    try:
        yield
    except RuntimeError as error:
        is_exchange = isinstance(error, dist.DistError) or "gloo" in str(error)
        if _roll is None or not is_exchange or isinstance(error, StalledError):
            raise
        names = _roll.missing()
        who = f"Process {', '.join(names)}" if names else "One of the processes"
        raise StalledError(
            f"{who} was lost or did not answer within {patience_s} s (optim.patience): "
            f"{first_line(error)}"
        ) from error


def check_processes(cfg: Config, num: int, num_local: int, num_gpus: int) -> None:
    """Check that the number of processes fits the machine and the settings.

    Args:
        cfg: with every "auto" resolved.
        num: number of all processes.
        num_local: number of processes on this machine.
        num_gpus: number of GPUs of this machine.

    Raises:
        SettingError: in one line, if it does not fit.
    """
    check(
        cfg.model.device != "cuda" or num_local <= num_gpus,
        "torchrun --nproc-per-node",
        num_local,
        f"at most {num_gpus}, the number of GPUs of this machine",
        "Start fewer processes.",
    )
    check(
        cfg.sampling.num_tasks % num == 0,
        "sampling.num_tasks",
        cfg.sampling.num_tasks,
        f"a multiple of {num}, the number of processes",
        "Change it, or start another number of processes.",
    )
    check(
        not cfg.optim.shard or num % cfg.optim.shard == 0,
        "optim.shard",
        cfg.optim.shard,
        f"0 or a divisor of {num}, the number of processes",
        "0 splits the weights over all of them.",
    )


def own_rng(*key: int) -> np.random.Generator:
    """Make this rank's random generator; on rank zero it is that of a single process.

    >>> own_rng(7, 2).random() == np.random.default_rng([7, 2]).random()
    True
    """
    index = rank()
    return np.random.default_rng([*key, index] if index else [*key])


def come_to_exchange() -> None:
    """Note for the other ranks how far this one is, in case that they wait for it in vain."""
    if _roll is not None:
        _roll.call()


def all_gather(value: Any) -> list[Any]:
    """Return the values of all ranks, in rank order.

    Args:
        value: this rank's value, ready for JSON.
    """
    if world_size() == 1:
        return [value]
    come_to_exchange()
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
    """Return rank zero's value, which must be ready for JSON."""
    return all_gather(value if is_rank_zero() else None)[0]


def barrier() -> None:
    """Wait until every rank gets here."""
    all_gather(None)


def agreed(work: Callable[[], Result]) -> Result:
    """Call `work` on every rank; if it fails on one, raise the same error on all.

    Raises:
        SettingError: if `work` raised it on any rank.
        DiskError: likewise.
        EngineError: likewise.
    """
    if world_size() == 1:
        return work()
    result, failure = None, None
    try:
        result = work()
    except (SettingError, EngineError) as error:
        kind = next(kind for kind in AGREED_ERRORS if isinstance(error, kind))
        failure = [AGREED_ERRORS.index(kind), str(error)]
    for number, text in filter(None, all_gather(failure)):
        raise AGREED_ERRORS[number](text)
    return result  # pyright: ignore[reportReturnType]


def gather_lists(
    own: list[Item], encode: Callable[[Item], Any], decode: Callable[[Any], Item]
) -> list[Item]:
    """Join the lists of all ranks, in rank order.

    Args:
        own: this rank's list.
        encode: makes an item ready for JSON.
        decode: reverses `encode`.
    """
    if world_size() == 1:
        return own
    return [decode(value) for part in all_gather([*map(encode, own)]) for value in part]


def own_block(num: int) -> range:
    """Return which of `num` items are this rank's: neighbours, and about as many on every rank."""
    return range(num * rank() // world_size(), num * (rank() + 1) // world_size())


def parallel_map(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    encode: Callable[[Result], Any],
    decode: Callable[[Any], Result],
) -> list[Result]:
    """Process items on all ranks and return all results on every rank.

    Args:
        work: processes some items; returns one result per item.
        items: the same on every rank; item n goes to rank n modulo the world size.
        encode: makes a result ready for JSON.
        decode: reverses `encode`.

    Returns:
        The results in the order of the items.

    Raises:
        SettingError: if `work` raised it on any rank.
        EngineError: likewise.
    """
    num = world_size()
    if num == 1:
        return work(items)
    own = agreed(lambda: work(items[rank() :: num]))
    parts = all_gather([encode(result) for result in own])
    return [decode(parts[place % num][place // num]) for place in range(len(items))]


def largest(value: Number) -> Number:
    """Return the largest of all ranks' values; floats are rounded to float32."""
    if world_size() == 1:
        return value
    values = torch.tensor([value])
    come_to_exchange()
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return type(value)(values)


def all_reduce(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks, in place."""
    if world_size() > 1:
        come_to_exchange()
        dist.all_reduce(values)
    return values
