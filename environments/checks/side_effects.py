"""The check of what an environment changes in its process, which also trains the policy."""

import locale
import os
import random
import threading
from typing import Any

import numpy as np

from ..time_limit import WATCH_NAME
from .subject import Finding, Subject, passed, random_steps, warned

ODD_SEED = 271828182
ADVICE = (
    "Keep to the environment itself, and draw random numbers from self.np_random. Training undoes "
    "some of this after each call."
)


def process_state() -> dict[str, frozenset[Any]]:
    """Return what an environment should leave alone and no guard puts back."""
    threads = (thread for thread in threading.enumerate() if thread.name != WATCH_NAME)
    return {
        "the environment variables": frozenset(os.environ.items()),
        "the locale": frozenset([locale.setlocale(locale.LC_ALL)]),
        "the running threads": frozenset(threads),
    }


def check_side_effects(subject: Subject) -> Finding:
    """Playing changes nothing outside of the environment."""
    changed = {"the global random generators"} if _draws_globally(subject) else set[str]()
    after = process_state()
    changed |= {name for name in after if after[name] - subject.process[name]}
    changed |= subject.env.changes
    if not changed:
        return passed("the process is as before")
    return warned(f"playing changed {', '.join(sorted(changed))}", ADVICE)


def _draws_globally(subject: Subject) -> bool:
    """Play, and return whether that changed the generators of `random` and `numpy.random`."""
    outside = random.getstate(), np.random.get_state()
    random.seed(ODD_SEED)  # a state that seeding in the environment does not lead to
    np.random.seed(ODD_SEED)
    try:
        before = _generators()
        for _ in random_steps(subject, max_steps=10):
            pass
        return _generators() != before
    finally:
        random.setstate(outside[0])
        np.random.set_state(outside[1])


def _generators() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state())
