"""The screen of a game: the board in colours, and lines of text around it."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from sesa_agent.play.keys import in_terminal
from sesa_agent.screen import printable

CELLS: dict[str, dict[str, str]] = {
    "sesa/Sokoban-v0": {
        "#": "grey42 on grey42",
        "_": "grey37",
        "O": "bold red1",
        "X": "bold black on dark_goldenrod",
        "√": "bold black on green3",
        "P": "bold white on blue",
        "S": "bold white on red3",
    },
    "sesa/FrozenLake-v0": {
        "_": "light_sky_blue1 on light_sky_blue1",
        "O": "white on dark_blue",
        "G": "bold black on green3",
        "P": "bold black on dark_orange",
        "X": "bold white on red3",
        "√": "bold black on green3",
    },
    "sesa/Sudoku-v0": {"_": "grey37"},
}
"""Styles of the symbols, by the id of a game whose observation is a grid of symbols."""
_BRIGHT = ("green", "yellow", "cyan", "white")
_TAGGED = re.compile(r"<(black|red|green|yellow|blue|magenta|cyan|white)>(.*?)</\1>", re.DOTALL)


def draw_board(env_id: str, observation: str, in_colour: bool) -> Text:
    """Draw an observation between two blank lines, with square cells and in colour.

    Args:
        env_id: the id of the game, for its `CELLS`.
        observation: the observation of the environment.
        in_colour: whether the screen shows colours; otherwise colour tags stay as text.
    """
    observation, board = printable(observation), Text("\n")
    if env_id in CELLS:
        for symbol in observation:
            cell = symbol if symbol == "\n" else symbol * 2 if symbol == "#" else f"{symbol} "
            board.append(cell, style=CELLS[env_id].get(symbol, ""))
        return board.append("\n")
    if not in_colour:
        return Text(f"\n{observation}\n")
    end = 0
    for found in _TAGGED.finditer(observation):  # as `words.plain_text` writes them
        board.append(observation[end : found.start()])
        ink = "black" if found[1] in _BRIGHT else "white"
        board.append(found[2], style=f"bold {ink} on {found[1]}")
        end = found.end()
    return board.append(f"{observation[end:]}\n")


def words(text: str, style: str = "") -> Text:
    """Text of a game or a model, without control characters."""
    return Text(printable(text), style=style)


def show(console: Console, parts: Sequence[Text]) -> None:
    """Redraw the screen; outside a terminal, print it below the last one.

    Args:
        console: the screen.
        parts: from top to bottom; empty ones are left out.
    """
    if in_terminal():
        console.clear()
    for part in filter(None, parts):
        console.print(part, soft_wrap=True)


def has_colours(console: Console) -> bool:
    """Whether the screen shows colours."""
    return console.color_system is not None and not console.no_color
