"""Confines an environment's failures to its own trajectory.

A third-party environment may raise, hang, print or return invalid values at any step of a run that
takes days. `GuardedEnv` is the only way to it. It turns all of this into one exception, `EnvError`,
which samplers record as the end of that trajectory. It also records seed and actions, so that an
environment that cannot be copied is forked by replaying them.

What may hang is limited by `time_limit.py`, what changes the process is undone by
`process_state.py`, what is returned is checked by `returned.py`. Not survived: a crash of the
process, and compiled code that never returns; worker processes survive these too (`workers/`).

Every environment that is made, copied or replayed is closed: by `close()`, or when its guard is
dropped, or when the process ends.
"""

import copy
import random
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import gymnasium
import numpy as np

from ...configs.errors import SettingError
from .. import text_env
from ..copying import shallow_copy
from ..descriptions import describe_error
from ..success import find_success, reported_success, reward_threshold
from ..time_limit import TimeUp, time_limit
from ..tools.tool import Tool
from .copy_times import CopyTimes
from .process_state import kept_process
from .returned import (
    InvalidValue,
    checked_content,
    checked_copy,
    checked_key,
    checked_reset,
    checked_step,
    checked_text,
    same_state,
)

Result = TypeVar("Result")
Step = tuple[str, float, bool, bool, dict[str, Any]]
"""What `step` returns, as plain values."""
PARTS: dict[str, Callable[[gymnasium.Env[Any, Any]], Any]] = {
    "text_spec": text_env.text_spec,
    "tool_specs": text_env.tool_specs,
    "max_steps": text_env.max_steps,
    "num_targets": text_env.num_targets,
    "num_puzzles": text_env.num_puzzles,
    "is_deterministic": text_env.is_deterministic,
    "is_fully_observed": text_env.is_fully_observed,
    "has_state_key": text_env.has_state_key,
    "has_action_reader": lambda env: text_env.action_reader(env) is not None,
    "has_player": lambda env: text_env.scripted_player(env) is not None,
    "has_puzzle_content": lambda env: text_env.puzzle_content(env) is not None,
    "own_fork_kind": text_env.fork_kind,
    "is_reusable": text_env.is_reusable,
    "max_instances": text_env.max_instances,
    "name": lambda env: str(env.spec.id if env.spec else type(env.unwrapped).__name__),
    "reward_threshold": reward_threshold,
}
"""Attributes of a guard, and how they are read from its environment."""
BUILD_CALLS = 10
"""Making an environment may take as long as this many calls: it may load data."""


class EnvError(Exception):
    """An environment raised, hung or returned an invalid value."""


def close_env(env: gymnasium.Env[Any, Any]) -> None:
    """Close an environment that is done with, whether or not it can be closed."""
    with suppress(EnvError):
        env.close()


class _Copies:
    """Counts the plain copies (`copy.deepcopy`) of an environment that are open.

    They may share what it holds by name, such as a folder, so only the last one is closed. An
    environment that copies itself, or is replayed, holds things of its own each time.
    """

    def __init__(self, num_open: int = 0):
        self.num_open = num_open

    def is_last(self) -> bool:
        """Count one that is done with; return whether it was the last."""
        self.num_open -= 1
        return self.num_open == 0


def _close(env: gymnasium.Env[Any, Any], copies: _Copies, step_timeout: float) -> None:
    """Close the environment of a guard that was dropped; whatever goes wrong is its own affair."""
    if copies.is_last():
        with suppress(Exception, TimeUp, SystemExit), kept_process(set()), time_limit(step_timeout):
            env.close()


class GuardedEnv(gymnasium.Wrapper[str, str, Any, Any]):
    """Plays an environment that may fail at any time.

    Every method raises `EnvError`, and nothing else, if the environment fails. A Ctrl-C still
    interrupts. The optional parts of the contract are read once and are then attributes of the
    guard (`PARTS`).

    Args:
        build: makes the environment; called again for each replay.
        step_timeout: seconds in which each call must return; 0 for no limit.
        can_replay: whether `build` makes a new environment each time.
        success: the rule for success, as the setting `env.success` gives it; empty for what the
            environment says (`success.py`).

    Raises:
        Exception: any that `build` raises; if it hangs or wants to exit, an `EnvError`.
        SettingError: if `success` is no rule.
    """

    def __init__(
        self,
        build: Callable[[], gymnasium.Env[Any, Any]],
        step_timeout: float,
        can_replay: bool = True,
        success: str = "",
    ):
        self.build, self.step_timeout, self.can_replay = build, step_timeout, can_replay
        self.changes: set[str] = set()
        """What the environment changed in the process and the guard undid."""
        self.checks_values = True
        """Whether invalid return values raise; the conformance checks switch this off."""
        self.copy_error = ""
        """Why the environment cannot be copied, if it cannot."""
        self.copy_times = CopyTimes()
        """Whether copies or replays are faster, for environments that can be replayed safely."""
        self._log: list[tuple[str, Any]] = []
        """Everything since the last seed: resets, actions, random generators."""
        self._key: Hashable = None
        self.reports_success = False
        """Whether the environment has said in any step whether it succeeded."""
        self.episode_return = 0.0
        """Sum of the rewards since the last reset."""
        env = self._make()
        super().__init__(env)
        self._own(env, _Copies())
        try:
            self._read_parts()
            self.success = find_success(success, self.reward_threshold)
            """How the success of a step is found."""
        except (EnvError, SettingError):
            self._closer()
            raise

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start a puzzle; the first one always gets a seed, from which it can be replayed."""
        if seed is None and not self._log:
            seed = int(np.random.default_rng().integers(2**31))
        self._log = [] if seed is not None else self._log
        self._log.append(("reset", (seed, options)))
        self.episode_return = 0.0

        def start() -> Any:
            result: Any = self.env.reset(seed=seed, options=options)
            self.is_deterministic = text_env.is_deterministic(self.env)
            return self._with_key(checked_reset(result)) if self.checks_values else result

        return self._try(f"reset(seed={seed})", start)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one action."""
        self._log.append(("step", action))

        def play() -> Any:
            result: Any = self.env.step(action)
            if not self.checks_values:
                return result
            return self._with_key(self._with_success(checked_step(result)))

        return self._try(f"step({action[:50]!r})", play)

    def _with_success(self, step: Step) -> Step:
        """Write into the `info` of a step whether it succeeded."""
        observation, reward, terminated, truncated, info = step
        self.episode_return += reward
        self.reports_success |= reported_success(info) is not None
        info["success"] = self.success.of_step(
            reward, self.episode_return, terminated, truncated, info
        )
        return step

    def render(self) -> Any:
        """Return the picture."""
        return self._try("render()", self.env.render)

    def close(self) -> None:
        """Close the environment, once. Of plain copies only the last one is closed (`_Copies`)."""
        if self._closer.detach() and self._copies.is_last():
            self._try("close()", self.env.close)

    def _own(self, env: gymnasium.Env[Any, Any], copies: "_Copies") -> None:
        """Play `env` from now on, and close it at the end."""
        self.env, self._copies = env, copies
        copies.num_open += 1
        self._closer = weakref.finalize(self, _close, env, copies, self.step_timeout)

    def __str__(self) -> str:
        return self.name

    # ---- the optional parts of the contract (`text_env.py`) ----

    is_guard = True
    text_spec: text_env.TextSpec | None
    tool_specs: tuple[Tool, ...]
    max_steps: int | None
    num_targets: int
    num_puzzles: Mapping[str, int]
    is_deterministic: bool
    is_fully_observed: bool | None
    has_state_key: bool
    has_action_reader: bool
    has_player: bool
    has_puzzle_content: bool
    own_fork_kind: str
    is_reusable: bool
    max_instances: int
    name: str
    reward_threshold: float | None

    def _read_parts(self) -> None:
        """Read them all, so that none can fail or change later."""
        for name, read in PARTS.items():
            setattr(self, name, self._try(name, partial(read, self.env)))
        for name in ("observation_space", "action_space", "metadata"):
            setattr(
                self, f"_{name}", self._try(name, lambda name=name: getattr(self.env, name, None))
            )

    @property
    def canonical_action(self) -> Callable[[str], str | None] | None:
        """Returns the canonical spelling of an action; None if the environment has no reader."""
        return self._canonical_action if self.has_action_reader else None

    def _canonical_action(self, text: str) -> str | None:
        def spell() -> str | None:
            read = text_env.action_reader(self.env)
            canonical = None if read is None else read(text)
            if canonical is None or not self.checks_values:
                return canonical
            return checked_text(canonical, "action, or None")

        return self._try(f"canonical_action({text[:50]!r})", spell)

    @property
    def scripted_action(self) -> text_env.ScriptedPlayer | None:
        """Answers as a player would; None if the environment has no player."""
        return self._scripted_action if self.has_player else None

    def _scripted_action(self, rng: random.Random) -> str | None:
        def answer() -> str | None:
            play = text_env.scripted_player(self.env)
            given = None if play is None else play(rng)
            return None if given is None else checked_text(given, "answer, or None")

        return self._try("scripted_action()", answer)

    @property
    def puzzle_content(self) -> Callable[[int], text_env.Content | None] | None:
        """Tells the puzzle of a seed; None if the environment has no such method.

        The environment must be reset after it.
        """
        return self._puzzle_content if self.has_puzzle_content else None

    def _puzzle_content(self, seed: int) -> text_env.Content | None:
        def read() -> text_env.Content | None:
            tell = text_env.puzzle_content(self.env)
            return None if tell is None else checked_content(tell(seed))

        return self._try(f"puzzle_content({seed})", read)

    @property
    def state_key(self) -> Callable[[], Hashable]:
        """Returns the key of the state; there is none if the environment has none."""
        if not self.has_state_key:
            raise AttributeError("state_key")
        return self._state_key

    def _state_key(self) -> Hashable:
        if self.checks_values:
            return self._key
        return self._try("state_key()", lambda: text_env.state_key(self.env))

    def _with_key(self, result: Result) -> Result:
        """Read the key along with the state, so that it cannot fail later."""
        if self.has_state_key:
            self._key = checked_key(text_env.state_key(self.env))
        return result

    @property
    def np_random(self) -> np.random.Generator:
        """The environment's random generator."""
        return self._try("np_random", lambda: self.env.np_random)

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._log.append(("np_random", copy.deepcopy(value)))
        self._try("np_random", lambda: setattr(self.env, "np_random", value))

    # ---- copies ----

    @property
    def fork_kind(self) -> str:
        """How it is forked, as `fork_kind(env)` says; a deepcopy is tried to find out."""
        if self.own_fork_kind == "deepcopy" and not self.copy_error:
            self._copy_or_none()
        is_replayed = self.copy_error or self._prefers_replay()
        return "replay" if is_replayed else self.own_fork_kind

    def fork(self) -> "GuardedEnv":
        """Copy the environment and its record."""
        env, shares = None, False
        if self.own_fork_kind != "deepcopy":
            env = self._copy()
        elif (env := self._same_state_replay()) is None and not self.copy_error:
            env = self._copy_or_none()
            shares = env is not None
        twin = shallow_copy(self)
        twin._own(
            self.replay(self._log) if env is None else env, self._copies if shares else _Copies()
        )
        twin._log = list(self._log)
        return twin

    def _copy(self) -> gymnasium.Env[Any, Any]:
        return self._try("a fork", lambda: checked_copy(text_env.fork(self.env), self.env))

    def _copy_or_none(self) -> gymnasium.Env[Any, Any] | None:
        start = time.perf_counter()
        try:
            env = self._copy()
            self.copy_times.copy_s = time.perf_counter() - start
            return env
        except EnvError as error:
            if not self.can_replay:
                raise
            self.copy_error = str(error)
            return None

    def _prefers_replay(self) -> bool:
        has_proof = self.can_replay and self.is_deterministic and self.has_state_key
        return has_proof and not self.copy_error and self.copy_times.prefers_replay(len(self._log))

    def _same_state_replay(self) -> gymnasium.Env[Any, Any] | None:
        """Replay where that is faster than a copy and provably the same; otherwise None."""
        if not self._prefers_replay():
            return None
        times, start = self.copy_times, time.perf_counter()
        try:
            env = self.replay(self._log)
            times.replay_s, times.num_calls = time.perf_counter() - start, len(self._log)
            times.is_wrong = not self._try("state_key()", lambda: same_state(self.env, env))
        except EnvError:
            times.is_wrong = True
            return None
        if times.is_wrong:
            _close(env, _Copies(num_open=1), self.step_timeout)
            return None
        return env

    def replay(self, log: Sequence[tuple[str, Any]]) -> gymnasium.Env[Any, Any]:
        """Make a new environment and bring it to where a record of calls leads."""

        def replay() -> gymnasium.Env[Any, Any]:
            env = self.build()
            try:
                for kind, value in log:
                    if kind == "reset":
                        env.reset(seed=value[0], options=value[1])
                    elif kind == "step":
                        env.step(value)
                    else:
                        env.np_random = copy.deepcopy(value)
            except BaseException:
                with suppress(Exception):
                    env.close()
                raise
            return env

        return self._try("a replay", replay, BUILD_CALLS + len(log))

    def to_bytes(self) -> bytes:
        """Pickle the environment and its return so far, for a process like this one."""
        if self.own_fork_kind == "deepcopy" and not self.copy_error:
            self._copy_or_none()  # what refuses a deepcopy holds something outside of the process
        if self.copy_error:
            raise EnvError(self.copy_error)
        import cloudpickle  # only worker processes need it

        return self._try("a copy", lambda: cloudpickle.dumps((self.env, self.episode_return)))

    def forget(self) -> None:
        """Let go of the environment without closing it: its copies may share what it holds."""
        self._closer.detach()

    # ---- every call ----

    def _make(self) -> gymnasium.Env[Any, Any]:
        def make() -> gymnasium.Env[Any, Any] | Exception:
            try:
                return self.build()
            except Exception as error:  # the caller says what is wrong with the options
                return error

        made = self._try("making it", make, BUILD_CALLS)
        if isinstance(made, Exception):
            raise made
        return made

    def _try(self, what: str, call: Callable[[], Result], num_calls: int = 1) -> Result:
        """Call into the environment.

        Args:
            what: the call, in words.
            call: makes it.
            num_calls: how many times `step_timeout` it may take.
        """
        limit = time_limit(num_calls * self.step_timeout)
        try:
            with kept_process(self.changes), limit:
                try:
                    return call()
                except BaseException as error:  # SystemExit, CancelledError, its own kinds
                    if limit.stop is not None:
                        raise
                    if isinstance(error, InvalidValue):
                        raise EnvError(f"{what} {error}") from None
                    raise EnvError(f"{what} raised {describe_error(error)}") from error
        except TimeUp:
            times = f"{num_calls} times " if num_calls > 1 else ""
            seconds = f"env.step_timeout={self.step_timeout:g} seconds"
            raise EnvError(f"{what} took longer than {times}{seconds}") from None
