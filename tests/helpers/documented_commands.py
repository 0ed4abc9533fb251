"""Find and parse the commands that the documentation shows."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from sesa_agent.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "agents" / "bundled").glob("*/README.md"))
STARTS = ("sesa-agent", "torchrun")
PLACEHOLDERS = {"my_pkg:MyEnv-v0", "my_package:MyGame-v0", "caves/Treasure-v0", "ID", "ENV"}
"""Environments that stand for the reader's own."""


def python_blocks(page: Path) -> dict[str, str]:
    """The Python files of a page by the name that stands before each."""
    text = page.read_text(encoding="utf-8")
    return dict(re.findall(r"`(\w+)\.py`:\n\n```python\n(.*?)```", text, flags=re.DOTALL))


def blocks(page: Path) -> Iterator[str]:
    """The fenced blocks of a page without a language; continued lines are joined."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for language, text in fenced:
        if not language:
            yield text.replace("\\\n", " ")


def fenced_commands(page: Path) -> list[list[str]]:
    """The words after `sesa-agent` of every command in a fenced block."""
    lines = [line for text in blocks(page) for line in text.splitlines()]
    return [_words(line) for line in lines if line.startswith(STARTS)]


def inline_commands(page: Path) -> list[list[str]]:
    """The commands within sentences that have an argument or an option."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = (_words(" ".join(code.split())) for code in re.findall(r"`(sesa-agent\s[^`]+)`", text))
    return [words for words in found if len(words) > 1]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return words[words.index("sesa_agent" if words[0] == "torchrun" else "sesa-agent") + 1 :]


def parse(words: list[str]) -> dict[str, Any]:
    """Parse a command with the real command line; it is not run.

    Raises:
        Exception: that of the command line, if there is no such option or a value does not fit.
    """
    command = typer.main.get_command(app).commands.get(words[0])  # pyright: ignore[reportAttributeAccessIssue]
    assert command is not None, f"No such command: {words[0]}"
    return command.make_context(words[0], words[1:]).params


def settings(params: Mapping[str, Any]) -> list[str]:
    """The settings among the arguments of a command."""
    words = params.get("overrides") or params.get("words") or []
    return [word for word in words if "=" in word]
