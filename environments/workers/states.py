"""States of environments that live in worker processes, and what is sent about them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cloudpickle
import gymnasium

from ..adapters.guard import BUILD_CALLS

Call = tuple[str, Any]
"""A method and its argument: "reset" (seed, options), "step" (an action), "np_random" (a generator)
change the state; "read" (a text), "content" (a seed), "render", "generator" and "parts"
(None) do not."""
CHANGES = ("reset", "step", "np_random")
"""The calls that change the state."""


class State:
    """A state of an environment that a worker can bring to life.

    Args:
        before: the state in which `call` led here; None for a new environment.
        call: that call.
    """

    __slots__ = ("before", "call", "shown", "copy", "is_shared", "__weakref__")

    def __init__(self, before: "State | None", call: Call):
        self.before, self.call = before, call
        self.shown: str | None = None
        """The observation after the call, if it gave one."""
        self.copy: bytes | None = None
        """The environment itself, if it was copied."""
        self.is_shared = False
        """Whether several environments of the parent are in this state."""

    def keep(self, copy: bytes) -> None:
        """Take over a copy, which makes the way here superfluous."""
        self.copy, self.before = copy, None


def way_to(state: State | None, live: State | None) -> tuple[State | None, list[State]]:
    """Find the nearest point from which a state can be reached.

    Args:
        state: the wanted state; None for a new environment.
        live: the state of a live environment.

    Returns:
        That point (live, or one with a copy, or None for a new environment), and the states that
        follow on it up to the wanted one, whose calls must be made again.
    """
    way: list[State] = []
    while state is not None and state is not live and state.copy is None:
        way.append(state)
        state = state.before
    return state, way[::-1]


def shown_at(way: Sequence[State]) -> str | None:
    """The last observation on the way to a state, if there was one."""
    return next((state.shown for state in reversed(way) if state.shown is not None), None)


@dataclass(frozen=True)
class Request:
    """What a worker is asked to do."""

    call: Call
    start: str | bytes
    """Where to begin: "live" (its environment as it is), "new", "any" (one of these) or a copy."""
    replay: tuple[Call, ...] = ()
    """Calls that lead from there to the state that the call is for."""
    shown: str | None = None
    """The observation after the replay, if it is known."""
    copies_first: bool = False
    """Whether to send a copy of the live environment before anything else."""


def num_calls(request: Request) -> int:
    """How many time limits the way to the call may take."""
    return len(request.replay) + (0 if request.start == "live" else BUILD_CALLS)


@dataclass(frozen=True)
class Setup:
    """What a worker must know to make the environment."""

    build: Callable[[], gymnasium.Env[Any, Any]]
    step_timeout: float
    success: str
    """The rule for success, as for `GuardedEnv`."""
    specs: Mapping[str, bytes]
    """Registrations of Gymnasium that an import might not repeat, by id, as bytes."""


def registrations(env_id: str) -> dict[str, bytes]:
    """The registration of an id, and those of other classes in its module, as bytes.

    A class or function in the main module, or made at run time, is sent by value; for the others a
    worker repeats the import.
    """
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    if spec is None:
        return {}
    module = getattr(spec.entry_point, "__module__", None)
    found = {
        other.id: other
        for other in gymnasium.registry.values()
        if module and getattr(other.entry_point, "__module__", None) == module
    }
    sent: dict[str, bytes] = {}
    for name, registered in {**found, spec.id: spec}.items():
        with suppress(Exception):  # the worker says that it is missing
            sent[name] = cloudpickle.dumps(registered)
    return sent


@dataclass(frozen=True)
class Result:
    """What a call gave."""

    value: Any
    """What the method returned."""
    key: Any = None
    """The key of the new state."""
    is_deterministic: bool = False
    reports_success: bool = False
    """Whether the environment has said so far whether it succeeded."""


def nothing() -> None:
    """A weak reference to no state."""
    return None


Reference = Callable[[], State | None]
"""Refers to a state as long as somebody else does."""
