"""Generates on vLLM servers, on other GPUs or machines: `engine.name=server`.

Token ids go out and come in with their log-probabilities. Weights go through a folder that the
servers see too: the first rank writes it, every server reads it in place. A server that does not
answer is left out until the next update; its open requests go to the others. Completions are not
excluded: callers ask again for what repeats.
"""

import json
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...configs.errors import SettingError
from ...configs.schema import EngineConfig
from ...configs.writing import writing
from ..response_text import ResponseDecoder
from .base import Completion, EngineError, SamplingParams, Usage, generate_by_streaming
from .hf_batch import end_ids
from .server_client import Server, ServerGone, split_urls
from .server_worker import NOT_SEEN, OK, SHAPE
from .vllm_engine import named_weights
from .vllm_head_padding import head_dim, widen_config

if TYPE_CHECKING:
    from ..policy import Policy

MAX_OPEN = 256
"""Requests of this process that are open at once."""
SHARD_BYTES = 2**28
"""Size of a file of weights: what writing them costs in memory."""


class ServerEngine:
    """Samples responses with vLLM servers.

    Args:
        policy: the model and its tokenizer.
        cfg: with `urls` and `weights_folder`.

    Raises:
        SettingError: in one line, if a server cannot be reached, serves another model or does not
            see the folder of weights.
    """

    def __init__(self, policy: "Policy", cfg: EngineConfig):
        self.decoder = ResponseDecoder(policy.tokenizer)
        self.usage = Usage()
        self._end_ids = sorted(end_ids(policy.model, policy.tokenizer))
        self._servers = split_urls(cfg.urls)
        self._is_wide = _check_servers(self._servers, policy, cfg)
        self._folder = _weights_folder(self, cfg.weights_folder)
        self._run = _common_token(policy.model.device)
        self._num_updates = 0
        self._pool = ThreadPoolExecutor(MAX_OPEN)
        self._open: dict[Future[Any], tuple[str, list[int]]] = {}
        self._num_requests = 0
        try:
            self.load_weights(policy)
        except EngineError as error:
            raise SettingError(str(error)) from error

    def load_weights(self, policy: "Policy") -> None:
        """Write the policy's current weights, and let every server read them.

        Raises:
            EngineError: if no server took them.
        """
        self._num_updates += 1
        version = f"{self._run}-{self._num_updates:06d}"
        folder = self._folder / f"weights-{version}"
        config = widen_config(policy.model.config) if self._is_wide else policy.model.config
        weights = named_weights(policy, self._is_wide)
        write_weights(weights, config, folder if _rank() == 0 else None)
        if _rank() == 0:
            for server in self._servers:
                server.why_gone = _hand_over(server, folder, version)
            shutil.rmtree(folder)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        for server in self._servers if _rank() else ():
            server.why_gone = _ask_version(server, version)
        self._pick(0)

    def sleep(self) -> None:
        """Do nothing: the servers have memory of their own."""

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
        """Queue a request; see `StreamEngine.submit`. `excluded` is ignored."""
        name = str(self._num_requests)
        self._num_requests += 1
        body = {
            "model": "sesa",
            "prompt": list(prompt),
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "stop": list(params.stop),
            "stop_token_ids": self._end_ids,
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "seed": seed % 2**63,
            "logprobs": 0,  # of the sampled token only
            "return_token_ids": True,
        }
        future = self._pool.submit(self._ask, body, _rank() + self._num_requests)
        self._open[future] = name, body["prompt"]
        return name

    def step(self) -> list[tuple[str, Completion]]:
        """Wait for the next responses; see `StreamEngine.step`."""
        finished, _ = wait(self._open, return_when=FIRST_COMPLETED)
        return [self._finish(future) for future in finished]

    def _ask(self, body: dict[str, Any], turn: int) -> dict[str, Any]:
        """Send a request to a server, and to another one if it does not answer."""
        while True:
            server = self._pick(turn)
            try:
                return server.complete(body)
            except ServerGone as gone:
                server.why_gone = str(gone)

    def _pick(self, turn: int) -> Server:
        """Return a server that answers; they take turns.

        Raises:
            EngineError: if none does.
        """
        alive = [server for server in self._servers if not server.why_gone]
        if not alive:
            told = "; ".join(f"{server.url}: {server.why_gone}" for server in self._servers)
            raise EngineError(
                f"No server of engine.urls can be used ({told}). Start one with sesa-agent serve."
            )
        return alive[turn % len(alive)]

    def _finish(self, future: Future[dict[str, Any]]) -> tuple[str, Completion]:
        name, prompt = self._open.pop(future)
        choice = future.result()
        if choice["prompt_token_ids"] != prompt:
            raise EngineError("A server of engine.urls changed the tokens of a prompt.")
        ids = tuple(choice["token_ids"])
        logprobs = tuple(min(value, 0.0) for value in choice["logprobs"]["token_logprobs"])
        is_end = choice["finish_reason"] == "stop" and not isinstance(choice["stop_reason"], str)
        reason = "eos" if is_end else choice["finish_reason"]
        completion = Completion(self.decoder.text(ids), ids, logprobs, reason, logprobs)
        self.usage.add([prompt], [completion])
        return name, completion


# ---- weights ----


def write_weights(weights: Iterator[tuple[str, Tensor]], config: Any, folder: Path | None) -> None:
    """Write weights in Hugging Face format, some at a time; the folder appears when it is whole.

    Args:
        weights: names and tensors. Every rank goes through them, since split weights are gathered.
        config: the model's configuration.
        folder: where they go; None on ranks that write nothing.

    Raises:
        DiskError: if the disk refuses.
    """
    if folder is None:
        for _ in weights:
            pass
        return
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


def _hand_over(server: Server, folder: Path, version: str) -> str:
    """Let a server read weights; returns why it could not, or an empty text."""
    try:
        said = server.call_workers("take_weights", str(folder.absolute()), version)
        wrong = [word for word in said if word != OK]
        if not wrong:
            server.post("/reset_prefix_cache", {})
    except (ServerGone, EngineError) as error:
        return str(error)
    if NOT_SEEN in wrong:
        return f"it does not see {folder}; set engine.weights_folder to a folder that both share"
    return wrong[0] if wrong else ""


def _ask_version(server: Server, version: str) -> str:
    """Return why a server cannot be used with a version of the weights, or an empty text."""
    try:
        said = server.call_workers("tell_version")
    except (ServerGone, EngineError) as error:
        return str(error)
    return "" if all(word == version for word in said) else "it has other weights"


def _weights_folder(engine: ServerEngine, folder: str) -> Path:
    """The folder of weights: a temporary one, removed with the engine, unless one is set."""
    if folder:
        return Path(folder)
    path = tempfile.mkdtemp(prefix="sesa-weights-")
    weakref.finalize(engine, shutil.rmtree, path, ignore_errors=True)
    return Path(path)


# ---- checks ----


def _check_servers(servers: Sequence[Server], policy: "Policy", cfg: EngineConfig) -> bool:
    """Check that every server has the policy's model; returns whether its heads are padded.

    Raises:
        SettingError: in one line, for one that has not, or cannot be reached.
    """
    config, is_wide = policy.model.config, False
    for server in servers:
        try:
            [found, *_] = server.call_workers("describe_model")
            [model, *_] = server.get("/v1/models")["data"]
        except (ServerGone, EngineError, LookupError, TypeError, ValueError) as error:
            raise SettingError(
                f"engine.urls names {server.url}, which is no server that can be used ({error}). "
                "Start it with sesa-agent serve --model M and wait until it is ready."
            ) from None
        for name in SHAPE:
            if found[name] != getattr(config, name, None):
                raise SettingError(
                    f"engine.urls must serve the model of model.path, but {server.url} has "
                    f"{name} {found[name]}, not {getattr(config, name, None)}. Start it with "
                    "sesa-agent serve --model and the same model."
                )
        positions = getattr(config, "max_position_embeddings", None) or 2**31
        longest = min(cfg.max_prompt_tokens + cfg.max_new_tokens, positions)
        if (model.get("max_model_len") or longest) < longest:
            raise SettingError(
                f"engine.max_prompt_tokens and engine.max_new_tokens need {longest} tokens, and "
                f"{server.url} has {model['max_model_len']}. Start it with --max-tokens {longest}."
            )
        is_wide = found["head_dim"] != head_dim(config)
    return is_wide


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _common_token(device: torch.device) -> str:
    """Return a random text that is the same on every rank."""
    token = torch.tensor([secrets.randbits(62)], device=device)
    if torch.distributed.is_initialized():
        torch.distributed.broadcast(token, 0)
    return f"{int(token):016x}"
