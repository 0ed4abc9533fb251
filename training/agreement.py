"""What the processes of a run have in common: its folder, its checkpoints, equal weights.

Processes on several machines need a disk that all of them see. Where they do not, one of them would
resume a run that another begins; and a run whose copies of the weights differ ends like any other.
Both are therefore checked.
"""

import hashlib
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import torch
from torch import Tensor

from ..agents.policy import Policy
from ..agents.sharding import own_part
from ..configs.errors import SettingError
from ..configs.writing import writing
from .distributed import (
    agreed,
    all_gather,
    broadcast,
    is_rank_zero,
    rank,
    weights_mesh,
    world_size,
)

WAIT_S = 10.0
"""Seconds in which a file that one machine has written must show on the others."""
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the bytes of a number."""


def check_shared_folder(folder: Path, wait_s: float = WAIT_S) -> None:
    """Check that the run folder of every process is that of rank zero.

    Args:
        folder: the run folder, as this process knows it. It exists on rank zero.
        wait_s: seconds in which a file must show.

    Raises:
        SettingError: on all ranks, naming a process that does not see it.
    """
    if world_size() == 1:
        return
    name = f".seen-{uuid4().hex}" if is_rank_zero() else ""
    try:
        agreed(lambda: _leave_mark(folder / name) if name else None)
        name = broadcast(name)
        agreed(lambda: _wait_for(folder / name, wait_s))
    finally:
        if is_rank_zero():
            (folder / name).unlink(missing_ok=True)


def _leave_mark(path: Path) -> None:
    with writing(path):
        path.touch()


def _wait_for(mark: Path, wait_s: float) -> None:
    """Wait until a mark shows in this process's run folder."""
    end = time.monotonic() + wait_s
    while not mark.exists():
        if time.monotonic() > end:
            raise SettingError(
                f"{_who()} does not see the run folder {mark.parent} of process 0. Choose one with "
                "--output on a disk that all machines share."
            )
        time.sleep(0.1)


def shared_checkpoint(folder: Path, found: Path | None) -> Path | None:
    """Return the checkpoint that rank zero has found, and prove that every process sees it.

    Args:
        folder: the run folder, as this process knows it.
        found: the checkpoint on rank zero; not used on others.

    Raises:
        SettingError: on all ranks, naming a process that does not see it.
    """
    known = (found.name, _fingerprint(found)) if found and is_rank_zero() else ("", "")
    name, fingerprint = broadcast(known)
    if not name:
        return None
    checkpoint = folder / "checkpoints" / name
    agreed(lambda: _check_seen(checkpoint, fingerprint))
    return checkpoint


def _check_seen(checkpoint: Path, fingerprint: str) -> None:
    if _fingerprint(checkpoint) != fingerprint:
        raise SettingError(
            f"{_who()} does not see the checkpoint {checkpoint} as process 0 does. Resume the run "
            "from a folder on a disk that all machines share."
        )


def _fingerprint(checkpoint: Path) -> str:
    """A digest of a checkpoint's state and checksums; that of an empty one if it is not there."""
    digest = hashlib.sha256()
    for name in ("state.json", "SHA256SUMS"):
        if (checkpoint / name).is_file():
            digest.update((checkpoint / name).read_bytes())
    return digest.hexdigest()


def _who() -> str:
    return f"Process {rank()} on {socket.gethostname()}"


def check_replicas(policy: Policy, when: str) -> None:
    """Compare the copies of the weights, bit for bit.

    Args:
        policy: of this process.
        when: the beginning of the message, such as "At step 5".

    Raises:
        RuntimeError: on all ranks, naming those that differ: a bug.
    """
    mesh = weights_mesh()
    if mesh is None:
        return
    names, weights = zip(*policy.model.named_parameters(), strict=True)
    sums = all_gather(bit_sums([own_part(weight) for weight in weights]))
    num_parts = mesh.size(-1)
    different = [number for number, own in enumerate(sums) if own != sums[number % num_parts]]
    if different:
        pairs = zip(names, sums[different[0] % num_parts], sums[different[0]], strict=True)
        first = next(name for name, expected, found in pairs if expected != found)
        originals = ", ".join(str(number % num_parts) for number in different)
        raise RuntimeError(
            f"{when} the weights of processes {', '.join(map(str, different))} are not those of "
            f"processes {originals} ({first} among others), which is a bug; what was saved before "
            "is whole."
        )


@torch.no_grad()
def bit_sums(tensors: Sequence[Tensor]) -> list[int]:
    """Sum the bits of each tensor's numbers, read as integers: exact, in any order.

    >>> bit_sums([torch.tensor([0.0, 1.0]), torch.tensor([[1, 2]])])
    [1065353216, 3]
    """
    sums = [
        tensor.contiguous().view(INTEGERS[tensor.element_size()]).sum(dtype=torch.int64)
        for tensor in tensors
    ]
    return torch.stack(sums).tolist() if sums else []
