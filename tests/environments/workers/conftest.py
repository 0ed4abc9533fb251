"""Plug-ins outside of the tree: plain modules on `sys.path`, as a user's are."""

from pathlib import Path

import pytest

from sesa_agent.environments.workers.pool import close_pools

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGINS))
    yield PLUGINS
    close_pools()
