"""Sends weights from one process to others: NCCL between GPUs, gloo between CPUs.

The processes form a group beside those that trainer and server have of their own. A weight is
announced in a header of fixed size and follows in one broadcast; an empty header ends the stream.
"""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

HEADER_BYTES = 1024
"""A weight's name, dtype and shape must fit."""
TIMEOUT = timedelta(seconds=120)
"""How long a process waits for the others, and for one weight."""


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a stream find each other."""

    address: str
    """Of the sender, as the receivers reach it."""
    port: int
    size: int
    """Number of processes, the sender among them."""
    backend: str
    """`nccl` or `gloo`."""
    store: Any
    """The `TCPStore` at that address."""


def open_meeting(url: str, size: int, backend: str) -> Meeting:
    """Open a place to meet for processes that a server runs.

    Args:
        url: the server's.
        size: number of processes, this one among them.
        backend: `nccl` or `gloo`.
    """
    parts = urlsplit(url)
    address = own_address(parts.hostname or "", parts.port or 80)
    store = TCPStore(address, 0, None, True, TIMEOUT, wait_for_workers=False)
    return Meeting(address, store.port, size, backend, store)


def join_meeting(address: str, port: int, size: int, backend: str) -> Meeting:
    """Come to a place that another process has opened.

    Raises:
        RuntimeError: if it is not reached.
    """
    store = TCPStore(address, port, None, False, TIMEOUT)
    return Meeting(address, port, size, backend, store)


class WeightStream:
    """One end of a stream; waits until all processes are there.

    Args:
        meeting: where they meet.
        rank: 0 for the sender, from 1 for receivers.
        device: where this process has or wants the weights.

    Raises:
        RuntimeError: if not all come within `TIMEOUT`; the methods, if one is lost.
    """

    def __init__(self, meeting: Meeting, rank: int, device: torch.device):
        self._device = device if meeting.backend == "nccl" else torch.device("cpu")
        if meeting.backend == "nccl":
            options: Any = dist.ProcessGroupNCCL.Options()
            options._timeout = TIMEOUT
            self._group: Any = dist.ProcessGroupNCCL(meeting.store, rank, meeting.size, options)
        else:
            options = dist.ProcessGroupGloo._Options()  # pyright: ignore[reportAttributeAccessIssue]
            host = own_address(meeting.address, meeting.port)
            options._devices = [dist.ProcessGroupGloo.create_device(hostname=host)]
            options._timeout = TIMEOUT
            self._group = dist.ProcessGroupGloo(meeting.store, rank, meeting.size, options)

    def send(self, name: str, weight: Tensor) -> None:
        """Send a weight to all receivers.

        Raises:
            ValueError: if its name is too long.
        """
        dtype = str(weight.dtype).removeprefix("torch.")
        self._announce(json.dumps([name, dtype, list(weight.shape)]).encode())
        self._broadcast(weight.detach().to(self._device).contiguous())

    def end(self) -> None:
        """Tell the receivers that there is no more."""
        self._announce(b"")

    def receive(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights as they come."""
        while True:
            header = torch.empty(HEADER_BYTES, dtype=torch.uint8, device=self._device)
            self._broadcast(header)
            text = header.cpu().numpy().tobytes().rstrip(b" ")
            if not text:
                return
            name, dtype, shape = json.loads(text)
            weight = torch.empty(shape, dtype=getattr(torch, dtype), device=self._device)
            self._broadcast(weight)
            yield name, weight

    def _announce(self, text: bytes) -> None:
        if len(text) > HEADER_BYTES:
            raise ValueError(f"The name of a weight is too long: {text[:80]!r}")
        header = bytearray(text.ljust(HEADER_BYTES))
        self._broadcast(torch.frombuffer(header, dtype=torch.uint8).to(self._device))

    def _broadcast(self, values: Tensor) -> None:
        """Pass values on from the sender; as bytes, which every backend knows."""
        self._group.broadcast(values.view(-1).view(torch.uint8), 0).wait()


def own_address(host: str, port: int) -> str:
    """Return the address of this machine as seen by another; nothing is sent to it."""
    family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        return probe.getsockname()[0]
