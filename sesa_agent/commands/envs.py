"""`sesa-agent envs`: lists the bundled environments and the collections of other packages."""

from rich.markup import escape
from rich.table import Table

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import choose, env_names, load_config
from sesa_agent.environments import make_env
from sesa_agent.environments.adapters.collections import (
    COLLECTIONS,
    example_id,
    install_command,
    register_collection,
)
from sesa_agent.screen import console, say


def run_envs(collection: str) -> None:
    """Print the bundled environments and the collections, or the ids of one collection.

    Raises:
        SettingError: if the collection is unknown or not installed.
    """
    if not collection:
        console.print(own_table())
        console.print(collections_table())
        say("A file of tasks: sesa-agent train --env tasks.jsonl --reward module:function")
        return
    choose("COLLECTION", collection, tuple(COLLECTIONS), "")
    for env_id in register_collection(collection):
        say(env_id)


def own_table() -> Table:
    """One row per bundled environment."""
    table = Table(title="sesa-agent train --env NAME")
    for column in ("name", "Gymnasium id", "turns", "actions"):
        table.add_column(column)
    for name in env_names():
        env = load_config(name).env
        spec = make_env(env.id, **env.options).unwrapped.text_spec  # pyright: ignore[reportAttributeAccessIssue]
        table.add_row(name, env.id, str(env.max_turns), spec.actions)
    return table


def collections_table() -> Table:
    """One row per collection: how many games it has, or how to install it."""
    table = Table(title="sesa-agent train --env COLLECTION/GAME (sesa-agent envs COLLECTION)")
    for column in ("collection", "games", "such as"):
        table.add_column(column)
    for name, collection in COLLECTIONS.items():
        try:
            games = f"{len(register_collection(name))} {collection.games}"
        except SettingError:
            games = f"{collection.games}; not installed: {install_command(name)}"
        table.add_row(name, escape(games), example_id(name))
    return table
