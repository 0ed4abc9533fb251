"""The check of what a fork costs, and what to do where that is too much.

A tree forks its environment before every action that it tries, so that a slow fork makes every
step slow.
"""

import random
import statistics
import time

from ..text_env import fork_kind
from .parts import copied_attributes, fingerprint
from .subject import Finding, Subject, fork_env, passed, play, reset, step, warned

FORK_KINDS = {
    "fork": "its own fork()",
    "state": "get_state() and set_state()",
    "deepcopy": "copy.deepcopy",
    "replay": "a replay of the actions",
}
"""What `fork_kind` returns, in words."""
SLOW_FORK_MS = 2.0
"""A fork that takes longer is worth a change, in milliseconds."""
NUM_FORKS = 20
"""Maximum number of forks to time."""
MAX_SECONDS = 1.0
"""Time after which no more forks are timed, in seconds."""
LARGE_SHARE = 0.1
"""Share of a fork's time from which an attribute is worth naming."""
NUM_ACTIONS = 50
"""Number of actions in search of attributes that change."""


def check_fork_cost(subject: Subject) -> Finding:
    """A fork takes at most 2 ms."""
    fork_ms, step_ms = _measure(subject)
    kind = fork_kind(subject.env)
    seen = (
        f"a fork by {FORK_KINDS[kind]} takes {_rounded(fork_ms)} ms, "
        f"as long as {_rounded(fork_ms / step_ms)} steps"
    )
    if fork_ms <= SLOW_FORK_MS:
        return passed(seen)
    large = _large_unchanged(subject) if subject.env.own_fork_kind == "deepcopy" else {}
    if not large:
        advice = "Write fork(), or get_state() and set_state(state), which copy only the state."
        return warned(seen, advice)
    names = ", ".join(map(repr, large))
    seen += f"; {sum(large.values()):.0%} of a copy is {names}, which no checked step changed"
    return warned(
        seen,
        f"If no step ever changes that, let forks share it: shared_on_fork = ({names},) in the "
        "class of the environment or of its TextAdapter.",
    )


def _rounded(number: float) -> str:
    return f"{float(f'{number:.2g}'):,g}"


def _measure(subject: Subject) -> tuple[float, float]:
    """Return the medians of the times of a fork and of a step, in milliseconds."""
    env, rng = subject.env, random.Random(0)
    forks: list[float] = []
    steps: list[float] = []
    reset(env, subject.seeds[0])
    started = time.perf_counter()
    while len(forks) < NUM_FORKS and (not forks or time.perf_counter() - started < MAX_SECONDS):
        start = time.perf_counter()
        twin = fork_env(env)
        middle = time.perf_counter()
        is_end = step(twin, rng.choice(subject.actions)).is_end
        forks.append(middle - start)
        steps.append(time.perf_counter() - middle)
        if not is_end:
            env = twin
    return 1000 * statistics.median(forks), 1000 * statistics.median(steps)


def _large_unchanged(subject: Subject) -> dict[str, float]:
    """Return the attributes that take long to copy and did not change: their shares by name."""
    env = subject.env
    reset(env, subject.seeds[0])
    attributes = list(copied_attributes(env.env))
    total = sum(seconds for _, _, seconds in attributes)
    large = [
        (name, value, seconds / total, fingerprint(value))
        for name, value, seconds in attributes
        if seconds >= LARGE_SHARE * total > 0
    ]
    for seed in subject.seeds:
        play(env, random.Random(seed).choices(subject.actions, k=NUM_ACTIONS))
        reset(env, seed + 1)
    return {name: share for name, value, share, old in large if old and fingerprint(value) == old}
