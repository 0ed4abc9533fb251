"""Adapters for games that many know: Gymnasium's toy text games and MiniGrid.

Nothing here is needed to play them; it says in words what their pictures leave open, and tells
states apart, so that trees may merge them.
"""

import copy
import re
from collections.abc import Hashable
from typing import Any

import gymnasium

from .adapter import TextAdapter


class TableGame(TextAdapter):
    """Gymnasium's games on a table of transitions: `P[state][action]`, the state `s`."""

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        self.game: Any = self.env.unwrapped
        rows = self.game.P.values()
        has_one_outcome = all(len(outcomes) == 1 for row in rows for outcomes in row.values())
        is_fickle = getattr(self.game, "fickle_passenger", False)
        self.is_deterministic = has_one_outcome and not is_fickle

    def observation_text(self, observation: Any) -> str:
        """The board, without the line that repeats the last action."""
        lines = super().observation_text(observation).splitlines()
        return "\n".join(line for line in lines if not re.fullmatch(r"\s*(\(\w+\))?\s*", line))

    def state_key(self) -> Hashable:
        """The state of the table, and whether a Taxi passenger may yet change his mind."""
        return int(self.game.s), bool(getattr(self.game, "fickle_step", False))

    def fork(self) -> TextAdapter:
        """Copy all but the table, which is large and never changes."""
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


class CliffWalking(TableGame):
    """Cliff walking. Only the goal ends it, with a reward of -1 like every step."""

    rules = (
        "Walk to the goal by a short way; a step into the cliff costs 100 and leads to the start."
    )
    legend = "x is you, o ground, C the cliff, T the goal"
    action_names = ("Up", "Right", "Down", "Left")

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Whether the goal is reached."""
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

    def observation_text(self, observation: Any) -> str:
        """The hand and the dealer's open card."""
        total, card, has_ace = map(int, observation)
        ace = ", with an ace that counts 11" if has_ace else ""
        shown = "an ace" if card == 1 else card
        return f"Your cards are worth {total}{ace}. The dealer shows {shown}."

    def state_key(self) -> Hashable:
        """All cards, the dealer's hidden one included."""
        game: Any = self.env.unwrapped
        return tuple(game.player), tuple(game.dealer)


class MiniGrid(TextAdapter):
    """Any game of MiniGrid, seen as a whole: the agent's own view is a part of it."""

    legend = (
        "two characters a cell, the second its colour: W is a wall, D a door, L a locked door, __ "
        "an open door, K a key, A a ball, B a box, G the goal, V lava; >>, VV, << and ^^ are you, "
        "facing right, down, left and up"
    )

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        self.is_deterministic = not hasattr(self.env.unwrapped, "obstacles")  # which wander about

    def observation_text(self, observation: Any) -> str:
        """The mission, the grid and what is carried."""
        game: Any = self.env.unwrapped
        carried = f"{game.carrying.color} {game.carrying.type}" if game.carrying else "nothing"
        return f"Mission: {game.mission}\n{game.pprint_grid()}\nYou carry {carried}."

    def state_key(self) -> Hashable:
        """The grid, the agent and what it carries."""
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
"""Adapters by the class of the environment, or one that it derives from."""


def adapt(env: gymnasium.Env[Any, Any]) -> TextAdapter:
    """Give an environment a text side: the one made for its class, else what it says itself.

    Raises:
        SettingError: if no words can be found for its actions or observations.
    """
    names = [f"{base.__module__}.{base.__qualname__}" for base in type(env.unwrapped).__mro__]
    adapters = [KNOWN_GAMES[name] for name in names if name in KNOWN_GAMES]
    return (adapters or [TextAdapter])[0](env)
