"""`sesa-agent models`: the models that have names here, and `models fetch`, which downloads one."""

from rich.markup import escape
from rich.table import Table

from sesa_agent.agents.fetched import FETCHABLE, fetch, fetched_folder
from sesa_agent.agents.model_folder import BUNDLED, bundled_model_folder
from sesa_agent.screen import console, say


def run_models() -> None:
    """Print the names and where their models are."""
    table = Table(title="sesa-agent train --model NAME")
    for column in ("name", "folder"):
        table.add_column(column, overflow="fold")
    for name in BUNDLED:
        table.add_row(name, escape(str(bundled_model_folder(name))))
    for name in FETCHABLE:
        folder = fetched_folder(name)
        where = str(folder) if folder.is_dir() else f"not here yet: sesa-agent models fetch {name}"
        table.add_row(name, escape(where))
    console.print(table)


def run_fetch(name: str) -> None:
    """Download a model, unless it is there, and print its folder.

    Raises:
        SettingError: if the name is unknown, or the model could not be downloaded.
    """
    with console.status(f"fetching {name}"):
        folder = fetch(name)
    say(str(folder))
