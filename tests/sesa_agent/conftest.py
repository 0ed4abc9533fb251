import sys

import pytest

from sesa_agent import cli


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
