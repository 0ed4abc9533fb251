"""A server with the part of vLLM's interface that `engine.name=server` uses, on transformers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.engines.server_worker import NOT_SEEN, OK, SHAPE
from sesa_agent.agents.engines.vllm_head_padding import head_dim
from sesa_agent.agents.engines.weight_stream import WeightStream, join_meeting
from sesa_agent.agents.policy import Policy


class GenerationServer:
    """Serves a model of its own; tests may break it.

    Args:
        model: folder or name of the model.
    """

    def __init__(self, model: Any):
        self.policy = Policy.load(str(model), device="cpu")
        self.version = ""
        self.num_completions = 0
        self.versions: list[str] = []
        """Of the weights that gave each completion."""
        self.dies_after: int | None = None
        """Completions after which connections are closed without an answer."""
        self.sees_folders = self.sees_sender = True
        self.dies_at_weight = 0
        """The weight at which it leaves a stream; 0 for none."""
        self.context = 0
        """Its `max_model_len`; 0 if it says none."""
        self.url = ""
        self._lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> Any:
        """Answer a request."""
        with self._lock:
            if path == "/collective_rpc":
                return {"results": [getattr(self, body["method"])(*body["args"])]}
            if path == "/v1/models":
                return {"data": [{"id": "sesa", "max_model_len": self.context or None}]}
            if path == "/v1/completions":
                return {"choices": [self.complete(body)]}
            return None

    def describe_model(self) -> dict[str, Any]:
        """As `server_worker.Worker`."""
        config = self.policy.model.config
        found = {name: getattr(config, name) for name in SHAPE}
        return found | {"head_dim": head_dim(config), "device": "cpu"}

    def take_weights(self, folder: str, version: str) -> str:
        """As `server_worker.Worker`."""
        if not self.sees_folders:
            return NOT_SEEN
        weights = {}
        for path in Path(folder).glob("*.safetensors"):
            weights |= load_file(path)
        self.load(weights)
        self.version = version
        return OK

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Load all weights, of which tied ones may be missing."""
        found = self.policy.model.load_state_dict(weights, strict=False)
        assert not found.unexpected_keys and set(found.missing_keys) <= {"lm_head.weight"}

    def receive_weights(
        self, address: str, port: int, size: int, backend: str, version: str
    ) -> str:
        """As `server_worker.Worker`."""
        if not self.sees_sender:
            return "RuntimeError: no route to host"
        meeting = join_meeting(address, port, size, backend)
        weights = {}
        for name, weight in WeightStream(meeting, 1, torch.device("cpu")).receive():
            weights[name] = weight
            if len(weights) == self.dies_at_weight:
                return "it broke"
        self.load(weights)
        self.version = version
        return OK

    def tell_version(self) -> str:
        """As `server_worker.Worker`."""
        return self.version

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Sample a response."""
        self.num_completions += 1
        self.versions.append(self.version)
        params = SamplingParams(
            temperature=body["temperature"],
            top_p=body["top_p"],
            max_new_tokens=body["max_tokens"],
            stop=tuple(body["stop"]),
            seed=body["seed"] % 2**63,
        )
        [done] = HFEngine(self.policy).generate([body["prompt"]], params)
        return {
            "prompt_token_ids": body["prompt"],
            "token_ids": list(done.token_ids),
            "logprobs": {"token_logprobs": list(done.logprobs)},
            "finish_reason": "length" if done.finish_reason == "length" else "stop",
            "stop_reason": "a text" if done.finish_reason == "stop" else None,
        }

    @property
    def is_dead(self) -> bool:
        """Whether it closes connections without an answer."""
        return self.dies_after is not None and self.num_completions >= self.dies_after


@contextmanager
def generating(model: Any) -> Iterator[GenerationServer]:
    """Run a server for a model on a free port."""
    server = GenerationServer(model)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            if server.is_dead:
                return
            text = server.answer(self.path, body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"" if text is None else json.dumps(text).encode())

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
