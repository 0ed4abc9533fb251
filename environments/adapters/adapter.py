"""A text interface for any Gymnasium environment: `TextAdapter`.

By itself it names the actions, shows the board and explains the numbers, as far as the environment
documents them (`wording.py`). A subclass improves on this one method or attribute at a time; the
subclasses for Gymnasium's own games and MiniGrid are in `known_games.py`, an example is in
docs/environments.md.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Text

from ...configs.errors import SettingError
from ..available import AVAILABLE, find_available, flat_mask, spell
from ..success import reported_success
from ..text_env import TextSpec, is_deterministic, max_steps
from .plugins import make_plugin
from .refusals import is_pixels, refuse_rewards
from .returned import single_reward, step_values
from .wording import (
    MAX_NUMBERS,
    count_numbers,
    describe_space,
    documented_actions,
    documented_rules,
    numbers_per_place,
    plain_text,
    read_numbers,
    write_observation,
)

DOCS = "docs/environments.md shows how a TextAdapter helps"


class AnyText(Text):
    """The space of every text, whatever its characters."""

    def __init__(self) -> None:
        super().__init__(max_length=10_000, min_length=0)

    def contains(self, x: Any) -> bool:
        """Return whether it is text."""
        return isinstance(x, str)


class TextAdapter(gymnasium.Env[str, str]):
    """Plays a numeric environment through text.

    Observation: the environment's observation as `observation_text` writes it, any text.
    Actions: any text; text that `read_action` cannot read changes nothing. An action that the
    environment lists as available now is read up to case, white space and punctuation at its end.
    Reward and episode end: the environment's; also truncated after `max_steps` actions, by default
    the environment's own limit. Info: the environment's, with `success` (its own under any name of
    `SUCCESS_KEYS`, else the result of `is_success`; left out if `knows_success` is False), `legal`
    (the action could be read, and the environment's `action_mask`, if any, allowed it) and, where
    the environment lists them or has a mask, `available_actions`.

    Args:
        env: the environment; None to make `env_id`.
        options: keyword arguments for making it.

    Raises:
        SettingError: if its actions or observations cannot be put into words.
    """

    env_id: str = ""
    """The environment to make, in a subclass that is registered under an id of its own."""
    rules: str = ""
    """The goal and the rules, in one line; by default the start of the environment's docstring."""
    legend: str = ""
    """The meaning of the symbols or numbers of an observation, in one line."""
    action_names: Sequence[str] = ()
    """Names of a `Discrete` space's actions, in order; by default the environment's own names, else
    the numbers."""
    max_steps: int = 0
    """Number of actions after which an episode is truncated; 0 for the environment's own limit, or
    200 if it has none."""
    is_deterministic: bool = False
    """Whether a state and an action determine the next state."""
    knows_success: bool = False
    """Whether the default of `is_success` is right, and no guess; that of a subclass always is."""
    shared_on_fork: Sequence[str] = ()
    """Names of large attributes, of this or of `env`, that no step changes; copies share them."""
    is_fully_observed: bool | None = None
    """Whether earlier turns add nothing to the present observation, so that prompts can leave them
    out (`model.context`); None for True, unless the actions are free text."""
    metadata = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        self.env = make_plugin(self.env_id, **options) if env is None else env
        self.render_mode = "ansi"
        game = self.env.unwrapped
        time_limit = self.env.spec and self.env.spec.max_episode_steps
        limits = (self.max_steps, time_limit, max_steps(self.env), 200)
        self.max_steps = next(n for n in limits if isinstance(n, int) and n > 0)
        self.is_deterministic |= is_deterministic(self.env)
        self.knows_success |= type(self).is_success is not TextAdapter.is_success
        if self.is_fully_observed is None:
            self.is_fully_observed = not isinstance(self.env.action_space, Text)
        self.action_names = self._name_actions()
        self.text_spec = TextSpec(
            instruction=self.rules or documented_rules(game) or f"Play {type(game).__name__}.",
            legend=self.legend or self._describe_observations(),
            actions=self._describe_actions(),
        )
        self.observation_space, self.action_space = AnyText(), AnyText()
        self.num_steps = 0
        self.available: list[str] = []
        """The actions that the environment allows now; empty if it does not say."""
        self._takes_any_text = False  # it listed an action outside its own `Text` space
        self._check_wording()

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Write an observation as text: by default the "ansi" rendering, else the numbers.

        Args:
            observation: what the environment returned.
            info: what it returned with it. Prompts show `available_actions` below this text.
        """
        return (
            plain_text(str(self.env.render())) if self.is_drawn else write_observation(observation)
        )

    def read_action(self, text: str) -> tuple[str, Any] | None:
        """Read an action: its canonical spelling and the action itself; None if it names none."""
        space = self.env.action_space
        if isinstance(space, Discrete):
            number = self._numbers.get(" ".join(text.split()).casefold())
            return (
                None if number is None else (self.action_names[number - int(space.start)], number)
            )
        if isinstance(space, MultiDiscrete | MultiBinary):
            action = read_numbers(text, space)
            return None if action is None else (" ".join(map(str, action.ravel())), action)
        text = spell(text, self.available) or text.strip()
        return (text, text) if text and (self._takes_any_text or space.contains(text)) else None

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Return whether a step won the game: by default, if it ended it with a positive reward.

        Only used if the environment does not say it itself.
        """
        return terminated and reward > 0

    @property
    def is_drawn(self) -> bool:
        """Whether the environment renders itself as text."""
        return self.env.render_mode == "ansi"

    @property
    def np_random(self) -> np.random.Generator:
        """The environment's random generator."""
        return self.env.np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self.env.np_random = value

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the puzzle of `seed`."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.num_steps = 0
        self._note(observation, info)
        return self.text, self._told({**info, "success": False, "legal": True})

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play the action that the text names."""
        self.num_steps += 1
        reading = self.read_action(action)
        if reading is None:
            is_over = self.num_steps >= self.max_steps
            info = {"success": False} if self.knows_success else {}
            return self.text, 0.0, False, is_over, self._told({**info, "legal": False})
        legal = self._is_allowed(reading[1])
        given = step_values(self.env.step(reading[1]))
        observation, reward, terminated, truncated, info = given
        reward = single_reward(reward)
        self._note(observation, info)
        success = reported_success(info)
        if success is None and self.knows_success:
            success = self.is_success(reward, terminated, info)
        legal = bool(info.get("legal", legal))
        truncated = truncated or (not terminated and self.num_steps >= self.max_steps)
        info = {**info, "legal": legal} | ({} if success is None else {"success": bool(success)})
        info = self._told(info)
        return self.text, reward, terminated, truncated, info

    def render(self) -> Any:
        """Return the observation's text."""
        return self.text

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def canonical_action(self, text: str) -> str | None:
        """Return the canonical spelling of the action that the text names, or None."""
        reading = self.read_action(text)
        return None if reading is None else reading[0]

    def _note(self, observation: Any, info: dict[str, Any]) -> None:
        """Keep the text of a state, its mask and its available actions."""
        self.text = self.observation_text(observation, info)
        self.action_mask = flat_mask(info, len(self.action_names))
        self.available = []  # those of the state before must not help to read
        listed = find_available(info, self.action_names)
        readings = (self.read_action(text) for text in listed)
        space = self.env.action_space
        is_text = isinstance(space, Text)
        self.available = listed if is_text else [reading[0] for reading in readings if reading]
        self._takes_any_text |= is_text and not all(map(space.contains, listed))

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        """Add the available actions to `info`, in place of anything else of that name."""
        info.pop(AVAILABLE, None)
        return info | {AVAILABLE: list(self.available)} if self.available else info

    def _is_allowed(self, action: Any) -> bool:
        space = self.env.action_space
        if self.action_mask is None or not isinstance(space, Discrete):
            return True
        return bool(self.action_mask[action - int(space.start)])

    def _name_actions(self) -> Sequence[str]:
        space = self.env.action_space
        if not isinstance(space, Discrete):
            return ()
        first, count = int(space.start), int(space.n)
        numbers = tuple(map(str, range(first, first + count)))
        names = self.action_names or documented_actions(self.env.unwrapped, count) or numbers
        if len(names) != count:
            raise SettingError(
                f"{type(self).__name__}.action_names must name all {count} actions of "
                f"{self.env.action_space}, got {len(names)}."
            )
        named = enumerate(names, start=first)
        self._numbers = {text: int(text) for text in numbers}
        self._numbers |= {" ".join(name.split()).casefold(): place for place, name in named}
        return names

    def _describe_observations(self) -> str:
        """Explain the numbers of an observation, if it is shown as numbers."""
        has_own_text = type(self).observation_text is not TextAdapter.observation_text
        space = self.env.observation_space
        return "" if self.is_drawn or has_own_text else describe_space(space)

    def _describe_actions(self) -> str:
        space = self.env.action_space
        if isinstance(space, Discrete):
            return ", ".join(self.action_names)
        if isinstance(space, MultiDiscrete | MultiBinary):
            counts = np.ravel(numbers_per_place(space))
            ranges = " and then ".join(f"0 to {count - 1}" for count in counts)
            return f"{len(counts)} numbers separated by spaces: {ranges}"
        return "any text"

    def _check_wording(self) -> None:
        try:
            inspect.signature(self.observation_text).bind(None, {})
        except TypeError as error:
            raise SettingError(
                f"{type(self).__name__}.observation_text must take the environment's info too. "
                "Write def observation_text(self, observation, info):"
            ) from error
        name = self.env.spec.id if self.env.spec else type(self.env.unwrapped).__name__
        space = self.env.action_space
        can_read = isinstance(space, Discrete | MultiDiscrete | MultiBinary | Text)
        if not can_read and type(self).read_action is TextAdapter.read_action:
            kind = "continuous actions" if isinstance(space, Box) else "actions without names"
            raise SettingError(f"env.id {name} has {kind}, {space}: {DOCS}.")
        reason = refuse_rewards(self.env)
        if reason:
            raise SettingError(f"env.id {name} cannot be played: {reason}.")
        size = count_numbers(self.env.observation_space)
        can_say = self.is_drawn or size <= MAX_NUMBERS
        if not can_say and type(self).observation_text is TextAdapter.observation_text:
            numbers = "pixels" if is_pixels(self.env.observation_space) else "numbers"
            raise SettingError(
                f"env.id {name} shows {size} {numbers}, more than the {MAX_NUMBERS} that are "
                f"written as text: {DOCS}."
            )
