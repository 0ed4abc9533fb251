"""Decides whether an environment is played in worker processes (`env.workers=auto`)."""

import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium

from ..adapters.guard import EnvError
from ..text_env import fork_kind, is_guarded, max_instances, text_spec

NUM_WORKERS = 8
"""Workers of an environment that needs some."""
SLOW_S = 0.01
"""Seconds for a reset or a step above which it is slow: a worker adds about a millisecond."""
NUM_TRIES = 2
"""A slow call is tried again: the first one may have loaded something."""


def choose_workers(env: gymnasium.Env[Any, Any], num_ranks: int = 1) -> tuple[int, str]:
    """Choose the number of worker processes by playing an environment a little.

    Args:
        env: the environment; it is reset and stepped.
        num_ranks: processes that train together; they share the instances that may live.

    Returns:
        The number, 0 to play it in this process, and the reason in words.
    """
    if not is_guarded(env):  # our own games
        return 0, ""
    most = max_instances(env)
    if most:
        return allowed_workers(
            NUM_WORKERS, env, num_ranks
        ), f"at most {most} of it may live at once"
    reset_s, step_s = _clock(env)
    if max(reset_s, step_s) > SLOW_S:
        what, seconds = ("reset", reset_s) if reset_s > step_s else ("step", step_s)
        return NUM_WORKERS, f"a {what} takes {seconds:.2g} s"
    fork_kind(env)  # tries a copy
    if getattr(env, "copy_error", ""):
        return NUM_WORKERS, "it cannot be copied"
    return 0, ""


def allowed_workers(num_workers: int, env: gymnasium.Env[Any, Any], num_ranks: int = 1) -> int:
    """Limit a number of workers to the instances of an environment that may live at once."""
    most = max_instances(env)
    return min(num_workers, max(1, most // num_ranks)) if most else num_workers


def _clock(env: gymnasium.Env[Any, Any]) -> tuple[float, float]:
    """The seconds of a reset and of a step; an environment that fails is as fast as it fails."""
    spec = text_spec(env)
    action = spec.listed_actions()[0] if spec else ""
    reset_s = step_s = math.inf
    for seed in range(NUM_TRIES):
        reset_s = min(reset_s, _seconds(lambda seed=seed: env.reset(seed=seed)))
        step_s = min(step_s, _seconds(lambda: env.step(action)))
        if max(reset_s, step_s) <= SLOW_S:
            break
    return reset_s, step_s


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    try:
        call()
    except EnvError:
        pass
    return time.perf_counter() - start
