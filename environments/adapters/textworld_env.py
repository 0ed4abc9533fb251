"""TextWorld's text adventures (MIT): `sesa-agent train --env textworld/treasure_hunter`.

A game is made from the seed by TextWorld's own generator, as its command `tw-make` does, in a
second; `textworld/files` plays game files instead (`env.options.pattern=games/*.z8`).
"""

import glob
import inspect
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...configs.errors import SettingError
from ...configs.typed import fit
from ..text_env import TextSpec
from .collection_game import OutsideGame, Reply

NUM_KEPT = 256
"""Number of games whose files are kept for the next episode with the same seed."""
_STATUS = re.compile(r">?\s*-=.*=-\s*-?\d+/\d+")


def game_names() -> Sequence[str]:
    """Return the kinds of games.

    Raises:
        ModuleNotFoundError: if textworld is not installed.
    """
    import textworld  # noqa: F401  # pyright: ignore[reportMissingImports]

    return [*MAKERS, "files"]


class GameFile:
    """A game in a folder of its own, which is removed together with this object.

    Args:
        folder: the folder.
        path: the file.
    """

    def __init__(self, folder: str, path: str):
        self.path = path
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def _custom(options: Any, rooms: int = 3, objects: int = 6, quest_length: int = 3) -> Any:
    from textworld.generator import make_game  # pyright: ignore[reportMissingImports]

    options.nb_rooms, options.nb_objects = rooms, objects
    options.quest_length = quest_length
    return make_game(options)


def _challenge(package: str, options: Any, **settings: Any) -> Any:
    from textworld.challenges import CHALLENGES  # pyright: ignore[reportMissingImports]

    return CHALLENGES[package][1](settings, options)


def _treasure_hunter(options: Any, level: int = 5) -> Any:
    return _challenge("tw-treasure_hunter", options, level=level)


def _coin_collector(options: Any, level: int = 5) -> Any:
    return _challenge("tw-coin_collector", options, level=level)


def _simple(options: Any, rewards: str = "dense", goal: str = "detailed") -> Any:
    return _challenge("tw-simple", options, rewards=rewards, goal=goal, test=False)


def _cooking(
    options: Any,
    recipe: int = 1,
    take: int = 1,
    go: int = 1,
    open: bool = False,
    cook: bool = False,
    cut: bool = False,
    drop: bool = False,
    split: str = "train",
) -> Any:
    recipe_seed = options.seeds["map"] if take else 0  # 0 for the ingredients in fixed places
    wanted = {"recipe": recipe, "take": take, "go": go, "recipe_seed": recipe_seed}
    wanted |= {"open": open, "cook": cook, "cut": cut, "drop": drop, "split": split}
    return _challenge("tw-cooking", options, **wanted)


MAKERS: Mapping[str, Callable[..., Any]] = {
    "custom": _custom,
    "treasure_hunter": _treasure_hunter,
    "coin_collector": _coin_collector,
    "simple": _simple,
    "cooking": _cooking,
}
"""What makes the games of a kind; keyword arguments are options of the id."""


def make(name: str, pattern: str = "", max_steps: int = 50, **options: Any) -> "TextWorldGame":
    """Make a kind of games.

    Args:
        name: the kind.
        pattern: game files (`*.z8`, `*.tw-pddl`), for "files" only.
        max_steps: number of actions after which a game is truncated.
        options: how a game is made, with the names that `tw-make` has for it.

    Raises:
        SettingError: if there are no such files, or one cannot be made with these options.
        TypeError: if the kind has no such option.
    """
    if (name == "files") != bool(pattern):
        raise SettingError(
            "--env textworld/files needs env.options.pattern, such as games/*.z8."
            if name == "files"
            else f"env.options.pattern goes with --env textworld/files, not textworld/{name}."
        )
    if name != "files":
        return TextWorldGame(_MadeGames(name, options), max_steps)
    if options:
        raise TypeError(f"textworld/files has no option {next(iter(options))!r}")
    files = sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))
    if not files:
        raise SettingError(f"env.options.pattern must name game files, but {pattern!r} names none.")
    return TextWorldGame(lambda seed: GivenFile(files[seed % len(files)]), max_steps)


class GivenFile:
    """A game of somebody else.

    Args:
        path: the file.
    """

    def __init__(self, path: str):
        self.path = path


class _MadeGames:
    """Makes the game of a seed."""

    def __init__(self, name: str, options: Mapping[str, Any]):
        known = dict(list(inspect.signature(MAKERS[name]).parameters.items())[1:])
        unknown = [option for option in options if option not in known]
        if unknown:
            raise TypeError(
                f"textworld/{name} has no option {unknown[0]!r}, only {', '.join(known)}"
            )
        fitted = {
            option: fit(value, known[option].annotation, f"env.options.{option}")
            for option, value in options.items()
        }
        self.name, self.options = name, tuple(sorted(fitted.items()))

    def __call__(self, seed: int) -> GameFile:
        return _make_game(self.name, self.options, seed)


@lru_cache(maxsize=NUM_KEPT)
def _make_game(name: str, options: tuple[tuple[str, Any], ...], seed: int) -> GameFile:
    import textworld  # pyright: ignore[reportMissingImports]
    from textworld.generator import compile_game  # pyright: ignore[reportMissingImports]

    folder = tempfile.mkdtemp(prefix="sesa-textworld-")
    game_options = textworld.GameOptions()
    game_options.seeds, game_options.path = seed, f"{folder}/game.z8"
    game = MAKERS[name](game_options, **dict(options))
    return GameFile(folder, compile_game(game, game_options))


class TextWorldGame(OutsideGame):
    """A text adventure of TextWorld.

    Observation: the goal and the reply to the last command.
    Reward: the change of the score, as a part of the full score.
    Episode end: terminated when the game is won or lost. Success: it is won.

    Args:
        find: returns the game of a seed, with its `path`.
        max_steps: number of actions after which it is truncated.
        wrappers: TextWorld's wrappers around the game.
    """

    def __init__(
        self,
        find: Callable[[int], Any],
        max_steps: int,
        wrappers: Sequence[Callable[..., Any]] = (),
    ):
        text_spec = TextSpec(
            instruction="Play a text adventure by commands: read the goal and reach it.",
            legend="",
            actions="one of the commands that the game knows now",
            examples=("look", "inventory", "go north", "go east", "go south", "go west"),
        )
        super().__init__(text_spec, max_steps)
        self.find, self.wrappers = find, list(wrappers)
        self.game: Any = None

    def open(self, seed: int) -> str:
        """Start the game of a seed."""
        import textworld  # pyright: ignore[reportMissingImports]

        self.close()
        self.file = self.find(seed)
        wanted = textworld.EnvInfos(
            admissible_commands=True,
            won=True,
            lost=True,
            score=True,
            max_score=True,
            objective=True,
            description=True,
            inventory=True,
        )
        self.game = textworld.start(self.file.path, wanted, self.wrappers)
        self.game.seed(seed)
        state = self.game.reset()
        self.score, self.full_score = float(state.score or 0), float(state.max_score or 1)
        self.objective = " ".join((state.objective or "").split())
        return self._show(state, is_start=True)

    def play(self, action: str) -> Reply:
        """Give a command."""
        is_known = action in (self.available_actions or ())
        state, score, is_over = self.game.step(action)
        reward = (float(score or 0) - self.score) / self.full_score
        self.score = float(score or 0)
        return Reply(
            self._show(state),
            reward,
            terminated=bool(is_over),
            success=bool(is_over and state.won),
            legal=is_known,
        )

    def close(self) -> None:
        """End the game."""
        if self.game is not None:
            self.game.close()
            self.game = None

    def _show(self, state: Any, is_start: bool = False) -> str:
        self.available_actions = state.admissible_commands
        if not self.objective:  # the game tells its goal itself
            if is_start:
                self.start = _tidy(state.feedback)
                return self.start
            return f"{self.start}\n\n{_tidy(state.feedback)}"
        said = "" if is_start else _tidy(state.feedback)
        room, carried = _tidy(state.description or ""), _tidy(state.inventory or "")
        parts = (f"Goal: {self.objective}", said, "" if said == room else room, carried)
        return "\n".join(part for part in parts if part)


def _tidy(text: str) -> str:
    r"""Remove empty lines, prompts and the status line, which counts the moves.

    >>> _tidy("You can't go that way.\n\n>     -= Canteen =-0/3\n")
    "You can't go that way."
    """
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line.strip("> ") and not _STATUS.fullmatch(line))
