"""ALFWorld's household tasks (MIT): `sesa-agent train --env alfworld/train`.

Its text games, played with TextWorld directly. The games are a download of their own
(`alfworld-download`); their folder is `env.options.data` or the environment variable ALFWORLD_DATA.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...configs.errors import SettingError
from .textworld_env import GivenFile, TextWorldGame

SETS: Mapping[str, str] = {
    "train": "train",
    "valid_seen": "valid_seen",
    "valid_unseen": "valid_unseen",
}
"""Folders of the data by the names of the sets."""
TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
"""Kinds of tasks."""
UNSUPPORTED = ("movable", "Sliced")
"""Parts of the names of tasks that ALFWorld has no text games for."""


def game_names() -> Sequence[str]:
    """Return the names of the sets.

    Raises:
        ModuleNotFoundError: if alfworld is not installed.
    """
    import alfworld  # noqa: F401  # pyright: ignore[reportMissingImports]

    return list(SETS)


def make(name: str, data: str = "", task_types: str = "", max_steps: int = 50) -> TextWorldGame:
    """Make the games of a set.

    Args:
        name: the set.
        data: the folder that `alfworld-download` filled; by default ALFWORLD_DATA.
        task_types: kinds of tasks (`TASK_TYPES`), separated by commas; by default all.
        max_steps: number of actions after which an episode is truncated.

    Raises:
        SettingError: if there are no such games.
    """
    kinds = tuple(kind.strip() for kind in task_types.split(",") if kind.strip())
    unknown = [kind for kind in kinds if kind not in TASK_TYPES]
    if unknown:
        raise SettingError(
            f"env.options.task_types must be some of {', '.join(TASK_TYPES)}, got {unknown[0]!r}."
        )
    folder = data or os.environ.get("ALFWORLD_DATA", "")
    files = _game_files(str(Path(folder).expanduser()), SETS[name], kinds) if folder else ()
    if not files:
        where = f"{folder} has none" if folder else "no folder is given"
        raise SettingError(
            f"--env alfworld/{name} needs ALFWorld's games ({where}). Download them with "
            "alfworld-download, and give the folder: env.options.data=FOLDER, or ALFWORLD_DATA."
        )
    return TextWorldGame(lambda seed: _solvable(files, seed), max_steps, [_demangled])


@lru_cache(maxsize=8)
def _game_files(folder: str, name: str, kinds: tuple[str, ...]) -> tuple[Path, ...]:
    """The game files of a set, of some kinds of tasks."""
    found = sorted(Path(folder).glob(f"json_*/{name}/**/game.tw-pddl"))
    found = [path for path in found if not any(part in str(path) for part in UNSUPPORTED)]
    wanted = (not kinds or _read(path, "traj_data")["task_type"] in kinds for path in found)
    return tuple(path for path, is_wanted in zip(found, wanted, strict=True) if is_wanted)


def _read(path: Path, name: str) -> dict[str, Any]:
    """Read the JSON file of a name beside a game file."""
    return json.loads(path.with_name(f"{name}.json").read_text(encoding="utf-8"))


def _solvable(files: Sequence[Path], seed: int) -> GivenFile:
    """The game of a seed; the next one, if ALFWorld found that it cannot be solved."""
    for place in range(len(files)):
        path = files[(seed + place) % len(files)]
        if json.loads(path.read_text(encoding="utf-8")).get("solvable", True):
            return GivenFile(str(path))
    raise ValueError("none of the games can be solved")


def _demangled(env: Any) -> Any:
    """Give the things of a game their readable names ("soapbar 1") when it is loaded."""
    import textworld.core  # pyright: ignore[reportMissingImports]
    from alfworld.agents.utils.misc import Demangler  # pyright: ignore[reportMissingImports]

    class Demangled(textworld.core.Wrapper):
        def load(self, path: str) -> None:
            super().load(path)
            names = Demangler(game_infos=self._entity_infos)
            for thing in self._entity_infos.values():
                thing.name = names.demangle_alfred_name(thing.id)

    return Demangled(env)
