"""Other collections of environments, for the tests that play them."""

import importlib
import shutil

import pytest

INSTALL = "make peers"
REASONING = ("leg_counting", "chain_sum", "acre")
"""Representative problems of reasoning-gym."""
TEXTARENA = ("FrozenLake-v0-train", "LightsOut-v0")
"""Representative games of TextArena."""
GEM = ("GuessTheNumber-v0-easy", "Game2048-v0-easy")
"""Representative games of GEM."""


COMMANDS = {
    "textworld": ("treasure_hunter",),
    "textworld_express": ("coin",),
    "scienceworld": ("boil",),
    "babyai": ("GoToLocal-v0",),
}
"""Representative games of the collections that are played by commands."""
MODULES = {"babyai": "minigrid"}
"""Modules of the collections that are not named like them."""
JAVA = ("textworld_express", "scienceworld")
"""Collections that need Java."""


def module_of(collection: str) -> str:
    """The module that is missing where a collection is not installed."""
    return MODULES.get(collection, collection)


def need(collection: str) -> None:
    """Skip the test if a collection is not installed, or Java is missing that it needs."""
    try:
        importlib.import_module(module_of(collection))
    except ModuleNotFoundError as error:
        pytest.skip(f"{error}: {INSTALL}")
    if collection in JAVA and shutil.which("java") is None:
        pytest.skip(f"{collection} needs Java: apt-get install default-jre-headless")


def ids(*collections: str) -> list[str]:
    """Ids of the representative games of some collections."""
    games = {"reasoning_gym": REASONING, "textarena": TEXTARENA, "gem": GEM, **COMMANDS}
    return [f"{name}/{game}" for name in collections for game in games[name]]
