"""The text contract: a game with numbers inside and words outside.

A `TextGame` is an ordinary Gymnasium environment (numeric observation, discrete action) that can
also say its state in words and read an action from words. `TextEnv` turns it into the environment
that a language model plays: text in, text out, a limit on the number of actions, `info["success"]`
and `info["legal"]`. `TextEnv` is an `Env` of its own and not a `gymnasium.Wrapper`, because both of
its spaces differ from the game's; the game stays reachable as `env.unwrapped.game`.

Model text never raises: words that name no action leave the state as it is, use up one action, and
are told apart by `info["legal"] = False`.
"""

import copy
import string
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, SupportsFloat, TypeVar

import gymnasium
import numpy as np
from gymnasium.spaces import Text

Action = TypeVar("Action")
Game = TypeVar("Game", bound="TextGame[Any]")
Copied = TypeVar("Copied")
_ANY_SEED = np.random.SeedSequence(0)


@dataclass(frozen=True)
class TextSpec:
    """What a player must be told before the first move. Every field is one line of text."""

    instruction: str
    """The goal and the rules."""
    legend: str
    """The meaning of each symbol of the observation; empty where the observation is plain
    language."""
    actions: str
    """What may be answered: the action names, or the form of a free answer."""
    sketch: str = "one way to solve it"
    """What an outline of a solution says, for two-stage sampling."""
    examples: tuple[str, ...] = ()
    """Texts that can be read as actions, where `actions` is no list of names: the checks play them,
    no player is shown them."""

    def listed_actions(self) -> list[str]:
        """Return texts that can be read as actions: the examples, or the names that are listed.

        >>> TextSpec("Walk to the goal.", legend="", actions="Left, Right").listed_actions()
        ['Left', 'Right']
        """
        return list(self.examples) or [name.strip() for name in self.actions.split(",")]


class TextGame(gymnasium.Env[Any, Action], Generic[Action]):
    """A numeric environment with a text side: pure rules plus these few methods."""

    text_spec: TextSpec
    """The words that explain the game."""
    is_deterministic: bool = True
    """Whether a state and an action fix the next state."""
    num_targets: int = 0
    """Different answers that succeed, where their number is known; 0 where it is not."""
    num_puzzles: Mapping[str, int] = {}
    """Different puzzles of a split (of `SPLITS` in `data_files.py`), where it has only so many."""
    charset: str = string.printable
    """Every character that `to_text` may use."""
    max_text_length: int = 1000
    """The length of the longest text that `to_text` may return, in characters."""
    _shares_generator = False

    @abstractmethod
    def to_text(self) -> str:
        """Say the present state in words."""

    @abstractmethod
    def read_action(self, text: str) -> tuple[str, Action] | None:
        """Read one action: its canonical text and its number, or None if the text names no action.

        Two texts with one canonical form are the same action; the canonical text reads as itself.
        Whether the rules allow the action in the present state is for `step` to say, by
        `info["legal"]`.
        """

    def fork(self: Game) -> Game:
        """Copy the game, so that stepping the copy leaves this one alone.

        Attributes are shared: a game that changes one of them in place must copy it here too. The
        copy keeps the state of the random generator.
        """
        self._shares_generator = True
        return shallow_copy(self)

    @property
    def np_random(self) -> np.random.Generator:
        """The random generator; a fork shares it until one side asks for it."""
        if self._shares_generator:
            self._np_random, self._shares_generator = _copy_generator(super().np_random), False
        return super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random, self._np_random_seed = value, -1
        self._shares_generator = False

    @abstractmethod
    def state_key(self) -> Hashable:
        """Return what decides the future.

        Two games with one key differ in nothing but the steps already taken.
        """


class TextEnv(gymnasium.Env[str, str]):
    """Plays a `TextGame` with words.

    Observation: the game's text (`Text`).
    Actions: any text (`Text`); what cannot be read changes nothing.
    Reward: the game's. Episode end: terminated when the game ends, won or lost; truncated after
    `max_steps` actions, readable or not. Info: `success` (the game is won) and `legal` (the last
    action could be read and the rules allowed it).

    Args:
        game: the numeric environment underneath.
        max_steps: actions after which the episode is truncated, at least 1.
        render_mode: None, "ansi" (the observation's text) or "rgb_array" (the game's picture).

    Raises:
        ValueError: if `max_steps` is below 1.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(self, game: TextGame[Any], max_steps: int, render_mode: str | None = None):
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
        self.game = game
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.num_steps = 0
        self.text_spec = game.text_spec
        self.is_deterministic = game.is_deterministic
        self.num_targets = game.num_targets
        self.num_puzzles = game.num_puzzles
        self.observation_space = Text(game.max_text_length, min_length=0, charset=game.charset)
        self.action_space = Text(max_length=200, min_length=0, charset=string.printable)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the puzzle that belongs to `seed`, or the next one in the generator's order."""
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
        """The random generator of the game."""
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
        """Return the one spelling of the action that the text names, or None if it names none."""
        reading = self.game.read_action(text)
        return None if reading is None else reading[0]

    def state_key(self) -> Hashable:
        """Return the game's state, without the number of steps taken."""
        return self.game.state_key()

    def fork(self) -> "TextEnv":
        """Copy the environment at the cost of the state alone."""
        twin = shallow_copy(self)
        twin.game = self.game.fork()
        return twin


def shallow_copy(item: Copied) -> Copied:
    """Do what `copy.copy` does with an ordinary object, in a quarter of the time."""
    twin = object.__new__(type(item))
    twin.__dict__.update(item.__dict__)
    return twin


def _copy_generator(generator: np.random.Generator) -> np.random.Generator:
    """Copy a generator of `reset`, in a quarter of the time that a deepcopy takes."""
    if not isinstance(generator.bit_generator, np.random.PCG64):
        return copy.deepcopy(generator)
    bits = np.random.PCG64(_ANY_SEED)
    bits.state = generator.bit_generator.state
    return np.random.Generator(bits)


Env = TypeVar("Env", bound=gymnasium.Env[Any, Any])


def fork(env: Env, reseed: int | None = None) -> Env:
    """Copy a live environment, so that stepping the copy leaves the original alone.

    How is for `fork_kind` to say. The copy keeps the state of the random generator, so that in a
    slippery world all copies slip alike; `reseed` gives the copy noise of its own.

    Args:
        env: any Gymnasium environment, after `reset`.
        reseed: a seed for the copy's random generator, or None to keep its state.
    """
    twin = _copy(env)
    if reseed is not None:
        twin.np_random = np.random.default_rng(reseed)  # wrappers hand it on
    return twin


def fork_kind(env: gymnasium.Env[Any, Any]) -> str:
    """Say how `fork` copies an environment; the first that can be had.

    "fork": by its own `fork()`. "state": by its own `get_state()` and `set_state(state)`, in a
    fresh environment. "deepcopy": by `copy.deepcopy`. "replay": by playing all actions again from
    the seed, which only what `make_env` returned can do. Wrappers are copied around the result.
    """
    innermost = env
    for layer in _layers(env):
        if hasattr(layer, "fork_kind"):
            return layer.fork_kind
        if hasattr(layer, "fork"):
            return "fork"
        innermost = layer
    has_state = hasattr(innermost, "get_state") and hasattr(innermost, "set_state")
    return "state" if has_state and innermost.spec is not None else "deepcopy"


def _layers(env: Any) -> Iterator[Any]:
    """An environment and all that it is built around, from the outside in."""
    while isinstance(env, gymnasium.Env):
        yield env
        env = getattr(env, "env", None)


def _copy(env: Any) -> Any:
    if hasattr(env, "fork"):
        return env.fork()
    kind, inner = fork_kind(env), getattr(env, "env", None)
    if kind == "deepcopy":
        return copy.deepcopy(env)
    if isinstance(inner, gymnasium.Env):
        return copy.deepcopy(env, {id(inner): _copy(inner)})
    twin = gymnasium.make(env.spec).unwrapped
    twin.reset(seed=0)  # some environments have no state before
    twin.np_random = copy.deepcopy(env.np_random)
    twin.set_state(copy.deepcopy(env.get_state()))  # pyright: ignore[reportAttributeAccessIssue]
    return twin


def state_key(env: gymnasium.Env[Any, Any]) -> Hashable:
    """Return a hashable key of the environment's state.

    Equal keys mean equal futures, up to the step limit.

    Raises:
        TypeError: if the environment has no `state_key()` of its own.
    """
    if not hasattr(env.unwrapped, "state_key"):
        raise TypeError(f"{env} has no state_key(): give it one, or set sampling.merge_states=off.")
    return env.unwrapped.state_key()  # pyright: ignore[reportAttributeAccessIssue]


def is_deterministic(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether a state and an action fix the next state.

    An environment that does not say so is not trusted.
    """
    return bool(getattr(env.unwrapped, "is_deterministic", False))
