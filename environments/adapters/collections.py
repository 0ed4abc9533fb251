"""Collections of environments, each behind an extra (docs/collections.md).

The games of a collection are the ids in its namespace: `reasoning_gym/leg_counting`,
`textworld/cooking`, `babyai/GoToLocal-v0`. Its package is imported, and its ids are registered
with Gymnasium, when an id of the namespace is first used (`plugins.py`). The adapter of each
collection is a file of its own, such as `textworld_env.py`. An id that begins with the name of a
collection and a colon, `openenv:http://localhost:8000`, is an address that its adapter plays.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module

import gymnasium

from ...configs.errors import SettingError


@dataclass(frozen=True)
class Collection:
    """The games of another package."""

    package: str
    """Name in the package index."""
    extra: str
    """The extra that installs it: `sesa-agent[extra]`."""
    module: str
    """Module beside this one with the adapter: `game_names()` lists the games, and `make(name,
    **options)` makes one."""
    games: str
    """What its games are, in words."""
    example: str
    """Name of one of them."""
    address: str = ""
    """Example of an address that its game plays, if its ids may be addresses."""


COLLECTIONS = {
    "reasoning_gym": Collection(
        package="reasoning-gym",
        extra="reasoning-gym",
        module=".reasoning_gym_env",
        games="kinds of problems",
        example="leg_counting",
    ),
    "textarena": Collection(
        package="textarena",
        extra="textarena",
        module=".textarena_env",
        games="variants of games for one player",
        example="FrozenLake-v0-train",
    ),
    "gem": Collection(
        package="gem-llm",
        extra="gem",
        module=".gem_env",
        games="variants of text games",
        example="GuessTheNumber-v0-easy",
    ),
    "textworld": Collection(
        package="textworld",
        extra="textworld",
        module=".textworld_env",
        games="kinds of text adventures",
        example="treasure_hunter",
    ),
    "textworld_express": Collection(
        package="textworld-express",
        extra="textworld-express",
        module=".textworld_express_env",
        games="kinds of text games",
        example="coin",
    ),
    "scienceworld": Collection(
        package="scienceworld",
        extra="scienceworld",
        module=".scienceworld_env",
        games="tasks of a science class",
        example="boil",
    ),
    "babyai": Collection(
        package="minigrid",
        extra="minigrid",
        module=".babyai_env",
        games="BabyAI levels in words",
        example="GoToLocal-v0",
    ),
    "alfworld": Collection(
        package="alfworld",
        extra="alfworld",
        module=".alfworld_env",
        games="sets of household tasks",
        example="train",
    ),
    "openenv": Collection(
        package="openenv-core",
        extra="openenv",
        module=".openenv_env",
        games="server, by its address",
        example="Server-v0",
        address="http://localhost:8000",
    ),
}
"""Collections by the namespace of their ids."""
NOT_PLAYED = {
    "verifiers": "verifiers 0.4 has no step: its harness calls the model and runs the whole "
    "episode, so no tree can grow in it",
}
"""Namespaces that are refused, and why."""


def register_collection(namespace: str) -> tuple[str, ...]:
    """Register the games of a collection with Gymnasium, if they are not, and return their ids.

    Args:
        namespace: the part of an id before the slash; no ids if it is not a collection's.

    Raises:
        SettingError: if the package is not installed, or its environments are not played.
    """
    if namespace in NOT_PLAYED:
        raise SettingError(
            f"--env {namespace}/... is not played: {NOT_PLAYED[namespace]}. docs/collections.md "
            "says what to do instead."
        )
    if namespace not in COLLECTIONS:
        return ()
    maker, names = _games(namespace)
    env_ids = tuple(f"{namespace}/{name}" for name in names)
    for env_id, name in zip(env_ids, names, strict=True):
        if env_id in gymnasium.registry:
            continue
        # They count their own steps and never raise on an action: they need no wrapper.
        gymnasium.register(
            env_id,
            maker,
            kwargs={"name": name},
            order_enforce=False,
            disable_env_checker=True,
        )
    return env_ids


@cache
def _games(namespace: str) -> tuple[str, list[str]]:
    """The function that makes the games of a collection, and their names."""
    collection = COLLECTIONS[namespace]
    adapter = import_module(collection.module, __package__)
    try:
        names = adapter.game_names()
    except ModuleNotFoundError as error:
        raise SettingError(
            f"--env {namespace}/... needs the package {collection.package} ({error}). "
            f"Install it: {install_command(namespace)}."
        ) from error
    return f"{adapter.__name__}:make", list(names)


def why_left_out(env_id: str) -> str:
    """Return why a game of a collection's package is not among its ids; "" if it does not know.

    Args:
        env_id: an unknown id in the namespace of an installed collection.
    """
    namespace, _, name = env_id.partition("/")
    if namespace not in COLLECTIONS:
        return ""
    adapter = import_module(COLLECTIONS[namespace].module, __package__)
    return adapter.why_left_out(name) if hasattr(adapter, "why_left_out") else ""


def split_address(env_id: str) -> tuple[str, dict[str, str]]:
    """Split an id that is an address into the id of the game that plays it, and its option `url`.

    >>> split_address("openenv:http://localhost:8000")
    ('openenv/Server-v0', {'url': 'http://localhost:8000'})
    >>> split_address("gem/Sudoku-v0-easy")
    ('gem/Sudoku-v0-easy', {})
    """
    namespace, _, address = env_id.partition(":")
    if not address or not getattr(COLLECTIONS.get(namespace), "address", ""):
        return env_id, {}
    return f"{namespace}/{COLLECTIONS[namespace].example}", {"url": address}


def example_id(namespace: str) -> str:
    """Return an id of a collection, as it is typed.

    >>> example_id("gem"), example_id("openenv")
    ('gem/GuessTheNumber-v0-easy', 'openenv:http://localhost:8000')
    """
    collection = COLLECTIONS[namespace]
    return (
        f"{namespace}:{collection.address}"
        if collection.address
        else (f"{namespace}/{collection.example}")
    )


def install_command(namespace: str) -> str:
    """Return the command that installs the package of a collection.

    >>> install_command("gem")
    "pip install 'sesa-agent[gem]'"
    """
    return f"pip install 'sesa-agent[{COLLECTIONS[namespace].extra}]'"
