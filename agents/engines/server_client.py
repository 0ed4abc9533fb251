"""A client for one vLLM server: completions with token ids, and calls of its workers.

The server is started by `sesa-agent serve`, whose worker extension is `server_worker.py`.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from ...configs.errors import SettingError, check, first_line
from ...configs.json_text import read_json
from .base import EngineError

TIMEOUT_S = 600.0
"""Seconds in which a request must be answered."""
ATTEMPTS = 3
"""Times that a request is sent before its server counts as gone."""
PAUSE_S = 0.5
"""Seconds before the second attempt; the pause doubles."""


class ServerGone(Exception):
    """A server does not answer; another one may."""


class Server:
    """A vLLM server.

    Args:
        url: such as http://localhost:8000.

    Raises:
        SettingError: if the URL is malformed.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        advice = "Separate several by commas."
        check(is_url and "@" not in url, "engine.urls", url, "as http://localhost:8000", advice)
        self.url = url.rstrip("/")
        self.why_gone = ""
        """Why it is not used at present; empty while it is."""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a completion request; returns its only choice.

        Raises:
            ServerGone: if the server does not answer.
            EngineError: if it refuses the request.
        """
        return self._part(self.post("/v1/completions", body), "choices")[0]

    def call_workers(self, method: str, *args: Any) -> list[Any]:
        """Call a method of `server_worker.Worker` in every worker; returns what each says.

        Raises:
            ServerGone: if the server does not answer.
            EngineError: if it refuses, for instance because it was not started by `serve`.
        """
        body = {"method": method, "args": list(args)}
        return self._part(self.post("/collective_rpc", body), "results")

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send a request until it is answered; an empty answer is None.

        Raises:
            ServerGone: if the server does not answer.
            EngineError: if it refuses the request.
        """
        return self._send(path, json.dumps(body).encode())

    def get(self, path: str) -> Any:
        """As `post`, without a body."""
        return self._send(path, None)

    def _part(self, answer: Any, name: str) -> list[Any]:
        """Return a list in an answer."""
        found = answer.get(name) if isinstance(answer, dict) else None
        if not (isinstance(found, list) and found):
            raise ServerGone(f"an answer without {name}")
        return found

    def _send(self, path: str, data: bytes | None) -> Any:
        reason, pause = "", PAUSE_S
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(pause)
                pause *= 2
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(self.url + path, data, headers)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                    text = response.read()
                    return read_json(text) if text else None
            except urllib.error.HTTPError as error:
                said = _said(error)
                if error.code < 500:
                    raise EngineError(f"{self.url}{path} refuses a request: {said}.") from None
                reason = said
            except TimeoutError:
                raise ServerGone(f"no answer within {TIMEOUT_S:g} s") from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = first_line(getattr(error, "reason", error)) or type(error).__name__
        raise ServerGone(reason)


def _said(error: urllib.error.HTTPError) -> str:
    """What a server says about an error, in one line."""
    try:
        with error:
            text = error.read(10_000).decode(errors="replace")
        body = read_json(text.encode())
        text = str(body["error"]["message"])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        text = ""
    return f"HTTP {error.code} {' '.join(text.split())[:200]}".strip()


def split_urls(text: str) -> list[Server]:
    """Return the servers of `engine.urls`.

    Raises:
        SettingError: if there is none, or a URL is malformed or repeated.
    """
    urls = [word.strip() for word in text.split(",") if word.strip()]
    if not urls:
        raise SettingError(
            "engine.urls must name a server with engine.name=server, got ''. Start one with "
            "sesa-agent serve --model M, then engine.urls=http://localhost:8000."
        )
    servers = [Server(url) for url in urls]
    is_set = len({server.url for server in servers}) == len(servers)
    check(is_set, "engine.urls", text, "a list of different servers")
    return servers
