import os
import shutil
import sys
from pathlib import Path

import pytest

from sesa_agent import cli

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture
def sesa_agent(monkeypatch, capsys):
    """Runs the command line; returns exit code, output and errors."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sesa-agent", *map(str, words)])
        capsys.readouterr()  # what the test's own preparations printed
        with pytest.raises(SystemExit) as stop:
            cli.main()
        answer = capsys.readouterr()
        return stop.value.code or 0, answer.out, answer.err

    return run


@pytest.fixture
def model(llama):
    """A folder of weights that tests only read."""
    return llama


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make browser"
    )
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, CHROMIUMS)), driver.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("there is no Chromium: make browser")
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=found, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def call(sesa_agent, monkeypatch, tmp_path):
    """Runs the command line in an empty working folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    return sesa_agent
