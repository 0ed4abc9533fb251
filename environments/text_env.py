"""The text contract: a numeric game behind a text interface.

A `TextGame` is an ordinary Gymnasium environment (numeric observation, discrete action) that can
also describe its state as text and read an action from text. `TextEnv` turns it into the
environment that a language model plays: text in, text out, a limit on the number of actions,
`info["success"]` and `info["legal"]`. `TextEnv` is an `Env` of its own rather than a
`gymnasium.Wrapper`, because both of its spaces differ from the game's; the game stays reachable as
`env.unwrapped.game`.

Model text never raises: text that names no action leaves the state unchanged, uses up one action
and sets `info["legal"] = False`.

The functions at the end read the optional parts of the contract from any environment
(`text_spec`, `max_steps`, `state_key`, ...), so that no other file looks for its attributes.
"""

import copy
import random
import string
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, SupportsFloat, TypeVar

import gymnasium
import numpy as np
from gymnasium.spaces import Text

from ..configs.errors import SettingError, check
from .copying import copy_generator, deep_copy, layers, shallow_copy
from .descriptions import describe_value
from .tools.tool import Tool

Action = TypeVar("Action")
Game = TypeVar("Game", bound="TextGame[Any]")
ScriptedPlayer = Callable[[random.Random], str | None]
"""Answers the current state as a player would, in text; None if it has no answer. It changes
nothing, and all its random numbers come from its argument."""
Content = str | bytes
"""What makes a puzzle the same as another one."""
RenderMode = Literal["ansi", "rgb_array"] | None
"""How a `TextEnv` renders itself."""
DEFAULT_STEPS = 10
"""Actions of an episode, by default, in games of several moves."""


@dataclass(frozen=True)
class TextSpec:
    """What a player must know before the first move. Every field is one line of text."""

    instruction: str
    """The goal and the rules."""
    legend: str
    """The meaning of each symbol in the observation; empty if the observation is plain language."""
    actions: str
    """What may be answered: the action names, or the form of a free answer."""
    sketch: str = "one way to solve it"
    """What an outline of a solution says, for two-stage sampling."""
    examples: tuple[str, ...] = ()
    """Texts that can be read as actions, if `actions` is not a list of names. Only the conformance
    checks play them; players do not see them."""

    def listed_actions(self) -> list[str]:
        """Return texts that can be read as actions: the examples, else the names in `actions`.

        >>> TextSpec("Walk to the goal.", legend="", actions="Left, Right").listed_actions()
        ['Left', 'Right']
        """
        return list(self.examples) or [name.strip() for name in self.actions.split(",")]


class TextGame(gymnasium.Env[Any, Action], Generic[Action]):
    """A numeric environment with a text interface: pure rules plus these few methods."""

    text_spec: TextSpec
    """What a player is told about the game."""
    is_deterministic: bool = True
    """Whether a state and an action determine the next state."""
    is_fully_observed: bool = True
    """Whether `to_text` tells all that matters, so that prompts can leave earlier turns out."""
    num_targets: int = 0
    """Number of different answers that succeed; 0 if unknown."""
    longest_solution: int = 0
    """Number of actions that the longest puzzles take, as far as the options say; 0 if unknown."""
    num_puzzles: Mapping[str, int] = {}
    """Number of different puzzles by split (`SPLITS` in `data_files.py`), for splits with few."""
    charset: str = string.printable
    """Every character that `to_text` may use."""
    max_text_length: int = 1000
    """Length of the longest text that `to_text` may return, in characters."""
    _shares_generator = False

    @abstractmethod
    def to_text(self) -> str:
        """Describe the current state as text."""

    @abstractmethod
    def read_action(self, text: str) -> tuple[str, Action] | None:
        """Read one action: its canonical text and its number, or None if the text names no action.

        Two texts with the same canonical form are the same action; a canonical text reads as
        itself. `step` decides whether the rules allow the action and sets `info["legal"]`.
        """

    def fork(self: Game) -> Game:
        """Copy the game, so that stepping the copy leaves this one unchanged.

        Attributes are shared: a subclass that changes one of them in place must copy it here too.
        The copy keeps the state of the random generator.
        """
        self._shares_generator = True
        return shallow_copy(self)

    @property
    def np_random(self) -> np.random.Generator:
        """The random generator; forks share it until one of them uses it."""
        if self._shares_generator:
            self._np_random, self._shares_generator = copy_generator(super().np_random), False
        return super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random, self._np_random_seed = value, -1
        self._shares_generator = False

    @abstractmethod
    def state_key(self) -> Hashable:
        """Return everything that decides the future.

        Two games with the same key differ only in the number of steps taken.
        """


class TextEnv(gymnasium.Env[str, str]):
    """Plays a `TextGame` through text.

    Observation: the game's text (`Text`).
    Actions: any text (`Text`); text that cannot be read changes nothing.
    Reward: the game's. Episode end: terminated when the game ends, won or lost; truncated after
    `max_steps` actions, readable or not. Info: `success` (the game is won) and `legal` (the last
    action could be read and the rules allowed it).

    Args:
        game: the numeric environment underneath.
        max_steps: number of actions after which the episode is truncated, at least 1.
        render_mode: None, "ansi" (the observation's text) or "rgb_array" (the game's picture).

    Raises:
        ValueError: if `max_steps` is below 1.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(self, game: TextGame[Any], max_steps: int, render_mode: str | None = None):
        check(max_steps >= 1, "max_steps", max_steps, "at least 1")
        self.game = game
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.num_steps = 0
        self.text_spec = game.text_spec
        self.is_deterministic = game.is_deterministic
        self.is_fully_observed = game.is_fully_observed
        self.num_targets = game.num_targets
        self.num_puzzles = game.num_puzzles
        self.observation_space = Text(game.max_text_length, min_length=0, charset=game.charset)
        self.action_space = Text(max_length=200, min_length=0, charset=string.printable)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the puzzle of `seed`, or without a seed the generator's next one."""
        self.num_steps = 0
        _, info = self.game.reset(seed=seed, options=options)
        # The game's generator serves both; Gymnasium's checker looks for it here.
        self._np_random, self._np_random_seed = self.game._np_random, self.game._np_random_seed
        return self.game.to_text(), {**info, "success": False, "legal": True}

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Play the action that the text names."""
        self.num_steps += 1
        reading = self.game.read_action(action)
        if reading is None:
            reward, terminated, info = 0.0, False, {"success": False, "legal": False}
        else:
            _, reward, terminated, _, info = self.game.step(reading[1])
        truncated = not terminated and self.num_steps >= self.max_steps
        return self.game.to_text(), reward, terminated, truncated, info

    @property
    def np_random(self) -> np.random.Generator:
        """The game's random generator."""
        return self.game.np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self.game.np_random = value

    def render(self) -> Any:
        """Return the text ("ansi") or the picture ("rgb_array": uint8, (height, width, 3))."""
        if self.render_mode == "ansi":
            return self.game.to_text()
        return self.game.render() if self.render_mode == "rgb_array" else None

    def canonical_action(self, text: str) -> str | None:
        """Return the canonical spelling of the action that the text names, or None."""
        reading = self.game.read_action(text)
        return None if reading is None else reading[0]

    def state_key(self) -> Hashable:
        """Return the game's state, without the number of steps taken."""
        return self.game.state_key()

    @property
    def scripted_action(self) -> ScriptedPlayer:
        """The game's own player (`scripted_player`); there is none if the game has none."""
        return self.game.scripted_action  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def puzzle_content(self) -> Callable[[int], Content | None]:
        """The game's own `puzzle_content`; there is none if the game has none."""
        return self.game.puzzle_content  # pyright: ignore[reportAttributeAccessIssue]

    def fork(self) -> "TextEnv":
        """Copy the environment; only the game's state costs anything."""
        twin = shallow_copy(self)
        twin.game = self.game.fork()
        return twin


# ---- copies of a live environment ----

Env = TypeVar("Env", bound=gymnasium.Env[Any, Any])


def fork(env: Env, reseed: int | None = None) -> Env:
    """Copy a live environment, so that stepping the copy leaves the original unchanged.

    `fork_kind` says how. The copy keeps the state of the random generator, so all copies of a
    slippery world slip alike; `reseed` gives the copy noise of its own.

    Args:
        env: any Gymnasium environment, after `reset`.
        reseed: seed of the copy's random generator, or None to keep its state.
    """
    twin = _copy(env)
    if reseed is not None:
        twin.np_random = np.random.default_rng(reseed)  # wrappers pass it inwards
    return twin


def fork_kind(env: gymnasium.Env[Any, Any]) -> str:
    """Return how `fork` copies an environment: the first of these that it supports.

    "fork": its own `fork()`. "state": its own `get_state()` and `set_state(state)`, in a fresh
    environment. "deepcopy": `copy.deepcopy` of all but what copies share (`copying.py`). "replay":
    all actions again from the seed, possible only for environments that `make_env` returned.
    Wrappers are copied around the result.
    """
    innermost = env
    for layer in layers(env):
        if hasattr(layer, "fork_kind"):
            return layer.fork_kind
        if hasattr(layer, "fork"):
            return "fork"
        innermost = layer
    has_state = hasattr(innermost, "get_state") and hasattr(innermost, "set_state")
    return "state" if has_state and innermost.spec is not None else "deepcopy"


def _copy(env: Any) -> Any:
    if hasattr(env, "fork"):
        return env.fork()
    kind, inner = fork_kind(env), getattr(env, "env", None)
    if kind == "deepcopy":
        return deep_copy(env)
    if isinstance(inner, gymnasium.Env):
        return deep_copy(env, {id(inner): _copy(inner)})
    twin = gymnasium.make(env.spec).unwrapped
    twin.reset(seed=0)  # some environments have no state before their first reset
    twin.np_random = copy.deepcopy(env.np_random)
    twin.set_state(copy.deepcopy(env.get_state()))  # pyright: ignore[reportAttributeAccessIssue]
    return twin


# ---- optional parts of the contract, read from any environment ----


def _contract(env: gymnasium.Env[Any, Any]) -> Any:
    """Return what holds the optional parts: a guard has read them, else the innermost layer."""
    return env if is_guarded(env) else env.unwrapped


def is_guarded(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether it is an environment of another package, which may fail and must be closed."""
    return getattr(env, "is_guard", False)


def text_spec(env: gymnasium.Env[Any, Any]) -> TextSpec | None:
    """Return what the environment tells a player; None if it has none.

    Raises:
        SettingError: if it is no `TextSpec` of text.
    """
    spec = getattr(_contract(env), "text_spec", None)
    is_spec = isinstance(spec, TextSpec) and all(
        isinstance(text, str) for text in (spec.instruction, spec.legend, spec.actions, spec.sketch)
    )
    if spec is not None and not is_spec:
        raise SettingError(
            f"An environment's text_spec must be a TextSpec of str, got {describe_value(spec)}."
        )
    return spec


def tool_specs(env: gymnasium.Env[Any, Any]) -> tuple[Tool, ...]:
    """Return the tools that a player of the environment calls; none if its actions are others."""
    tools = getattr(_contract(env), "tool_specs", ())
    are_tools = isinstance(tools, tuple) and all(isinstance(tool, Tool) for tool in tools)
    return tools if are_tools else ()


def max_steps(env: gymnasium.Env[Any, Any]) -> int | None:
    """Return the environment's own limit on the actions of an episode; None if it has none."""
    limit = getattr(_contract(env), "max_steps", None)
    return int(limit) if isinstance(limit, int | np.integer) and limit >= 1 else None


def num_targets(env: gymnasium.Env[Any, Any]) -> int:
    """Return the number of different answers that succeed; 0 if the environment does not say."""
    number = getattr(_contract(env), "num_targets", 0)
    return int(number) if isinstance(number, int | np.integer) and number >= 0 else 0


def num_puzzles(env: gymnasium.Env[Any, Any]) -> Mapping[str, int]:
    """Return the number of different puzzles by split; only splits that have few are listed."""
    numbers = getattr(_contract(env), "num_puzzles", {})
    if not isinstance(numbers, Mapping):
        return {}
    return {key: n for key, n in numbers.items() if isinstance(n, int) and n >= 1}


def text_game(env: gymnasium.Env[Any, Any]) -> TextGame[Any] | None:
    """Return the game inside a `TextEnv`; None for any other environment."""
    game = getattr(env.unwrapped, "game", None)
    return game if isinstance(game, TextGame) else None


def action_reader(env: gymnasium.Env[Any, Any]) -> Callable[[str], str | None] | None:
    """Return the environment's own `canonical_action` method; None if it has none."""
    read = getattr(_contract(env), "canonical_action", None)
    return read if callable(read) else None  # pyright: ignore[reportReturnType]


def scripted_player(env: gymnasium.Env[Any, Any]) -> ScriptedPlayer | None:
    """Return the environment's own `scripted_action` method; None if it has none."""
    play = _claim(env, "scripted_action", None)
    return play if callable(play) else None  # pyright: ignore[reportReturnType]


def puzzle_content(env: gymnasium.Env[Any, Any]) -> Callable[[int], Content | None] | None:
    """Return the environment's own `puzzle_content` method; None if it has none.

    It takes a seed and returns what makes the puzzle of this seed the same as another one: equal
    contents are equal puzzles. None says that content does not decide the split of a puzzle. It may
    reset the environment.
    """
    read = _claim(env, "puzzle_content", None)
    return read if callable(read) else None  # pyright: ignore[reportReturnType]


def longest_solution(env: gymnasium.Env[Any, Any]) -> int:
    """Return how many actions the longest puzzles take, if more than `DEFAULT_STEPS`; else 0."""
    number = getattr(text_game(env), "longest_solution", 0)
    return number if number > DEFAULT_STEPS else 0


def has_state_key(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether the environment has a `state_key()` method."""
    return callable(getattr(_contract(env), "state_key", None))


def state_key(env: gymnasium.Env[Any, Any]) -> Hashable:
    """Return a hashable key of the environment's state.

    Equal keys mean equal futures, up to the step limit.

    Raises:
        TypeError: if the environment has no `state_key()` of its own.
    """
    read = getattr(_contract(env), "state_key", None)
    if not callable(read):
        raise TypeError(f"{env} has no state_key(): give it one, or set sampling.merge_states=off.")
    return read()


def is_deterministic(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether a state and an action determine the next state; False if it does not say."""
    claim = getattr(_contract(env), "is_deterministic", False)
    return isinstance(claim, bool | np.bool_) and bool(claim)


def is_fully_observed(env: gymnasium.Env[Any, Any]) -> bool | None:
    """Return whether earlier turns add nothing to the observation; None if it does not say."""
    claim = getattr(_contract(env), "is_fully_observed", None)
    return bool(claim) if isinstance(claim, bool | np.bool_) else None


def is_reusable(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether `reset` gives a fresh episode at any time; False if it does not say.

    Such an environment is reset for the next episode instead of being closed and made again.
    """
    claim = _claim(env, "is_reusable", False)
    return isinstance(claim, bool | np.bool_) and bool(claim)


def max_instances(env: gymnasium.Env[Any, Any]) -> int:
    """Return how many instances of the environment may live at once; 0 for any number."""
    number = _claim(env, "max_instances", 0)
    return int(number) if isinstance(number, int | np.integer) and number >= 0 else 0


def _claim(env: gymnasium.Env[Any, Any], name: str, default: Any) -> Any:
    """Read an attribute of the outermost layer that has it, also of a game in a `TextAdapter`."""
    return getattr(
        next((layer for layer in layers(env) if hasattr(layer, name)), None), name, default
    )
