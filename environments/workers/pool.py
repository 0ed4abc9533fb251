"""Worker processes that share the work: `WorkerPool`.

For each call the pool takes the free worker with the shortest way to the state: one that holds it
live, else one that loads a copy of it, else one that replays its actions. Before a worker leaves a
state that is still needed, it sends a copy. An environment that cannot be copied is replayed.
"""

import json
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from multiprocessing.util import Finalize
from typing import Any, TypeVar

from ...configs.errors import SettingError
from .. import build_text_env
from ..adapters.guard import EnvError
from ..descriptions import describe_error
from .process import WorkerProcess, setup_bytes
from .states import (
    CHANGES,
    Call,
    Reference,
    Request,
    Result,
    Setup,
    State,
    nothing,
    registrations,
    shown_at,
    way_to,
)

Item = TypeVar("Item")
MAX_READINGS = 100_000
"""Readings of answers that are remembered."""


class _Slot:
    """The place of one worker."""

    def __init__(self) -> None:
        self.process: WorkerProcess | None = None
        self.live: Reference = nothing
        """The state of its live environment."""
        self.has_env = False


class WorkerPool:
    """Plays an environment in worker processes, which start when they are needed.

    Args:
        setup: how the environment is made.
        num_workers: most processes, and most live environments.
    """

    reason: str = "env.workers says so"
    """Why the environment is played in workers, in words."""

    def __init__(self, setup: Setup, num_workers: int):
        self.num_workers, self.step_timeout = num_workers, setup.step_timeout
        self.success = setup.success
        self._setup = setup_bytes(setup)
        self._free = [_Slot() for _ in range(num_workers)]
        self._slots = tuple(self._free)
        self._changed = threading.Condition()
        self._can_copy = True
        self._readings: dict[str, str | None] = {}
        self._threads: ThreadPoolExecutor | None = None
        # Not `atexit`: multiprocessing waits there for its processes.
        self._finalizer = Finalize(self, _end_all, (self._slots,), exitpriority=100)

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """The optional parts of the contract, as for `GuardedEnv`.

        Raises:
            EnvError: if the environment cannot be made.
        """
        return self.look(None, ("parts", None), "making it")

    def advance(self, state: State | None, call: Call, what: str) -> tuple[Result, State]:
        """Make a call that changes the state.

        Args:
            state: before the call; stays valid. None for a new environment.
            call: the call.
            what: the call, in words.

        Raises:
            EnvError: if the environment fails, or ends its process.
        """
        assert call[0] in CHANGES
        after = State(state, call)
        result = self._run(state, call, what, after)
        after.shown = result.value and result.value[0]
        return result, after

    def look(self, state: State | None, call: Call, what: str) -> Any:
        """Make a call that does not change the state; arguments as for `advance`."""
        return self._run(state, call, what, state).value

    def read(self, state: State | None, text: str, what: str) -> str | None:
        """Return the canonical spelling of an action.

        An adapter's reading is the same in every state, so it is remembered.
        """
        if not self.parts["reads_anywhere"]:
            return self.look(state, ("read", text), what)
        if text not in self._readings:
            if len(self._readings) >= MAX_READINGS:
                self._readings.clear()
            self._readings[text] = self._run(None, ("read", text), what, None, anywhere=True).value
        return self._readings[text]

    def submit(self, work: Callable[[], Item]) -> "Future[Item]":
        """Do some work that calls into the environment in a thread of its own."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_workers, "environment")
        return self._threads.submit(work)

    def release(self) -> None:
        """Close the live environments, unless they are reused; call it between rollouts."""
        with self._changed:
            slots = [slot for slot in self._free if slot.has_env and not self.parts["is_reusable"]]
        for done in [self.submit(partial(_close_env, slot)) for slot in slots]:
            done.result()

    def kill(self) -> None:
        """End all processes now; new ones start when they are needed."""
        _kill_all(self._slots)

    def close(self) -> None:
        """Close all environments and end all processes; new ones start when they are needed."""
        _end_all(self._slots)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    def _run(
        self,
        state: State | None,
        call: Call,
        what: str,
        after: State | None,
        anywhere: bool = False,
    ) -> Result:
        """Make a call in the state, in a worker that is then in the state `after`."""
        slot = self._take(state, anywhere)
        try:
            if slot.process is None or not slot.process.is_alive:
                slot.live, slot.has_env = nothing, False
                slot.process = WorkerProcess(self._setup, self.step_timeout)
            live, slot.live = slot.live(), nothing
            request = self._request(state, live, call, anywhere)

            def keep(copy: bytes | None) -> None:
                self._can_copy = copy is not None
                if copy is not None and live is not None:
                    live.keep(copy)

            try:
                result = slot.process.ask(request, what, keep)
            except EnvError:
                slot.has_env = False  # the worker has closed it
                raise
            slot.has_env = True
            kept = live if anywhere else after
            slot.live = nothing if kept is None else weakref.ref(kept)
            return result
        finally:
            with self._changed:
                self._free.append(slot)
                self._changed.notify()

    def _request(
        self, state: State | None, live: State | None, call: Call, anywhere: bool
    ) -> Request:
        """Write down the shortest way to a state, and the call."""
        if anywhere:
            return Request(call, "any")
        begin, way = way_to(state, live)
        is_live = begin is not None and begin is live
        leaves = not is_live or bool(way) or call[0] in CHANGES
        is_needed = live is not None and live.copy is None and (not is_live or live.is_shared)
        return Request(
            call,
            "live" if is_live else "new" if begin is None or begin.copy is None else begin.copy,
            tuple(step.call for step in way),
            shown_at(way),
            copies_first=leaves and is_needed and self._can_copy,
        )

    def _take(self, state: State | None, anywhere: bool) -> _Slot:
        """Wait for a free worker and take the one with the shortest way to a state."""
        with self._changed:
            while not self._free:
                self._changed.wait()
            slot = min(self._free, key=lambda slot: _cost(slot, state, anywhere))
            self._free.remove(slot)
        return slot


def _cost(slot: _Slot, state: State | None, anywhere: bool) -> tuple[float, ...]:
    """What it takes a worker to reach a state, and then what it loses by that."""
    live = slot.live()
    if anywhere:
        return (not slot.has_env, live is not None)
    begin, way = way_to(state, live)
    is_live = begin is not None and begin is live
    steps = len(way) + (0 if is_live else 1 if begin is None else 0.5)
    loses = live is not None and not is_live and live.copy is None
    return (steps, loses, slot.process is None, live is not None)


def _close_env(slot: _Slot) -> None:
    slot.has_env, slot.live = False, nothing
    if slot.process is not None and slot.process.is_alive:
        with suppress(EnvError):
            slot.process.close_env()


def _end_all(slots: tuple[_Slot, ...]) -> None:
    """Let all workers close their environments and end."""
    processes = [slot.process for slot in slots if slot.process is not None]
    for process in processes:
        process.hang_up()
    for process in processes:
        process.join()
    for slot in slots:
        slot.process, slot.live, slot.has_env = None, nothing, False


def _kill_all(slots: tuple[_Slot, ...]) -> None:
    for slot in slots:
        if slot.process is not None:
            slot.process.kill()
        slot.live, slot.has_env = nothing, False


def make_pool(
    env_id: str,
    num_workers: int,
    *,
    step_timeout: float = 60.0,
    success_rule: str = "",
    **options: Any,
) -> WorkerPool:
    """Make worker processes that play an environment; `PooledEnv(pool)` is one in them.

    Args:
        env_id: the id, also one that is registered in the main module.
        num_workers: most processes, at least 1.
        step_timeout: as for `make_env`.
        success_rule: as for `make_env`.
        options: keyword arguments of the environment.

    Raises:
        SettingError: if the environment cannot be sent to another process.
    """
    build = partial(build_text_env, env_id, options)
    setup = Setup(build, step_timeout, success_rule, registrations(env_id))
    try:
        return WorkerPool(setup, num_workers)
    except Exception as error:  # whatever pickling raises
        raise SettingError(
            f"env.workers must be 0 for {env_id}, whose options cannot be sent to another process: "
            f"{describe_error(error)}."
        ) from error


_shared: dict[str, WorkerPool] = {}


def shared_pool(env_id: str, num_workers: int, **options: Any) -> WorkerPool:
    """The pool of this process for an environment; arguments as for `make_pool`.

    It is shared so that two policies that are measured in turn do not need twice the workers.
    """
    key = json.dumps([env_id, num_workers, options], sort_keys=True, default=repr)
    if key not in _shared:
        _shared[key] = make_pool(env_id, num_workers, **options)
    return _shared[key]


def close_pools() -> None:
    """Close all shared pools: the environments, and the processes."""
    while _shared:
        _shared.popitem()[1].close()
