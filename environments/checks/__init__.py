"""The conformance suite for text environments, ours and yours: `check_text_env(env)`.

An environment of your own needs only a three-line test:

    def test_my_env():
        check_text_env(gymnasium.make("my_pkg:MyEnv-v0"), actions=["north", "south"])

`run_checks` returns the finding of each check; `sesa-agent check-env` shows them.
"""

import copy
import math
import re
import time
from collections.abc import Callable, Sequence

from ..adapters.guard import EnvError, GuardedEnv
from ..descriptions import describe_error
from ..text_env import TextSpec, text_spec
from .copies import check_forks, check_noise, check_seeding, check_siblings, check_state_key
from .fork_cost import check_fork_cost
from .play import (
    check_api,
    check_episode_end,
    check_info,
    check_pictures,
    check_rewards,
    check_speed,
)
from .side_effects import check_side_effects, process_state
from .subject import (
    CheckFailed,
    Finding,
    OutOfTime,
    Subject,
    TextEnvironment,
    skipped,
    time_budget,
    warned,
)
from .texts import check_actions, check_garbage, check_observations

CHECKS: dict[str, Callable[[Subject], Finding]] = {
    "api": check_api,
    "observations": check_observations,
    "actions": check_actions,
    "garbage": check_garbage,
    "rewards": check_rewards,
    "info": check_info,
    "seeding": check_seeding,
    "episode end": check_episode_end,
    "forks": check_forks,
    "siblings": check_siblings,
    "noise": check_noise,
    "state key": check_state_key,
    "side effects": check_side_effects,
    "pictures": check_pictures,
    "fork cost": check_fork_cost,
    "speed": check_speed,
}
"""Every check, in the order they run."""
NEEDS = {
    "episode end": ("seeding",),
    "forks": ("seeding",),
    "siblings": ("forks",),
    "noise": ("siblings",),
    "state key": ("noise",),
    "fork cost": ("siblings",),
    "speed": ("forks",),
}
"""Checks that must pass first for a check to be meaningful; every check also needs "api"."""
TIMED = ("fork cost", "speed")
"""Checks of time, which depends on the machine."""


STEP_TIMEOUT_S = 60.0
"""Seconds in which a call must return, for an environment that is not guarded."""


def run_checks(
    env: TextEnvironment,
    num_episodes: int = 3,
    seed: int = 0,
    actions: Sequence[str] | None = None,
    count_tokens: Callable[[str], int] | None = None,
    checks: Sequence[str] = tuple(CHECKS),
    seconds: float = math.inf,
    before: Callable[[str], None] = lambda _: None,
    after: Callable[[str, float], None] = lambda *_: None,
) -> dict[str, Finding]:
    """Check an environment; nothing that the environment does makes this raise.

    Args:
        env: the environment, with or without wrappers.
        num_episodes: episodes to play in each check, each on a different puzzle.
        seed: the first puzzle.
        actions: texts that the environment can read, to be played at random. By default the
            examples of its `text_spec`, else the comma-separated names in `text_spec.actions`.
        count_tokens: length of a text in a model's tokens, reported beside its characters.
        checks: which of `CHECKS` to run.
        seconds: time of each check; one that is not done by then warns that it found nothing yet.
        before: called with the name of each check before it runs.
        after: called with its name and the seconds that it took.

    Returns:
        The findings by the name of the check, in the order of `CHECKS`.
    """
    given, process = env, process_state()
    try:
        guarded = _guarded(env)
    except EnvError as error:
        refused = Finding("failed", f"{error}.", "Reading an attribute must not fail.")
        return {name: skipped("needs api") if name != "api" else refused for name in checks}
    listed, are_all = _listed_actions(guarded)
    subject = Subject(
        guarded,
        given,
        actions or listed,
        are_all and not actions,
        range(seed, seed + num_episodes),
        process,
        count_tokens,
    )
    findings: dict[str, Finding] = {}
    for name in CHECKS:
        if name not in checks:
            continue
        before(name)
        started = time.monotonic()
        with time_budget(seconds):
            findings[name] = _find(name, subject, findings)
        after(name, time.monotonic() - started)
    return _with_causes(findings)


def _with_causes(findings: dict[str, Finding]) -> dict[str, Finding]:
    """Name the first of several checks that failed for one reason, instead of the same advice."""
    first: dict[str, str] = {}
    for name, found in findings.items():
        cause = _CAUSE.search(found.seen) if found.status == "failed" else None
        if cause is None:
            continue
        earlier = first.setdefault(cause[1], name)
        if earlier != name:
            findings[name] = Finding("failed", f"{found.seen} The cause is that of {earlier!r}.")
    return findings


_CAUSE = re.compile(r" (raised .*|took longer than .*)", re.DOTALL)
"""What a call did, in a finding that begins with the call."""


def _guarded(env: TextEnvironment) -> GuardedEnv:
    """Guard the environment, but let invalid values through to the check that reports them."""
    if isinstance(env, GuardedEnv):
        guarded = copy.copy(env)
    else:
        guarded = GuardedEnv(lambda: env, STEP_TIMEOUT_S, can_replay=False)
    guarded.checks_values = False
    return guarded


def _listed_actions(env: TextEnvironment) -> tuple[list[str], bool]:
    """Return the actions that the environment lists, and whether there are no others."""
    spec = text_spec(env)
    if not isinstance(spec, TextSpec) or not isinstance(spec.actions, str):
        return [""], False  # the "api" check reports what is wrong
    return spec.listed_actions(), not spec.examples


def _find(name: str, subject: Subject, earlier: dict[str, Finding]) -> Finding:
    """Run one check, unless a check that it builds on did not pass."""
    for need in ("api", *NEEDS.get(name, ())):
        if need in earlier and earlier[need].status not in ("passed", "warned"):
            return skipped(f"needs {need}")
    try:
        return CHECKS[name](subject)
    except CheckFailed as failure:
        return Finding("failed", failure.seen, failure.advice)
    except OutOfTime:
        return warned("no fault found before its time was over", "Give it more: --seconds.")
    except Exception as error:  # of a value's own methods, such as the comparison of two keys
        advice = "Return plain values of Python: str, float, bool, a dict; keys of tuples."
        return Finding("failed", f"What it returned raised {describe_error(error)}.", advice)


def check_text_env(
    env: TextEnvironment, num_episodes: int = 3, seed: int = 0, actions: Sequence[str] | None = None
) -> None:
    """Check that an environment keeps the text contract: every check except those of time.

    Args:
        env: the environment, with or without wrappers.
        num_episodes: episodes to play in each check, each on a different puzzle.
        seed: the first puzzle.
        actions: as in `run_checks`.

    Raises:
        AssertionError: if a check fails; the message says what is wrong and how to fix it.
    """
    names = [name for name in CHECKS if name not in TIMED]
    findings = run_checks(env, num_episodes, seed, actions, checks=names)
    failed = {name: found for name, found in findings.items() if found.status == "failed"}
    if failed:
        lines = [f"{name}: {found.seen} {found.advice}" for name, found in failed.items()]
        raise AssertionError("\n".join(lines))
