"""Adapters for well-known games: Gymnasium's toy text games and MiniGrid.

The games can be played without them. They explain what the pictures leave open, and give state
keys, so that trees can merge equal states.
"""

import copy
import re
from collections.abc import Hashable
from typing import Any

import gymnasium

from .adapter import TextAdapter


class TableGame(TextAdapter):
    """Gymnasium's games with a transition table `P[state][action]` and a state `s`."""

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        self.game: Any = self.env.unwrapped
        rows = self.game.P.values()
        self.is_deterministic = all(len(outcomes) == 1 for row in rows for outcomes in row.values())

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Return the board, without the line that repeats the last action."""
        lines = super().observation_text(observation, info).splitlines()
        return "\n".join(line for line in lines if not re.fullmatch(r"\s*(\(\w+\))?\s*", line))

    def state_key(self) -> Hashable:
        """Return the state of the table."""
        return int(self.game.s)

    def fork(self) -> TextAdapter:
        """Copy everything except the table, which is large and never changes."""
        return copy.deepcopy(self, {id(self.game.P): self.game.P})


class Taxi(TableGame):
    """Taxi."""

    rules = (
        "Drive the taxi to the passenger, pick him up, drive him to his destination and drop him "
        "off there."
    )
    legend = (
        "yellow is the empty taxi, green the taxi with the passenger in it, blue the waiting "
        "passenger, magenta the destination; R, G, Y and B are stands; : can be crossed, | cannot"
    )
    action_names = ("South", "North", "East", "West", "Pickup", "Dropoff")

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        is_fickle = getattr(self.game, "fickle_passenger", False)  # since Gymnasium 1.2
        self.is_deterministic = self.is_deterministic and not is_fickle

    def state_key(self) -> Hashable:
        """Return the state of the table, and whether the passenger may still change his mind."""
        return int(self.game.s), bool(getattr(self.game, "fickle_step", False))


class CliffWalking(TableGame):
    """Cliff walking. Only the goal ends it, with a reward of -1 like every other step."""

    rules = (
        "Walk to the goal by a short way; a step into the cliff costs 100 and leads to the start."
    )
    legend = "x is you, o ground, C the cliff, T the goal"
    action_names = ("Up", "Right", "Down", "Left")

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Return whether the goal is reached."""
        return terminated


class FrozenLake(TableGame):
    """Frozen lake."""

    rules = "Walk over the ice to the goal without falling into a hole."
    legend = "S is the start, F ice, H a hole, G the goal, red your place"
    action_names = ("Left", "Down", "Right", "Up")


class Blackjack(TextAdapter):
    """Blackjack."""

    rules = "Get closer to 21 than the dealer, but not above it."
    action_names = ("Stick", "Hit")

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Describe the hand and the dealer's open card."""
        total, card, has_ace = map(int, observation)
        ace = ", with an ace that counts 11" if has_ace else ""
        shown = "an ace" if card == 1 else card
        return f"Your cards are worth {total}{ace}. The dealer shows {shown}."

    def state_key(self) -> Hashable:
        """Return all cards, including the dealer's hidden one."""
        game: Any = self.env.unwrapped
        return tuple(game.player), tuple(game.dealer)


class MiniGrid(TextAdapter):
    """Any game of MiniGrid, shown as the whole grid instead of the agent's partial view."""

    legend = (
        "two characters a cell, the second its colour: W is a wall, D a door, L a locked door, __ "
        "an open door, K a key, A a ball, B a box, G the goal, V lava; >>, VV, << and ^^ are you, "
        "facing right, down, left and up"
    )

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        self.is_deterministic = not hasattr(self.env.unwrapped, "obstacles")  # these move randomly

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Describe the mission, the grid and what is carried."""
        game: Any = self.env.unwrapped
        carried = f"{game.carrying.color} {game.carrying.type}" if game.carrying else "nothing"
        return f"Mission: {game.mission}\n{game.pprint_grid()}\nYou carry {carried}."

    def state_key(self) -> Hashable:
        """Return the grid, the agent and what it carries."""
        game: Any = self.env.unwrapped
        carried = game.carrying and tuple(game.carrying.encode())
        place = tuple(map(int, game.agent_pos)), int(game.agent_dir)
        return game.grid.encode().tobytes(), place, carried, game.mission


KNOWN_GAMES: dict[str, type[TextAdapter]] = {
    "gymnasium.envs.toy_text.taxi.TaxiEnv": Taxi,
    "gymnasium.envs.toy_text.cliffwalking.CliffWalkingEnv": CliffWalking,
    "gymnasium.envs.toy_text.frozen_lake.FrozenLakeEnv": FrozenLake,
    "gymnasium.envs.toy_text.blackjack.BlackjackEnv": Blackjack,
    "minigrid.minigrid_env.MiniGridEnv": MiniGrid,
}
"""Adapters by the class of the environment, or a base class of it."""


def adapt(env: gymnasium.Env[Any, Any]) -> TextAdapter:
    """Give an environment a text interface: its class's own adapter, else the general one.

    Raises:
        SettingError: if its actions or observations cannot be put into words.
    """
    names = [f"{base.__module__}.{base.__qualname__}" for base in type(env.unwrapped).__mro__]
    adapters = [KNOWN_GAMES[name] for name in names if name in KNOWN_GAMES]
    return (adapters or [TextAdapter])[0](env)
