"""TextWorldExpress' games (Apache-2.0): `sesa-agent train --env textworld_express/coin`.

Fast versions of games known from TextWorld, and a few others. Needs Java. The seed chooses one of
the game's own seeds of a fold.
"""

import json
from collections.abc import Sequence
from typing import Any

from ..text_env import TextSpec
from .collection_game import Reply
from .jvm import JvmGame

FOLDS = ("train", "dev", "test")
"""Sets of games."""


def game_names() -> Sequence[str]:
    """Return the names of the games.

    Raises:
        ModuleNotFoundError: if textworld-express is not installed.
    """
    import textworld_express.constants  # pyright: ignore[reportMissingImports]

    return list(textworld_express.constants.GAME_NAMES)


def make(
    name: str, split: str = "train", params: str = "", max_steps: int = 50
) -> "TextWorldExpressGame":
    """Make a game.

    Args:
        name: the game.
        split: its fold: train, dev or test.
        params: its parameters, with TextWorldExpress' names, such as
            "numLocations=3,includeDoors=0".
        max_steps: number of actions after which it is truncated.

    Raises:
        SettingError: if there is no Java.
        ValueError: if an option is out of range.
    """
    return TextWorldExpressGame(name, split, params, max_steps)


def _start():
    from textworld_express import TextWorldExpressEnv  # pyright: ignore[reportMissingImports]

    return TextWorldExpressEnv()


class TextWorldExpressGame(JvmGame):
    """A game of TextWorldExpress.

    Observation: the task, the reply to the last command, the room and what is carried.
    Reward: the change of the score, which is 1 at success.
    Episode end: terminated by success or failure.

    Args:
        name: the game.
        split: its fold.
        params: its parameters.
        max_steps: number of actions after which it is truncated.
    """

    def __init__(self, name: str, split: str, params: str, max_steps: int):
        if split not in FOLDS:
            raise ValueError(f"split must be one of {', '.join(FOLDS)}, got {split!r}.")
        text_spec = TextSpec(
            instruction="Play a text game by commands: read the task and do it.",
            legend="",
            actions="one of the commands that the game knows now",
            examples=("look around", "inventory", "move north", "move south", "take coin"),
        )
        super().__init__(f"textworld_express/{name}", text_spec, max_steps, _start)
        with self.jvm.lock:
            self.server = self.jvm.gateway.jvm.textworldexpress.runtime.PythonInterface()
            complaint = self.server.load(name, params)
            if complaint:
                self.close()
                raise ValueError(f"params: {complaint}")
            self.split = split
            self.seeds = list(getattr(self.server, f"getSeeds{split.capitalize()}")())

    def open(self, seed: int) -> str:
        """Start one of the games."""
        with self.jvm.lock:
            puzzle = self.seeds[seed % len(self.seeds)]
            state = json.loads(self.server.generateNewGameJSON(puzzle, self.split, False))
            self.score = 0.0
            return self._show(state)

    def play(self, action: str) -> Reply:
        """Give a command."""
        with self.jvm.lock:
            is_known = action in (self.available_actions or ())
            state = json.loads(self.server.stepJSON(action))
            score = float(state["score"])
            reward, self.score = score - self.score, score
            is_won = bool(state["tasksuccess"]) or score >= 1
            return Reply(
                self._show(state),
                reward,
                terminated=is_won or bool(state["taskfailure"]),
                success=is_won,
                legal=is_known,
            )

    def _show(self, state: dict[str, Any]) -> str:
        self.available_actions = sorted(state["validActions"])
        said, room = state["observation"].strip(), state["look"].strip()
        task = f"Task: {self.server.getTaskDescription()}"
        parts = (task, "" if said == room else said, room, state["inventory"].strip())
        return "\n".join(part for part in parts if part)
