"""Hands a policy's weights to vLLM servers, through a folder or over the network.

`folder`: the first rank writes them in Hugging Face format where the servers see them, and each
reads them in place. `network`: the first rank sends them to the workers of all servers, weight by
weight (`weight_stream.py`), and nothing is written. All ranks go through the weights together,
since split weights are gathered. A server that did not take them says why in `Server.why_gone`.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...configs.writing import writing
from .base import EngineError
from .server_client import Server, ServerGone
from .server_worker import NOT_SEEN, OK
from .weight_stream import WeightStream, open_meeting

NOT_SEEN_HINT = (
    "it does not see {}; set engine.weights_folder to a folder that both share, or "
    "engine.handover=network"
)
SHARD_BYTES = 2**28
"""Size of a file of weights: what writing them costs in memory."""

Weights = Iterator[tuple[str, Tensor]]


def pass_folder(
    servers: Sequence[Server], weights: Weights, config: Any, folder: Path, version: str
) -> None:
    """Write weights, let every server read them, and remove them again.

    Args:
        servers: they are asked one after the other, by rank 0.
        weights: names and tensors.
        config: the model's configuration.
        folder: where a folder for these weights is made.
        version: name of these weights.

    Raises:
        DiskError: if the disk refuses.
    """
    place = folder / f"weights-{version}"
    if own_rank():
        _go_through(weights)
        return
    write_weights(weights, config, place)
    for server in servers:
        why = _take(server, "take_weights", str(place.absolute()), version)
        server.why_gone = NOT_SEEN_HINT.format(place) if why == NOT_SEEN else why
    shutil.rmtree(place)


def write_weights(weights: Weights, config: Any, folder: Path) -> None:
    """Write weights in Hugging Face format, some at a time; the folder appears when it is whole.

    Raises:
        DiskError: if the disk refuses.
    """
    draft = folder.with_name(f".{folder.name}")
    part: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    with writing(folder):
        draft.mkdir(parents=True)
        num_bytes = num_files = 0
        for name, weight in weights:
            if num_bytes + weight.nbytes > SHARD_BYTES and part:
                save_file(part, draft / _file_name(num_files), {"format": "pt"})
                part, num_bytes, num_files = {}, 0, num_files + 1
            part[name] = weight.detach().cpu().contiguous().clone()
            places[name] = _file_name(num_files)
            num_bytes += weight.nbytes
        save_file(part, draft / _file_name(num_files), {"format": "pt"})
        index = {"metadata": {}, "weight_map": places}
        (draft / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        config.save_pretrained(draft)
        draft.rename(folder)


def _file_name(number: int) -> str:
    return f"model-{number:05d}.safetensors"


def send_weights(
    servers: Sequence[Server], weights: Weights, version: str, device: torch.device
) -> None:
    """Send weights to all servers at once; nothing is written.

    Every server has a process group of its own with rank 0, made anew each time: one that dies
    takes no other with it, and one that was started again takes part.

    Args:
        servers: their workers receive.
        weights: names and tensors.
        version: name of these weights.
        device: where the policy's weights are.
    """
    if own_rank():
        _go_through(weights)
        return
    with ThreadPoolExecutor(len(servers)) as pool:
        streams: dict[Server, WeightStream] = {}
        answers: dict[Server, Future[str]] = {}
        for server in servers:
            server.why_gone = ""
            with _leaving_out(server, streams):
                workers = server.call_workers("describe_model")
                is_gpu = {device.type, *(worker["device"] for worker in workers)} == {"cuda"}
                meeting = open_meeting(server.url, 1 + len(workers), "nccl" if is_gpu else "gloo")
                words = (meeting.address, meeting.port, meeting.size, meeting.backend, version)
                answers[server] = pool.submit(_take, server, "receive_weights", *words)
                streams[server] = WeightStream(meeting, 0, device)
        for name, weight in weights:
            for server, stream in [*streams.items()]:
                with _leaving_out(server, streams):
                    stream.send(name, weight)
        for server, stream in [*streams.items()]:
            with _leaving_out(server, streams):
                stream.end()
        for server, answer in answers.items():
            server.why_gone = answer.result() or server.why_gone


@contextmanager
def _leaving_out(server: Server, streams: dict[Server, WeightStream]) -> Iterator[None]:
    """Send nothing more to a server that fails."""
    try:
        yield
    except (ServerGone, EngineError, OSError, RuntimeError) as error:
        streams.pop(server, None)
        server.why_gone = f"it does not take weights by engine.handover=network: {error}"


def _take(server: Server, method: str, *args: Any) -> str:
    """Let a server's workers take weights; returns why they did not, or an empty text."""
    try:
        wrong = [word for word in server.call_workers(method, *args) if word != OK]
        if not wrong:
            server.post("/reset_prefix_cache", {})
    except (ServerGone, EngineError) as error:
        return str(error)
    return wrong[0] if wrong else ""


def ask_version(server: Server, version: str) -> str:
    """Return why a server cannot be used with a version of the weights, or an empty text."""
    try:
        said = server.call_workers("tell_version")
    except (ServerGone, EngineError) as error:
        return str(error)
    return "" if all(word == version for word in said) else "it has other weights"


def own_rank() -> int:
    """Return the number of this process among those that train; rank 0 speaks to the servers."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _go_through(weights: Weights) -> None:
    """Take part in gathering them."""
    for _ in weights:
        pass
