"""ScienceWorld's tasks (Apache-2.0): `sesa-agent train --env scienceworld/boil`.

An experiment of a science class in a house of ten rooms, by commands. Needs Java. The seed chooses
one of the task's variations (other substances, other rooms).
"""

from collections.abc import Sequence
from itertools import groupby

from ..text_env import TextSpec
from .collection_game import Reply
from .jvm import JvmGame

SPLITS = ("train", "dev", "test")
"""Sets of variations of each task."""
UNKNOWN = ("No known action matches", "Unknown action", "Ambiguous request")
"""Starts of the replies to a text that is no action."""


def game_names() -> Sequence[str]:
    """Return the names of the tasks.

    Raises:
        ModuleNotFoundError: if scienceworld is not installed.
    """
    import scienceworld.constants  # pyright: ignore[reportMissingImports]

    return list(scienceworld.constants.ID2TASK.values())


def make(
    name: str, split: str = "train", simplifications: str = "easy", max_steps: int = 100
) -> "ScienceWorldGame":
    """Make a task.

    Args:
        name: the task.
        split: the variations to draw from: train, dev or test.
        simplifications: what is made easier, separated by commas, with ScienceWorld's names; "easy"
            for everything, "" for nothing.
        max_steps: number of actions after which it is truncated.

    Raises:
        SettingError: if there is no Java.
        ValueError: if an option is out of range.
    """
    return ScienceWorldGame(name, split, simplifications, max_steps)


def _start():
    from scienceworld import ScienceWorldEnv  # pyright: ignore[reportMissingImports]

    return ScienceWorldEnv("")


class ScienceWorldGame(JvmGame):
    """A task of ScienceWorld.

    Observation: the task, the reply to the last command, the room and what is carried.
    Reward: the change of the score, which is 1 at success, and -1 after a fatal mistake.
    Episode end: terminated by success or failure. Success: the full score.

    Args:
        name: the task.
        split: the variations to draw from.
        simplifications: what is made easier.
        max_steps: number of actions after which it is truncated.
    """

    def __init__(self, name: str, split: str, simplifications: str, max_steps: int):
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
        text_spec = TextSpec(
            instruction="Do the task of a science class, by commands in a house of ten rooms.",
            legend="",
            actions="a command, such as 'open door to kitchen', 'pick up OBJECT', "
            "'focus on OBJECT', 'move OBJECT to OBJECT', 'teleport to kitchen', "
            "'use OBJECT on OBJECT', 'look at OBJECT', 'activate OBJECT', "
            "'pour OBJECT into OBJECT', 'wait1'",
            examples=("look around", "inventory", "wait1", "open cupboard", "go to hallway"),
        )
        super().__init__(f"scienceworld/{name}", text_spec, max_steps, _start)
        self.name, self.simplifications = name, simplifications
        with self.jvm.lock:
            self.server = self._new_server()
            known = [*self.server.getPossibleSimplifications().split(", "), "easy"]
            wrong = [word for word in simplifications.split(",") if word and word not in known]
            if wrong:
                self.close()
                raise ValueError(
                    f"simplifications must be some of {', '.join(known)}, got {wrong[0]!r}."
                )
            self._load(0)
            self.variations = list(getattr(self.server, f"getVariations{split.capitalize()}")())

    def open(self, seed: int) -> str:
        """Start one of the variations."""
        with self.jvm.lock:
            self.server = self._new_server()  # a used one keeps some of the last variation
            self._load(self.variations[seed % len(self.variations)])
            self.server.reset()
            self.server.step("look around")
            self.score = 0.0
            return self._show("")

    def play(self, action: str) -> Reply:
        """Give a command."""
        with self.jvm.lock:
            said = self.server.step(action)
            score = float(self.server.getScore())
            is_over = bool(self.server.getCompleted()) or score < 0
            reward, self.score = score - self.score, score
            return Reply(
                self._show(said),
                reward,
                terminated=is_over,
                success=is_over and score >= 1,
                legal=not said.startswith(UNKNOWN),
            )

    def _new_server(self):
        return self.jvm.gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface()

    def _load(self, variation: int) -> None:
        self.server.load(self.name, variation, self.simplifications, False)

    def _show(self, said: str) -> str:
        room, carried = self.server.freeActionLook(), self.server.freeActionInventory()
        task = f"Task: {self.server.getTaskDescription()}"
        parts = (task, "" if said == room else said, room, carried)
        return "\n".join(in_order(part).strip() for part in parts if part.strip())


def in_order(text: str) -> str:
    r"""Sort each list of things, because ScienceWorld's own order changes from play to play.

    >>> in_order("You see:\n\ta table\n\ta bed\nAlso:\n\ta door")
    'You see:\n\ta bed\n\ta table\nAlso:\n\ta door'
    """
    runs = groupby(text.splitlines(), key=lambda line: line[:1] in ("\t", " "))
    lines = [sorted(run) if is_list else list(run) for is_list, run in runs]
    return "\n".join(line for run in lines for line in run)
