"""Key bindings for games whose actions are a list of names.

Directions get the arrow keys and WASD, up to nine other actions the digits 1 to 9. Games with
free-text actions, or with more actions than keys, have none: their actions are typed as lines.
"""

from collections.abc import Mapping, Sequence

from sesa_agent.play.keys import ARROWS, DOWN, LEFT, RIGHT, UP

COMMANDS = {"h": "hint", "u": "undo", "r": "restart", "n": "next puzzle", "q": "quit"}
"""Commands in every game."""
DIRECTIONS = {
    UP: ("up", "north", "forward"),
    DOWN: ("down", "south", "back", "backward"),
    LEFT: ("left", "west"),
    RIGHT: ("right", "east"),
}
"""Names of actions, in lower case, for each arrow key."""
LETTERS = dict(zip("wsad", ARROWS, strict=True))
"""The arrow key of each letter."""
NUM_NUMBERS = 9


def bind_keys(names: Sequence[str]) -> dict[str, str]:
    """Bind a key to every action, two to a direction; empty if there are not enough keys.

    >>> bind_keys(["South", "North", "Pickup"])
    {'↓': 'South', 's': 'South', '↑': 'North', 'w': 'North', '1': 'Pickup'}
    """
    arrows = {name: arrow for arrow, known in DIRECTIONS.items() for name in known}
    letters = {arrow: letter for letter, arrow in LETTERS.items()}
    bindings: dict[str, str] = {}
    others: list[str] = []
    for name in names:
        arrow = arrows.get(name.lower())
        if arrow is None or arrow in bindings:
            others.append(name)
        else:
            bindings |= {arrow: name, letters[arrow]: name}
    if len(others) > NUM_NUMBERS:
        return {}
    return bindings | {str(number): name for number, name in enumerate(others, start=1)}


def describe_keys(bindings: Mapping[str, str]) -> str:
    """Describe all keys in one line.

    >>> describe_keys({"↑": "Up", "w": "Up", "1": "Wait"})
    '↑ w Up, 1 Wait; h hint, u undo, r restart, n next puzzle, q quit'
    """
    keys: dict[str, list[str]] = {}
    for key, action in bindings.items():
        keys.setdefault(action, []).append(key)
    actions = [" ".join((*of_action, action)) for action, of_action in keys.items()]
    commands = ", ".join(f"{key} {meaning}" for key, meaning in COMMANDS.items())
    return "; ".join(filter(None, (", ".join(actions), commands)))
