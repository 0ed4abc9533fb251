"""The parts of an environment: which of them copies share, which change, what their copies cost."""

import copy
import hashlib
import pickle
import time
from collections.abc import Iterator
from typing import Any

from ..copying import layers, listed_names, listed_parts, shared_parts
from .subject import TextEnvironment, require


def fingerprint(value: Any) -> str:
    """Return a text that changes when a value changes; empty if the value cannot be pickled."""
    try:
        return hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:  # whatever its classes raise; such a value is not compared
        return ""


def listed_attributes(env: TextEnvironment) -> dict[str, Any]:
    """Return what the layers of an environment list in `shared_on_fork`, by name.

    Raises:
        CheckFailed: if there is no such attribute.
    """
    listed: dict[str, Any] = {}
    for layer in layers(env):
        found = listed_parts(layer)
        missing = [name for name in listed_names(layer) if name not in found]
        require(
            not missing,
            f"shared_on_fork lists {', '.join(map(repr, missing))}, which is no attribute.",
            "List names of attributes of the environment, as a tuple.",
        )
        listed |= found
    return listed


def copied_attributes(env: TextEnvironment) -> Iterator[tuple[str, Any, float]]:
    """Yield each attribute of all layers that a deep copy copies, and the seconds that it takes."""
    held = list(layers(env))
    memo = {id(layer): layer for layer in held}
    for layer in held:
        memo.update(shared_parts(layer))
    for layer in held:
        for name, value in vars(layer).items():
            if id(value) not in memo:
                yield name, value, _seconds_to_copy(value, memo)


def _seconds_to_copy(value: Any, memo: dict[int, Any]) -> float:
    start = time.perf_counter()
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:  # whatever its classes raise; then the environment has no deep copy either
        return 0.0
    return time.perf_counter() - start
