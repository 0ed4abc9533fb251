"""BabyAI's levels in words: `sesa-agent train --env babyai/GoToLocal-v0`.

The levels are MiniGrid's (Apache-2.0). Under their own ids (`BabyAI-GoToLocal-v0`) they are shown
as a grid of letters (`known_games.py`); here the agent's own view is told in sentences, as in the
BabyAI-Text line of work (arXiv:2302.02662).
"""

from collections.abc import Sequence
from typing import Any

import gymnasium

from .adapter import TextAdapter

PREFIX = "BabyAI-"
"""Start of the ids of the levels in MiniGrid."""


def game_names() -> Sequence[str]:
    """Return the names of the levels.

    Raises:
        ModuleNotFoundError: if MiniGrid is not installed.
    """
    _register()
    known = [name.removeprefix(PREFIX) for name in gymnasium.registry if name.startswith(PREFIX)]
    return [name for name in known if "Debug" not in name]


def _register() -> None:
    """Register MiniGrid's ids, also if they were once and are not any more."""
    import minigrid  # pyright: ignore[reportMissingImports]

    if not any(name.startswith(PREFIX) for name in gymnasium.registry):
        minigrid.register_minigrid_envs()


def make(name: str, **options: Any) -> "BabyAI":
    """Make a level.

    Args:
        name: its id in MiniGrid, without `BabyAI-`.
        options: keyword arguments of the level.

    Raises:
        TypeError: if the level has no such option.
    """
    _register()
    return BabyAI(gymnasium.make(f"{PREFIX}{name}", disable_env_checker=True, **options))


class BabyAI(TextAdapter):
    """A level of BabyAI, told in sentences.

    Observation: the mission, what the agent sees from where it stands, and what it carries.
    Actions: seven, by name. Reward: at success, 1 minus .9 times the used part of the steps.
    Episode end: terminated by the mission's success or failure; truncated at the level's limit.
    """

    rules = "Fulfil the mission. You see a part of the world, and objects beyond walls are hidden."
    action_names = (
        "Turn left",
        "Turn right",
        "Go forward",
        "Pick up",
        "Drop",
        "Toggle",
        "Done",
    )
    legend = (
        "distances are in steps from you; you pick up, drop and toggle (open, close, unlock) "
        "what is 1 step ahead"
    )
    is_deterministic = True
    is_fully_observed = False
    is_reusable = True

    def observation_text(self, observation: Any, info: dict[str, Any]) -> str:
        """Describe the mission, the view and what is carried."""
        game: Any = self.env.unwrapped
        grid, is_visible = game.gen_obs_grid()
        carried = game.carrying and f"a {game.carrying.color} {game.carrying.type}"
        lines = [f"Mission: {game.mission}.", *describe_view(grid, is_visible)]
        return "\n".join([*lines, f"You carry {carried or 'nothing'}."])


def describe_view(grid: Any, is_visible: Any) -> list[str]:
    """Describe what an agent sees that stands in the middle of the last row and looks up.

    Args:
        grid: the view, a grid of MiniGrid.
        is_visible: whether each cell can be seen, shape (width, height).

    Returns:
        A sentence for the nearest wall in each direction, then one for each thing, nearest first.
    """
    column, row = grid.width // 2, grid.height - 1
    seen = []
    for x in range(grid.width):
        for y in range(grid.height):
            thing = grid.get(x, y)
            if thing is not None and is_visible[x, y] and (x, y) != (column, row):
                seen.append((row - y, x - column, thing))
    seen.sort(key=lambda item: (item[0] + abs(item[1]), item[:2]))
    walls = [_nearest_wall(seen, ahead, aside) for ahead, aside in ((1, 0), (0, -1), (0, 1))]
    things = [
        f"You see {_name(thing)} {_place(ahead, aside)}."
        for ahead, aside, thing in seen
        if thing.type != "wall"
    ]
    return [wall for wall in walls if wall] + things


def _nearest_wall(seen: Sequence[tuple[int, int, Any]], ahead: int, aside: int) -> str:
    """The sentence for the nearest wall straight ahead, to the left or to the right, or ""."""
    for distance_ahead, distance_aside, thing in seen:
        is_there = (
            (distance_ahead > 0 and distance_aside == 0)
            if ahead
            else (distance_ahead == 0 and distance_aside * aside > 0)
        )
        if thing.type == "wall" and is_there:
            return f"You see a wall {_place(distance_ahead, distance_aside)}."
    return ""


def _name(thing: Any) -> str:
    if thing.type != "door":
        name = f"{thing.color} {thing.type}" if thing.type != "lava" else "lava"
        return name if thing.type == "lava" else f"a {name}"
    state = "an open" if thing.is_open else "a locked" if thing.is_locked else "a closed"
    return f"{state} {thing.color} door"


def _place(ahead: int, aside: int) -> str:
    """Where something is, in words.

    >>> _place(1, 0), _place(3, -2), _place(0, 1)
    ('1 step ahead', '3 steps ahead and 2 to the left', '1 step to the right')
    """
    side = f"to the {'left' if aside < 0 else 'right'}"
    if not aside:
        return _steps(ahead) + " ahead"
    return (
        f"{_steps(ahead)} ahead and {abs(aside)} {side}"
        if ahead
        else f"{_steps(abs(aside))} {side}"
    )


def _steps(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"
