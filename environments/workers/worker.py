"""What runs in a worker process: it makes calls into one environment, behind a guard.

The guard's time limit, which needs a main thread, ends most hangs here. The parent ends the others,
and learns it when an environment has crashed its process. A worker ends with its parent, however
that dies, and takes along what its environment has started.
"""

import faulthandler
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import gymnasium
import numpy as np

from ..adapters.adapter import TextAdapter
from ..adapters.guard import PARTS, EnvError, GuardedEnv, close_env
from ..descriptions import describe_error
from .states import CHANGES, Request, Result, Setup, num_calls

GRACE_S = 2.0
"""Seconds after a time limit in which a process that hangs is ended."""
PLAIN = (str, bytes, bool, int, float, type(None), np.ndarray, np.generic)
"""Types of values in `info` that are passed on, also in lists, tuples and dicts."""


def main(connection: Connection) -> None:
    """Answer requests until the parent hangs up."""
    _detach()
    setup: Setup = cloudpickle.loads(connection.recv_bytes())
    for env_id, spec in setup.specs.items():
        if env_id not in gymnasium.registry:
            with suppress(Exception):  # making the environment says that it is missing
                gymnasium.registry[env_id] = cloudpickle.loads(spec)
    host = Host(setup, connection)
    with suppress(EOFError, OSError):
        while True:
            host.answer(pickle.loads(connection.recv_bytes()))
    host.drop()
    os.killpg(0, signal.SIGKILL)  # with all that the environment has left behind


def _detach() -> None:
    """Leave the terminal: its Ctrl-C is for the parent, and its screen. End with the parent."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


class Host:
    """Holds the live environment of a worker.

    Args:
        setup: what it needs to make it.
        connection: to the parent.
    """

    def __init__(self, setup: Setup, connection: Connection):
        self.setup, self.connection = setup, connection
        self.env: GuardedEnv | None = None
        """The live environment."""
        self.is_new = False
        """Whether it was made and not used yet."""
        self.is_copied = False
        """Whether it is one of several copies, which may share what it holds."""

    def answer(self, request: Request | None) -> None:
        """Answer one request; None asks to close the environment.

        Sent are a "copy" if one is asked for, "ready" when the environment is where the call is to
        be made, and "done" or "error".
        """
        if request is None:
            self.drop()
            self._send("done", None)
            return
        try:
            if request.copies_first:
                self._send("copy", self._copy())
            with _last_resort(self.setup.step_timeout * num_calls(request)):
                self._begin(request)
            self._send("ready", None)
            with _last_resort(self.setup.step_timeout):
                result = self._call(*request.call)
            self._send("done", result)
        except EnvError as error:
            self.drop()
            self._send("error", str(error))
        except OSError:  # the parent hung up
            raise
        except Exception as error:  # what cannot be sent
            self.drop()
            self._send("error", f"{request.call[0]} failed in a worker: {describe_error(error)}")

    def drop(self) -> None:
        """Close the live environment."""
        if self.env is not None:
            close_env(self.env)
        self.env = None

    def _send(self, kind: str, value: Any) -> None:
        self.connection.send_bytes(cloudpickle.dumps((kind, value)))

    def _copy(self) -> bytes | None:
        """A copy of the live environment, or None if it holds something outside of the process."""
        if self.env is None or self.env.max_instances:
            return None
        try:
            copy = self.env.to_bytes()
        except EnvError:
            return None
        self.is_copied = True
        return copy

    def _begin(self, request: Request) -> None:
        """Bring the environment to where the call is to be made."""
        if isinstance(request.start, bytes):
            self._load(request.start)
            self.is_new, self.is_copied = False, True
        elif self.env is None or (request.start == "new" and not self._is_as_new()):
            self._make(self.setup.build)
        shown = None
        for call in request.replay:
            value = self._call(*call).value
            shown = value[0] if value else shown
        if None not in (shown, request.shown) and shown != request.shown:
            raise EnvError(
                "a replay of its actions led to another observation, so the episode does not "
                "follow from its seed"
            )

    def _load(self, data: bytes) -> None:
        """Replace the live environment by a copy."""
        returns: list[float] = []

        def load() -> Any:
            env, episode_return = cloudpickle.loads(data)
            returns.append(episode_return)
            return env

        self._make(load)
        assert self.env is not None
        self.env.episode_return = returns[0]

    def _is_as_new(self) -> bool:
        return self.env is not None and (self.is_new or self.env.is_reusable)

    def _make(self, build: Any) -> None:
        """Replace the live environment."""
        if self.env is not None and self.is_copied:
            self.env.forget()
        self.drop()
        try:
            self.env = GuardedEnv(build, self.setup.step_timeout, success=self.setup.success)
        except EnvError:
            raise
        except Exception as error:
            raise EnvError(f"making it raised {describe_error(error)}") from error
        self.env.build = self.setup.build
        self.is_new, self.is_copied = True, False

    def _call(self, kind: str, value: Any) -> Result:
        """Make one call into the environment."""
        env = self.env
        assert env is not None
        if kind == "parts":
            return Result(_parts(env))
        if kind == "read":
            read = env.canonical_action
            return Result(None if read is None else read(value))
        if kind == "answer":
            play = env.scripted_action
            return Result(None if play is None else play(value))
        if kind == "render":
            return Result(env.render())
        if kind == "generator":
            return Result(env.np_random)
        if kind == "content":
            tell, self.is_new = env.puzzle_content, False  # it may reset the environment
            return Result(None if tell is None else tell(value))
        assert kind in CHANGES
        self.is_new = False
        if kind == "np_random":
            env.np_random = value
            return Result(None)
        given = env.step(value) if kind == "step" else env.reset(seed=value[0], options=value[1])
        key = env.state_key() if env.has_state_key else None  # pyright: ignore[reportCallIssue]
        value = (*given[:-1], plain(given[-1]))
        return Result(value, key, env.is_deterministic, env.reports_success)


def _parts(env: GuardedEnv) -> dict[str, Any]:
    """The optional parts of the contract, as a guard has read them."""
    game = env.unwrapped
    is_adapter = isinstance(game, TextAdapter) and type(game).read_action is TextAdapter.read_action
    return {name: getattr(env, name) for name in PARTS} | {"reads_anywhere": is_adapter}


def plain(value: Any) -> Any:
    """Leave out of `info` what only the environment's own process can use.

    >>> plain({"score": (1, 2.5), "game": object(), "seen": {"door": None}})
    {'score': (1, 2.5), 'seen': {'door': None}}
    """
    if isinstance(value, dict):
        items = {name: plain(item) for name, item in value.items() if isinstance(name, PLAIN)}
        return {name: item for name, item in items.items() if item is not _LEFT_OUT}
    if isinstance(value, list | tuple):
        items, kind = [plain(item) for item in value], list if isinstance(value, list) else tuple
        return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else kind(items)
    holds_objects = isinstance(value, np.ndarray) and value.dtype.hasobject
    return value if isinstance(value, PLAIN) and not holds_objects else _LEFT_OUT


_LEFT_OUT = object()


@contextmanager
def _last_resort(limit_s: float) -> Iterator[None]:
    """End the process if a block hangs in compiled code and the parent, too, has died; 0: never."""
    if limit_s:
        faulthandler.dump_traceback_later(limit_s + 2 * GRACE_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
