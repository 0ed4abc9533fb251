"""Other collections of environments, for the tests that play them."""

import importlib

import pytest

INSTALL = "make peers"
REASONING = ("leg_counting", "chain_sum", "acre")
"""Representative problems of reasoning-gym."""
TEXTARENA = ("FrozenLake-v0-train", "LightsOut-v0")
"""Representative games of TextArena."""
GEM = ("GuessTheNumber-v0-easy", "Game2048-v0-easy")
"""Representative games of GEM."""


def need(collection: str) -> None:
    """Skip the test if a collection is not installed."""
    try:
        importlib.import_module(collection)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error}: {INSTALL}")


def ids(*collections: str) -> list[str]:
    """Ids of the representative games of some collections."""
    games = {"reasoning_gym": REASONING, "textarena": TEXTARENA, "gem": GEM}
    return [f"{name}/{game}" for name in collections for game in games[name]]
