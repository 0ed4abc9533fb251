"""A worker process as its parent sees it: started, asked, and killed if it does not answer."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import cloudpickle

from ..adapters.guard import EnvError
from . import worker
from .states import Request, Result, Setup, num_calls

START_S = 120.0
"""Seconds in which a new process must be ready; the first one imports gymnasium."""
END_S = 5.0
"""Seconds in which an environment may close before its process is ended."""
_starting = threading.Lock()


class WorkerProcess:
    """Starts a worker.

    Args:
        setup: what it needs to make the environment.

    Raises:
        EnvError: if it cannot be started.
    """

    def __init__(self, setup: bytes, step_timeout: float):
        self.step_timeout, self._start_s = step_timeout, START_S
        context: Any = multiprocessing.get_context(_start_method())
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=worker.main, args=(theirs,), name="environment")
        with _starting, _without_main():
            if hasattr(context, "set_forkserver_preload"):
                context.set_forkserver_preload([worker.__name__])
            self.process.start()
        theirs.close()
        self.connection.send_bytes(setup)

    def ask(self, request: Request, what: str, keep: Callable[[bytes | None], None]) -> Result:
        """Make a call.

        Args:
            request: the call.
            what: the call, in words.
            keep: is given the copy that was asked for, or None if none could be made.

        Raises:
            EnvError: if the environment fails; if it hung or crashed, the process has ended.
        """
        self._send(cloudpickle.dumps(request), what)
        if request.copies_first:
            keep(self._receive(1, what)[1])
        kind, value = self._receive(num_calls(request), "a replay" if request.replay else what)
        if kind == "ready":
            kind, value = self._receive(1, what)
        if kind == "error":
            raise EnvError(value)
        return value

    def close_env(self) -> None:
        """Close its live environment, if it has one.

        Raises:
            EnvError: if that hangs or crashes; the process has ended.
        """
        self._send(pickle.dumps(None), "close()")
        self._receive(1, "close()")

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self.connection.closed and self.process.is_alive()

    def hang_up(self) -> None:
        """Let it close its environment and end."""
        self.connection.close()

    def kill(self) -> None:
        """End it now, with all that its environment has started. A call under way then fails."""
        if self.process.is_alive():
            with suppress(OSError):
                os.killpg(self.process.pid or 0, signal.SIGKILL)
            self.process.kill()
        self.process.join(END_S)

    def join(self) -> None:
        """Wait for its end after `hang_up`, and kill it if that takes too long."""
        self.process.join(END_S)
        self.kill()

    def _send(self, data: bytes, what: str) -> None:
        try:
            self.connection.send_bytes(data)
        except OSError:
            raise self._crash(what) from None

    def _receive(self, calls: int, what: str) -> tuple[str, Any]:
        """Wait for an answer as long as some calls may take."""
        limit_s = max(1, calls) * self.step_timeout + worker.GRACE_S + self._start_s
        try:
            if not self.connection.poll(limit_s if self.step_timeout else None):
                self.kill()
                times = f"{calls} times " if calls > 1 else ""
                seconds = f"env.step_timeout={self.step_timeout:g} seconds"
                raise EnvError(f"{what} took longer than {times}{seconds}; its process was ended")
            data = self.connection.recv_bytes()
        except (EOFError, OSError):
            raise self._crash(what) from None
        self._start_s = 0.0
        try:
            return pickle.loads(data)
        except Exception as error:
            raise EnvError(f"{what} returned what no other process can use: {error!r}") from error

    def _crash(self, what: str) -> EnvError:
        self.kill()
        return EnvError(f"{what} ended its process ({_describe_end(self.process.exitcode)})")


def _describe_end(code: int | None) -> str:
    """Say how a process ended.

    >>> _describe_end(-11), _describe_end(3)
    ('signal SIGSEGV', 'exit code 3')
    """
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _start_method() -> str:
    """A server that forks starts a worker in milliseconds and has none of our threads."""
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    return "forkserver" if has_server else "spawn"


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module: a new process would run a script again that has no `__main__` guard.

    What an environment needs of it is sent by value.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def setup_bytes(setup: Setup) -> bytes:
    """What a worker must know, as it is sent."""
    return cloudpickle.dumps(setup)
