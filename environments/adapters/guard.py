"""Confines an environment's failures to its own trajectory.

A third-party environment may raise, hang, print or return invalid values at any step of a run that
takes days. `GuardedEnv` turns all of this into one exception, `EnvError`, which samplers record as
the end of that trajectory; whatever it prints to `sys.stdout` is discarded. It also records seed
and actions, so that an environment that cannot be copied is forked by replaying them.

Limits: those of `time_limit.py`; output of compiled code is shown; a crash of the process cannot be
caught.
"""

import copy
import io
import math
import traceback
from collections.abc import Callable, Hashable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import numpy as np

from ..text_env import action_reader, fork, fork_kind, has_state_key, state_key
from ..time_limit import TimeUp, time_limit

Result = TypeVar("Result")
TEXT_LIMIT = 300
"""Length of an error in messages, in characters."""


class EnvError(Exception):
    """An environment raised, hung or returned an invalid value."""


class GuardedEnv(gymnasium.Wrapper[str, str, Any, Any]):
    """Plays an environment that may fail at any time.

    Every method raises `EnvError`, and nothing else, if the environment fails.

    Args:
        build: makes the environment; called again for each replay.
        step_timeout: seconds in which each call must return; 0 for no limit.
    """

    def __init__(self, build: Callable[[], gymnasium.Env[Any, Any]], step_timeout: float):
        with redirect_stdout(_Nowhere()):
            super().__init__(build())
        self.build, self.step_timeout = build, step_timeout
        self.checks_values = True
        """Whether invalid return values raise; the conformance checks switch this off."""
        self.cannot_be_copied = False
        self._log: list[tuple[str, Any]] = []
        """Everything since the last seed: resets, actions, random generators."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start a puzzle; the first one always gets a seed, from which it can be replayed."""
        if seed is None and not self._log:
            seed = int(np.random.default_rng().integers(2**31))
        self._log = [] if seed is not None else self._log
        self._log.append(("reset", (seed, options)))
        return self._try(f"reset(seed={seed})", lambda: self._reset(self.env, seed, options))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one action."""
        self._log.append(("step", action))
        return self._try(f"step({action[:50]!r})", lambda: self._step(self.env, action))

    def render(self) -> Any:
        """Return the picture."""
        return self._try("render()", self.env.render)

    def canonical_action(self, text: str) -> str | None:
        """Return the environment's canonical spelling of an action; without one, the text."""
        read = action_reader(self)
        if read is None:
            return text

        def spell() -> str | None:
            canonical = read(text)
            _require(canonical is None or isinstance(canonical, str), "a str or None", canonical)
            return canonical

        return self._try(f"canonical_action({text[:50]!r})", spell)

    @property
    def np_random(self) -> np.random.Generator:
        """The environment's random generator."""
        return self.env.np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._log.append(("np_random", copy.deepcopy(value)))
        self.env.np_random = value

    @property
    def fork_kind(self) -> str:
        """How it is forked, as `fork_kind(env)` says; a deepcopy is tried to find out."""
        kind = fork_kind(self.env)
        if kind == "deepcopy" and not self.cannot_be_copied:
            self._copy_or_none()
        return "replay" if self.cannot_be_copied else kind

    def fork(self) -> "GuardedEnv":
        """Copy the environment and its record."""
        if self.cannot_be_copied:
            env = None
        elif fork_kind(self.env) == "deepcopy":
            env = self._copy_or_none()
        else:
            env = self._try("a fork", lambda: fork(self.env))
        twin = copy.copy(self)
        twin.env = self._try("a replay", self._replay) if env is None else env
        twin._log = list(self._log)
        return twin

    def _copy_or_none(self) -> gymnasium.Env[Any, Any] | None:
        try:
            return self._try("a fork", lambda: fork(self.env))
        except EnvError:
            self.cannot_be_copied = True
            return None

    def _replay(self) -> gymnasium.Env[Any, Any]:
        env = self.build()
        for kind, value in self._log:
            if kind == "reset":
                env.reset(seed=value[0], options=value[1])
            elif kind == "step":
                env.step(value)
            else:
                env.np_random = copy.deepcopy(value)
        return env

    def _reset(self, env: gymnasium.Env[Any, Any], seed: int | None, options: Any) -> Any:
        result = env.reset(seed=seed, options=options)
        if not self.checks_values:
            return result
        is_pair = isinstance(result, tuple) and len(result) == 2
        _require(is_pair, "(observation, info)", result)
        _check_state(env, *result)
        return result

    def _step(self, env: gymnasium.Env[Any, Any], action: str) -> Any:
        result: Any = env.step(action)
        if not self.checks_values:
            return result
        wanted = "(observation, reward, terminated, truncated, info)"
        _require(isinstance(result, tuple) and len(result) == 5, wanted, result)
        observation, reward, terminated, truncated, info = result
        _check_state(env, observation, info)
        _require(math.isfinite(float(reward)), "a finite number as reward", reward)
        for flag in (terminated, truncated, info.get("success", False), info.get("legal", True)):
            _require(isinstance(flag, bool | int | np.bool_), "flags that are bool", flag)
        return observation, float(reward), bool(terminated), bool(truncated), info

    def _try(self, what: str, call: Callable[[], Result]) -> Result:
        try:
            with redirect_stdout(_Nowhere()), time_limit(self.step_timeout):
                return call()
        except TimeUp:
            limit = f"env.step_timeout={self.step_timeout:g} seconds"
            raise EnvError(f"{what} took longer than {limit}") from None
        except _InvalidValue as error:
            raise EnvError(f"{what} {error}") from None
        except (Exception, SystemExit) as error:
            raise EnvError(f"{what} raised {describe_error(error)}") from error


def _check_state(env: gymnasium.Env[Any, Any], observation: Any, info: Any) -> None:
    _require(isinstance(observation, str), "a str as observation", observation)
    _require(isinstance(info, dict), "a dict as info", info)
    if has_state_key(env):  # so that it cannot fail later, when a sampler calls it
        key = state_key(env)
        _require(isinstance(key, Hashable), "a hashable state_key()", key)
        hash(key)


def describe_error(error: BaseException) -> str:
    """Describe an exception in one line: its class, its message and where it was raised.

    >>> describe_error(KeyError("door"))
    "KeyError: 'door'"
    """
    message = " ".join(str(error).split())[:TEXT_LIMIT]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def _require(condition: bool, wanted: str, got: Any) -> None:
    if not condition:
        raise _InvalidValue(f"must return {wanted}, got {repr(got)[:TEXT_LIMIT]}")


class _InvalidValue(Exception):
    """An environment returned a value that breaks the contract."""


class _Nowhere(io.TextIOBase):
    """Discards all text written to it."""

    def write(self, text: str) -> int:
        return len(text)
