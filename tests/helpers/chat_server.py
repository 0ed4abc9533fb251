"""A real chat completions server in a thread, which can be made to fail in many ways.

Its model is a function from a request to a text; `policy_replies` makes one of a real model.
"""

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy

Fault = Callable[["Handler"], None]


class ChatServer(ThreadingHTTPServer):
    """Answers with `reply`, once the queued `faults` are used up, one per request."""

    def __init__(self, reply: Callable[[dict[str, Any]], str | None]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.faults: deque[Fault | None] = deque()
        self.always: Fault | None = None
        """A fault for every request."""
        self.finish_reason = "stop"
        self.counts_tokens = True
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.paths: list[str] = []
        self.closing = threading.Event()
        self.num_open = self.most_open = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that gave up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: ChatServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.paths_seen()
        self.send(200, {})

    def paths_seen(self) -> None:
        self.server.paths.append(self.path)

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            self.paths_seen()
            server.bodies.append(body)
            server.headers.append(dict(self.headers.items()))
            server.times.append(time.monotonic())
            fault = server.always or (server.faults.popleft() if server.faults else None)
            server.num_open += 1
            server.most_open = max(server.most_open, server.num_open)
        try:
            if fault:
                fault(self)
            else:
                self.answer(server.reply(body))
        finally:
            with server.lock:
                server.num_open -= 1

    def answer(self, text: Any) -> None:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": self.server.finish_reason}
        usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
        counted = {"usage": usage} if self.server.counts_tokens else {}
        self.send(200, {"object": "chat.completion", "choices": [choice], **counted})

    def send(self, status: int, body: Any, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def status(code: int, message: str = "something", **headers: str) -> Fault:
    body = {"error": {"message": message, "type": "error"}}
    return lambda handler: handler.send(code, body, **headers)


def body(raw: Any) -> Fault:
    return lambda handler: handler.send(200, raw)


def text(content: Any) -> Fault:
    return lambda handler: handler.answer(content)


def hang(handler: Handler) -> None:
    handler.server.closing.wait(60)


def trickle(handler: Handler) -> None:
    """An answer that never ends, sent byte by byte: no single read takes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b" ")


def drop(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """Break the connection off, as a crashed server does."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True


def half(handler: Handler) -> None:
    """Stop in the middle of the body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def echo(code: int) -> Fault:
    """An error that repeats the headers it was sent, as debug pages do."""
    return lambda handler: status(code, f"got {dict(handler.headers.items())}")(handler)


@contextmanager
def serving(reply: Callable[[dict[str, Any]], str | None]) -> Iterator[ChatServer]:
    server = ChatServer(reply)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def policy_replies(policy: Policy) -> Callable[[dict[str, Any]], str]:
    """The replies of a real model under its own chat template, without stop strings."""
    engine, chat, lock = HFEngine(policy), ChatFormat(policy.tokenizer), threading.Lock()

    def reply(body: dict[str, Any]) -> str:
        system, question = body["messages"]
        params = SamplingParams(body["temperature"], max_new_tokens=body["max_tokens"])
        with lock:
            prompt = chat.opening(system["content"], question["content"])
            (completion,) = engine.generate([prompt], params)
        return policy.tokenizer.decode(completion.token_ids, skip_special_tokens=True)

    return reply
