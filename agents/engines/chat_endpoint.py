"""A client for one OpenAI-style endpoint: sends a `chat/completions` request until it is answered.

Temporary failures are retried: 429, 5xx, timeouts, broken connections, malformed bodies. Permanent
ones (a wrong key, a wrong model, a refused request) raise `SettingError` at once. An empty answer
counts as an answer. The key is sent in the header and appears nowhere else: it is removed from
everything the server says, and redirects, which would forward it, are not followed.
"""

import http.client
import json
import math
import random
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ...configs.errors import SettingError, check
from ...configs.json_text import read_json

LONGEST_PAUSE_S = 60.0
"""Waits between attempts double up to this."""
LONGEST_RETRY_AFTER_S = 300.0
"""If the server asks for a longer wait, the call fails instead of being retried."""
LARGEST_BODY = 32 * 2**20
"""Most bytes that are read of a response; real answers are far shorter."""
REFUSED = (400, 404, 405, 413, 422)
"""Statuses for which a retry is pointless; so it is for 401, 403 and 3xx."""
SHORTEST_SECRET = 8
"""In characters. A shorter key is a placeholder such as EMPTY and is not removed from answers."""


@dataclass(frozen=True)
class Answer:
    """One response of the model."""

    text: str
    finish_reason: str
    """In the server's words: `stop`, `length`, `content_filter`, ..."""
    prompt_tokens: int | None
    """Counted by the server; None if it does not count."""
    response_tokens: int | None


class CallFailed(Exception):
    """A call got no answer after all its attempts; the message says why."""


class _TryAgain(Exception):
    """An attempt failed in a way that may be temporary."""

    def __init__(self, reason: str, wait_s: float = 0.0):
        super().__init__(reason)
        self.wait_s = wait_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Do not follow a redirect, so that its status is reported."""


class Endpoint:
    """A chat completions endpoint; `ask` may be called from several threads.

    Args:
        base_url: URL up to and including `/v1`, as in the server's documentation.
        key: the secret; empty for servers without one.
        key_name: name of the key in messages to the user.
        timeout_s: seconds in which an attempt must be answered.
        requests_per_minute: attempts are spaced evenly to respect this; 0 for no limit.
        max_attempts: number of times a request is sent before its call counts as failed.
        pause_s: seconds before the second attempt; the pause doubles each time and is shortened by
            a random part of up to one half.

    Raises:
        SettingError: if the URL or the key is malformed.
    """

    def __init__(
        self,
        base_url: str,
        key: str = "",
        key_name: str = "the key",
        timeout_s: float = 60.0,
        requests_per_minute: float = 0.0,
        max_attempts: int = 7,
        pause_s: float = 1.0,
    ):
        _check_url(base_url)
        self.base_url = base_url.rstrip("/")
        self.key_name, self.timeout_s = key_name, timeout_s
        self.max_attempts, self.pause_s = max_attempts, pause_s
        self._key = key.strip()
        if not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            raise SettingError(f"{key_name} must hold a key, without spaces and in ASCII.")
        self._was_reached = False
        self._pace = _Pace(requests_per_minute)
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, body: dict[str, Any]) -> Answer:
        """Send a request until it is answered.

        Args:
            body: the request as JSON values.

        Raises:
            CallFailed: if every attempt failed.
            SettingError: in one line, if the server refuses the request.
        """
        pause, reason = self.pause_s, ""
        for attempt in range(self.max_attempts):
            self._pace.wait()
            try:
                return self._attempt(json.dumps(body).encode())
            except _TryAgain as failure:
                reason = str(failure)
                if failure.wait_s > LONGEST_RETRY_AFTER_S:
                    raise CallFailed(
                        f"{reason}, and the server asked to wait {failure.wait_s:.0f} s"
                    ) from None
                self._pace.hold(failure.wait_s)
                if attempt + 1 < self.max_attempts:
                    time.sleep(random.uniform(pause / 2, pause))
                pause = min(2 * pause, LONGEST_PAUSE_S)
        raise CallFailed(f"{reason} ({self.max_attempts} attempts)")

    def _attempt(self, data: bytes) -> Answer:
        headers = {"Content-Type": "application/json", "User-Agent": "sesa-agent"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self.base_url}/chat/completions"
        request = urllib.request.Request(url, data, headers)
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                self._was_reached = True
                return self._read_answer(_read_body(response, self.timeout_s))
        except urllib.error.HTTPError as error:
            self._was_reached = True
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            # URLError wraps the real cause.
            raise self._breakdown(getattr(error, "reason", error)) from None

    def _breakdown(self, cause: Any) -> Exception:
        """Return the exception to raise for a failed connection."""
        if isinstance(cause, TimeoutError):
            return _TryAgain(f"no answer within {self.timeout_s:g} s")
        said = self._clean(str(getattr(cause, "strerror", None) or type(cause).__name__))
        is_wrong = isinstance(cause, ssl.SSLCertVerificationError)
        is_absent = isinstance(cause, (ConnectionRefusedError, socket.gaierror))
        if is_wrong or (is_absent and not self._was_reached):
            return SettingError(
                f"--base-url {self.base_url} cannot be reached: {said}. Is the server running?"
            )
        return _TryAgain(f"a broken connection ({said})")

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """Return the exception to raise for a status other than 200."""
        status, said = error.code, ""
        try:
            with error:
                said = self._clean(_error_message(_read_body(error, self.timeout_s)))
        except (OSError, http.client.HTTPException, _TryAgain):
            pass  # the status says enough
        reason = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        if status in (401, 403):  # the server's message is not shown: it may repeat half the key
            url, name = self.base_url, self.key_name
            if self._key:
                return SettingError(f"--base-url {url} refuses the key in {name} (HTTP {status}).")
            return SettingError(
                f"--base-url {url} wants a key (HTTP {status}), and {name} is not set in the "
                "environment. Set it, or name another variable by --api-key-env."
            )
        if status == 404:
            return SettingError(
                f"--base-url {self.base_url} has no such model or no chat/completions ({reason}). "
                "It usually ends in /v1; check the server's list of models."
            )
        if status in REFUSED or status < 400:
            return SettingError(
                f"--base-url {self.base_url} refuses the request ({reason}). "
                "--request changes what is sent."
            )
        return _TryAgain(reason, _retry_after(error.headers.get("Retry-After", "")))

    def _read_answer(self, raw: bytes) -> Answer:
        try:
            body = read_json(raw)
            choice = body["choices"][0]
            text = choice["message"].get("content")
            usage = body.get("usage") or {}
        except (ValueError, LookupError, TypeError, AttributeError):
            said = self._clean(_error_message(raw))
            raise _TryAgain("a body that is no answer" + (f": {said}" if said else "")) from None
        if not (text is None or isinstance(text, str)):
            raise _TryAgain("an answer that is no text")
        return Answer(
            text=self._hide(text or ""),
            finish_reason=self._clean(str(choice.get("finish_reason") or "")),
            prompt_tokens=_count(usage, "prompt_tokens"),
            response_tokens=_count(usage, "completion_tokens"),
        )

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "***") if len(self._key) >= SHORTEST_SECRET else text

    def _clean(self, text: str) -> str:
        """Shorten a server's message to one line, without the key and control characters."""
        line = " ".join(self._hide(text).split())
        return "".join(letter for letter in line if letter.isprintable())[:200].rstrip(".")


class _Pace:
    """Spaces the attempts of all threads, and delays all of them if the server asks for a pause."""

    def __init__(self, per_minute: float):
        self.gap_s = 60.0 / per_minute if per_minute else 0.0
        self.next_start = 0.0
        self.lock = threading.Lock()

    def wait(self) -> None:
        """Sleep until this thread's turn."""
        with self.lock:
            start = max(time.monotonic(), self.next_start)
            self.next_start = start + self.gap_s
        time.sleep(max(0.0, start - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Let no attempt start for some seconds."""
        with self.lock:
            self.next_start = max(self.next_start, time.monotonic() + seconds)


def _check_url(base_url: str) -> None:
    """Refuse a malformed URL; the message does not repeat one with a password."""
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        secret = "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError:
        fits, secret = False, "@" in base_url
    if secret:
        raise SettingError(
            "--base-url must be without user, password and query. A key belongs in the environment."
        )
    fits = fits and base_url.isascii() and base_url.isprintable() and " " not in base_url
    check(fits, "--base-url", base_url, "a URL such as http://localhost:8000/v1")


def _read_body(response: Any, timeout_s: float) -> bytes:
    """Read a body within the time limit, even if the server sends it byte by byte."""
    deadline, body = time.monotonic() + timeout_s, b""
    while chunk := response.read1(2**16):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(body) > LARGEST_BODY:
            raise _TryAgain(f"a body of more than {LARGEST_BODY} bytes")
    missing = getattr(response, "length", None)  # read1 does not report a body that ends early
    if missing:
        raise http.client.IncompleteRead(body, missing)
    return body


def _error_message(raw: bytes) -> str:
    """Return what the server says about an error: its JSON message, else its plain text."""
    try:
        body = read_json(raw)
        error = body.get("error", body)
        message = error if isinstance(error, str) else error["message"]
        return str(message)
    except (ValueError, LookupError, TypeError, AttributeError):
        text = raw[:10_000].decode(errors="replace")
        return "" if "<" in text else text  # a page of HTML is no use in a terminal


def _retry_after(text: str) -> float:
    """Return the seconds of a Retry-After header, given as a number or a date; 0 if neither.

    >>> _retry_after("7"), _retry_after("soon"), _retry_after("Wed, 21 Oct 2015 07:28:00 GMT")
    (7.0, 0.0, 0.0)
    """
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else None
