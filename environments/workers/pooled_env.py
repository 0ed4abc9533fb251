"""An environment in worker processes, as samplers see it: `PooledEnv`."""

import random
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import gymnasium
import numpy as np

from .. import text_env
from ..adapters.adapter import AnyText
from ..success import find_success
from ..tools.tool import Tool
from .pool import WorkerPool
from .states import Result, State


class PooledEnv(gymnasium.Env[str, str]):
    """A state of an environment; calls are made in any free worker. Copies cost nothing.

    It has the interface of `GuardedEnv`: every method raises `EnvError` if the environment fails,
    and the optional parts of the contract are attributes.

    Args:
        pool: the workers.

    Raises:
        EnvError: if the environment cannot be made.
    """

    is_guard = True
    fork_kind = "fork"
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}
    text_spec: text_env.TextSpec | None
    max_steps: int | None
    num_targets: int
    num_puzzles: Mapping[str, int]
    is_deterministic: bool
    has_state_key: bool
    has_action_reader: bool
    has_player: bool
    has_puzzle_content: bool
    is_fully_observed: bool | None
    tool_specs: tuple[Tool, ...]
    reward_threshold: float | None
    is_reusable: bool
    max_instances: int
    name: str

    def __init__(self, pool: WorkerPool):
        self.pool = pool
        self._state: State | None = None
        self._key: Hashable = None
        self.observation_space, self.action_space = AnyText(), AnyText()
        for name, part in pool.parts.items():
            setattr(self, name, part)
        self.success = find_success(pool.success, self.reward_threshold)
        self.reports_success = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start a puzzle; the first one always gets a seed, from which it can be replayed."""
        if seed is None and self._state is None:
            seed = int(np.random.default_rng().integers(2**31))
        before = self._state if seed is None else None
        call = ("reset", (seed, options))
        result, self._state = self.pool.advance(before, call, f"reset(seed={seed})")
        return self._took(result)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one action."""
        what = f"step({action[:50]!r})"
        result, self._state = self.pool.advance(self._state, ("step", action), what)
        return self._took(result)

    def render(self) -> Any:
        """Return the picture."""
        return self.pool.look(self._state, ("render", None), "render()")

    def close(self) -> None:
        """Let go of the state; the pool closes the environment when its worker has other work."""
        self._state = None

    def fork(self) -> "PooledEnv":
        """Copy the environment."""
        if self._state is not None:
            self._state.is_shared = True
        return text_env.shallow_copy(self)

    def __str__(self) -> str:
        return self.name

    @property
    def canonical_action(self) -> Callable[[str], str | None] | None:
        """Returns the canonical spelling of an action; None if the environment has no reader."""
        return self._canonical_action if self.has_action_reader else None

    def _canonical_action(self, text: str) -> str | None:
        return self.pool.read(self._state, text, f"canonical_action({text[:50]!r})")

    @property
    def scripted_action(self) -> text_env.ScriptedPlayer | None:
        """Answers as a player would; None if the environment has no player."""
        return self._scripted_action if self.has_player else None

    def _scripted_action(self, rng: random.Random) -> str | None:
        own = random.Random(rng.getrandbits(64))  # a worker cannot advance that of the caller
        return self.pool.look(self._state, ("answer", own), "scripted_action()")

    @property
    def puzzle_content(self) -> Callable[[int], text_env.Content | None] | None:
        """Tells the puzzle of a seed; None if the environment has no such method."""
        return self._puzzle_content if self.has_puzzle_content else None

    def _puzzle_content(self, seed: int) -> text_env.Content | None:
        return self.pool.look(None, ("content", seed), f"puzzle_content({seed})")

    @property
    def state_key(self) -> Callable[[], Hashable]:
        """Returns the key of the state; there is none if the environment has none."""
        if not self.has_state_key:
            raise AttributeError("state_key")
        return lambda: self._key

    @property
    def np_random(self) -> np.random.Generator:
        """The environment's random generator."""
        return self.pool.look(self._state, ("generator", None), "np_random")

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._state = State(self._state, ("np_random", value))  # set when it is needed

    def _took(self, result: Result) -> Any:
        self._key, self.is_deterministic = result.key, result.is_deterministic
        self.reports_success |= result.reports_success
        return result.value
