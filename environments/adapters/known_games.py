"""Adapters for well-known games: Gymnasium's toy text games and MiniGrid.

The games can be played without them. They explain what the pictures leave open, give state keys, so
that trees can merge equal states, and copy no more than a state and a random generator.
"""

import copy
import re
from collections.abc import Callable, Hashable
from typing import Any

import gymnasium

from ..copying import (
    KNOWN_WRAPPERS,
    copy_generator,
    copy_layers,
    layers,
    shallow_copy,
    shared_parts,
)
from .adapter import TextAdapter


class KnownGame(TextAdapter):
    """A game of which is known what its steps change, so that a fork copies nothing else."""

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        self._is_known = self._knows_all_layers()

    @property
    def game(self) -> Any:
        """The game itself, without wrappers."""
        return self.env.unwrapped

    @property
    def fork(self) -> Callable[[], TextAdapter]:
        """Copies the state and the random generator.

        There is none if a subclass, a wrapper or a picture may hold more that changes.
        """
        if not self._is_known:
            raise AttributeError("fork")
        return lambda: copy_layers(self, self._copy_game)

    @classmethod
    def knows(cls, game: type) -> bool:
        """Return whether a class of games is the known one, and no subclass of it."""
        return KNOWN_GAMES.get(f"{game.__module__}.{game.__qualname__}") is cls

    def _copy_game(self, game: Any) -> Any:
        twin = shallow_copy(game)
        twin._np_random = copy_generator(game.np_random)
        return twin

    def _knows_all_layers(self) -> bool:
        *wrappers, game = layers(self.env)
        has_known_class = type(self).__module__ == __name__ and self.knows(type(game))
        draws = game.render_mode not in (None, "ansi")
        return has_known_class and all(type(w) in KNOWN_WRAPPERS for w in wrappers) and not draws


class TableGame(KnownGame):
    """Gymnasium's games with a transition table `P[state][action]` and a state `s`.

    A step only gives attributes new values, so that a shallow copy of the game will do.
    """

    knows_success = True

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        rows = self.game.P.values()
        self.is_deterministic = all(len(outcomes) == 1 for row in rows for outcomes in row.values())

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Return the board, without the line that repeats the last action."""
        lines = super().observation_text(observation, info).splitlines()
        return "\n".join(line for line in lines if not re.fullmatch(r"\s*(\(\w+\))?\s*", line))

    def state_key(self) -> Hashable:
        """Return the state of the table."""
        return int(self.game.s)


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


class Blackjack(KnownGame):
    """Blackjack."""

    rules = "Get closer to 21 than the dealer, but not above it."
    action_names = ("Stick", "Hit")
    knows_success = True

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Describe the hand and the dealer's open card."""
        total, card, has_ace = map(int, observation)
        ace = ", with an ace that counts 11" if has_ace else ""
        shown = "an ace" if card == 1 else card
        return f"Your cards are worth {total}{ace}. The dealer shows {shown}."

    def state_key(self) -> Hashable:
        """Return all cards, including the dealer's hidden one."""
        return tuple(self.game.player), tuple(self.game.dealer)

    def _copy_game(self, game: Any) -> Any:
        twin = super()._copy_game(game)
        twin.player, twin.dealer = list(game.player), list(game.dealer)
        return twin


class MiniGrid(KnownGame):
    """Any game of MiniGrid, shown as the whole grid instead of the agent's partial view."""

    legend = (
        "two characters a cell, the second its colour: W is a wall, D a door, L a locked door, __ "
        "an open door, K a key, A a ball, B a box, G the goal, V lava; >>, VV, << and ^^ are you, "
        "facing right, down, left and up"
    )
    knows_success = True

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None, **options: Any):
        super().__init__(env, **options)
        self.is_deterministic = not hasattr(self.game, "obstacles")  # these move randomly

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Describe the mission, the grid and what is carried."""
        game = self.game
        carried = f"{game.carrying.color} {game.carrying.type}" if game.carrying else "nothing"
        return f"Mission: {game.mission}\n{game.pprint_grid()}\nYou carry {carried}."

    def state_key(self) -> Hashable:
        """Return the grid, the agent and what it carries."""
        game = self.game
        carried = game.carrying and tuple(game.carrying.encode())
        place = tuple(map(int, game.agent_pos)), int(game.agent_dir)
        return game.grid.encode().tobytes(), place, carried, game.mission

    @classmethod
    def knows(cls, game: type) -> bool:
        """Return whether it is one of the package's own games."""
        return game.__module__.startswith("minigrid.envs.")

    def _copy_game(self, game: Any) -> Any:
        """Copy the grid and whatever else a game keeps, except for the cells that never change."""
        from minigrid.core.world_object import Floor, Goal, Lava, Wall  # pyright: ignore[reportMissingImports]

        never_change = (type(None), Floor, Goal, Lava, Wall)
        memo = shared_parts(game)
        memo[id(game.observation_space)] = game.observation_space  # steps draw nothing from it
        memo[id(game._np_random)] = copy_generator(game.np_random)
        cells = game.grid.grid
        memo.update((id(cell), cell) for cell in cells if type(cell) in never_change)
        memo[id(cells)] = [memo.get(id(cell)) or copy.deepcopy(cell, memo) for cell in cells]
        return copy.deepcopy(game, memo)


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
