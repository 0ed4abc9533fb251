"""A text side for any Gymnasium environment: `TextAdapter`.

By itself it names the actions, shows the board and says what the numbers are, as far as the
environment tells (`words.py`). A subclass says it better, one method or attribute at a time; those
for Gymnasium's own games and MiniGrid are in `known_games.py`. docs/environments.md has an example.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete, Text

from ...configs.errors import SettingError
from ..text_env import TextSpec
from .plugins import make_plugin
from .wording import (
    MAX_NUMBERS,
    count_numbers,
    documented_actions,
    documented_rules,
    observation_words,
    plain_text,
    read_numbers,
    space_words,
)

DOCS = "docs/environments.md shows how a TextAdapter helps"


class AnyText(Text):
    """Every text; Gymnasium's `Text` would want to know its characters."""

    def __init__(self) -> None:
        super().__init__(max_length=10_000, min_length=0)

    def contains(self, x: Any) -> bool:
        """Return whether it is text."""
        return isinstance(x, str)


class TextAdapter(gymnasium.Env[str, str]):
    """Plays an environment of numbers with words.

    Observation: `observation_text` of the environment's own, any text.
    Actions: any text; what `read_action` cannot read changes nothing.
    Reward and episode end: the environment's; truncated also after `max_steps` actions, the
    environment's own limit if it has one. Info: the environment's, with `success` (its own, else
    what `is_success` says) and `legal` (the action could be read, and the environment's
    `action_mask`, if it gives one, allowed it).

    Args:
        env: the environment, made; or None to make `env_id`.
        options: keyword arguments for making it.

    Raises:
        SettingError: if no words can be found for its actions or observations.
    """

    env_id: str = ""
    """What is played, where a subclass is registered under an id of its own."""
    rules: str = ""
    """The goal and the rules, in a line. By default the environment's docstring begins with it."""
    legend: str = ""
    """The meaning of the symbols or numbers of an observation, in a line."""
    action_names: Sequence[str] = ()
    """Names of a `Discrete` space's actions, in order. By default the environment's own names, else
    the numbers."""
    max_steps: int = 0
    """Actions after which an episode is truncated; 0 for the environment's own limit, else 200."""
    is_deterministic: bool = False
    """Whether a state and an action fix the next state."""
    metadata = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        self.env = make_plugin(self.env_id, **options) if env is None else env
        self.render_mode = "ansi"
        game = self.env.unwrapped
        limits = (self.max_steps, self.env.spec and self.env.spec.max_episode_steps)
        limits = (*limits, getattr(game, "max_steps", 0), 200)
        self.max_steps = next(n for n in limits if isinstance(n, int) and n > 0)
        self.is_deterministic |= bool(getattr(game, "is_deterministic", False))
        self.action_names = self._name_actions()
        self.text_spec = TextSpec(
            instruction=self.rules or documented_rules(game) or f"Play {type(game).__name__}.",
            legend=self.legend or self._describe_observations(),
            actions=self._describe_actions(),
        )
        self.observation_space, self.action_space = AnyText(), AnyText()
        self.num_steps = 0
        self._check_words()

    def observation_text(self, observation: Any) -> str:
        """Say an observation in words: by default the "ansi" rendering, else the numbers."""
        return (
            plain_text(str(self.env.render())) if self.is_drawn else observation_words(observation)
        )

    def read_action(self, text: str) -> tuple[str, Any] | None:
        """Read an action: its one spelling and what the environment takes; None for no action."""
        space = self.env.action_space
        if isinstance(space, Discrete):
            number = self._numbers.get(" ".join(text.split()).casefold())
            return (
                None if number is None else (self.action_names[number - int(space.start)], number)
            )
        if isinstance(space, MultiDiscrete | MultiBinary):
            action = read_numbers(text, space)
            return None if action is None else (" ".join(map(str, action.ravel())), action)
        text = text.strip()
        return (text, text) if text and space.contains(text) else None

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Return whether a step has won the game: by default if it ended it with a reward above 0.

        Only asked where the environment gives no `info["success"]` itself.
        """
        return terminated and reward > 0

    @property
    def is_drawn(self) -> bool:
        """Whether the environment renders itself as text."""
        return self.env.render_mode == "ansi"

    @property
    def np_random(self) -> np.random.Generator:
        """The random generator of the environment."""
        return self.env.np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self.env.np_random = value

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the puzzle that belongs to `seed`."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.num_steps, self.action_mask = 0, info.get("action_mask")
        self.text = self.observation_text(observation)
        return self.text, {**info, "success": False, "legal": True}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play the action that the text names."""
        self.num_steps += 1
        reading = self.read_action(action)
        if reading is None:
            is_over = self.num_steps >= self.max_steps
            return self.text, 0.0, False, is_over, {"success": False, "legal": False}
        legal = self._is_allowed(reading[1])
        observation, reward, terminated, truncated, info = self.env.step(reading[1])
        reward, self.action_mask = float(reward), info.get("action_mask")
        self.text = self.observation_text(observation)
        success = info.get("success", self.is_success(reward, terminated, info))
        legal = bool(info.get("legal", legal))
        truncated = truncated or (not terminated and self.num_steps >= self.max_steps)
        info = {**info, "success": bool(success), "legal": legal}
        return self.text, reward, terminated, truncated, info

    def render(self) -> Any:
        """Return the observation's text."""
        return self.text

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def canonical_action(self, text: str) -> str | None:
        """Return the one spelling of the action that the text names, or None if it names none."""
        reading = self.read_action(text)
        return None if reading is None else reading[0]

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
        """What the numbers of an observation are, if they are shown as they come."""
        has_own_words = type(self).observation_text is not TextAdapter.observation_text
        space = self.env.observation_space
        return "" if self.is_drawn or has_own_words else space_words(space)

    def _describe_actions(self) -> str:
        space = self.env.action_space
        if isinstance(space, Discrete):
            return ", ".join(self.action_names)
        if isinstance(space, MultiDiscrete | MultiBinary):
            counts = np.ravel(getattr(space, "nvec", np.full(space.shape or (1,), 2)))
            ranges = " and then ".join(f"0 to {count - 1}" for count in counts)
            return f"{len(counts)} numbers separated by spaces: {ranges}"
        return "any text"

    def _check_words(self) -> None:
        name = self.env.spec.id if self.env.spec else type(self.env.unwrapped).__name__
        space = self.env.action_space
        can_read = isinstance(space, Discrete | MultiDiscrete | MultiBinary | Text)
        if not can_read and type(self).read_action is TextAdapter.read_action:
            raise SettingError(f"env.id {name} has actions without names, {space}: {DOCS}.")
        size = count_numbers(self.env.observation_space)
        can_say = self.is_drawn or size <= MAX_NUMBERS
        if not can_say and type(self).observation_text is TextAdapter.observation_text:
            raise SettingError(
                f"env.id {name} shows {size} numbers, more than the {MAX_NUMBERS} that are told in "
                f"words: {DOCS}."
            )
