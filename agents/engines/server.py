"""Generates on vLLM servers, on other GPUs or machines: `engine.name=server`.

Token ids go out and come in with their log-probabilities; weights go as `handover.py` says. A
server that does not answer is left out until the next update; its open requests go to the others.
Completions are not excluded: callers ask again for what repeats.
"""

import secrets
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...configs.errors import SettingError
from ...configs.schema import EngineConfig
from ..response_text import ResponseDecoder
from .base import Completion, EngineError, SamplingParams, Usage, generate_by_streaming
from .handover import ask_version, own_rank, pass_folder, send_weights
from .hf_batch import end_ids
from .server_client import Server, ServerGone, split_urls
from .server_worker import SHAPE
from .vllm_engine import named_weights
from .vllm_head_padding import head_dim, widen_config

if TYPE_CHECKING:
    from ..policy import Policy

MAX_OPEN = 256
"""Requests of this process that are open at once."""


class ServerEngine:
    """Samples responses with vLLM servers.

    Args:
        policy: the model and its tokenizer.
        cfg: with `urls`, `handover` and `weights_folder`.

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
        self._folder = None if cfg.handover == "network" else _folder(self, cfg.weights_folder)
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
        weights = named_weights(policy, self._is_wide)
        if self._folder is None:
            send_weights(self._servers, weights, version, policy.model.device)
        else:
            config = widen_config(policy.model.config) if self._is_wide else policy.model.config
            pass_folder(self._servers, weights, config, self._folder, version)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        for server in self._servers if own_rank() else ():
            server.why_gone = ask_version(server, version)
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
        future = self._pool.submit(self._ask, body, own_rank() + self._num_requests)
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


def _folder(engine: ServerEngine, folder: str) -> Path:
    """The folder of weights: a temporary one, removed with the engine, unless one is set."""
    if folder:
        return Path(folder)
    path = tempfile.mkdtemp(prefix="sesa-weights-")
    weakref.finalize(engine, shutil.rmtree, path, ignore_errors=True)
    return Path(path)


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


def _common_token(device: torch.device) -> str:
    """Return a random text that is the same on every rank."""
    token = torch.tensor([secrets.randbits(62)], device=device)
    if torch.distributed.is_initialized():
        torch.distributed.broadcast(token, 0)
    return f"{int(token):016x}"
