import sys

import pytest

from sesa_agent import cli, screen

from ..helpers.browser import start_chromium


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
def wide_screen(monkeypatch):
    """A screen on which no line is broken."""
    monkeypatch.setattr(screen.console, "_width", 400)


@pytest.fixture
def model(llama):
    """A folder of weights that tests only read."""
    return llama


@pytest.fixture(scope="module")
def browser():
    with start_chromium() as chromium:
        yield chromium


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The working folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(sesa_agent, monkeypatch, tmp_path):
    """Runs the command line in an empty working folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    return sesa_agent
