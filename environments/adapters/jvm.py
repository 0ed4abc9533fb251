"""Java processes of collections that are written in Scala: one for all games of a collection.

A Java process takes a second to start and a few hundred megabytes, so all games of a collection in
this process share one, each as an object of its own in it. It is started for the first game and
ended when the last one is closed. Calls are made one at a time.
"""

import os
import shutil
import subprocess
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ...configs.errors import SettingError
from ..text_env import TextSpec
from .collection_game import OutsideGame

END_S = 10.0
"""Seconds in which a Java process must end before it is killed."""
_running: dict[str, "Jvm"] = {}
"""Java processes by the name of their collection."""
_starting = threading.RLock()  # the garbage collector may close a game while it is held


class Jvm:
    """A Java process.

    Args:
        owner: an object of the collection's package that started it and closes it.
        gateway: py4j's gateway to it.
    """

    def __init__(self, owner: Any, gateway: Any):
        self.owner, self.gateway = owner, gateway
        self.lock = threading.RLock()
        self.process_id, self.num_games = os.getpid(), 0


def borrow_jvm(env_id: str, start: Callable[[], Any]) -> Jvm:
    """Return the Java process of a collection, started if there is none; `give_back` it once.

    Args:
        env_id: the id of the game; its namespace is the collection.
        start: starts it and returns an object with the attribute `_gateway`.

    Raises:
        SettingError: if there is no Java.
    """
    if shutil.which("java") is None:
        raise SettingError(
            f"env.id {env_id} needs Java, and there is no program `java`. Install one, in Debian: "
            "apt-get install default-jre-headless."
        )
    name = env_id.partition("/")[0]
    with _starting:
        jvm = _running.get(name)
        if jvm is None or jvm.process_id != os.getpid():  # never the one of a parent process
            owner = start()
            jvm = _running[name] = Jvm(owner, owner._gateway)
        jvm.num_games += 1
        return jvm


def give_back(jvm: Jvm) -> None:
    """End a Java process if no other game uses it."""
    with _starting:
        jvm.num_games -= 1
        if jvm.num_games or jvm.process_id != os.getpid():
            return
        for name in [name for name, other in _running.items() if other is jvm]:
            del _running[name]
    process = jvm.gateway.java_process
    jvm.owner.close()
    try:
        process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class JvmGame(OutsideGame):
    """A game that is an object in a shared Java process.

    Args:
        env_id: its id.
        text_spec: what a player is told.
        max_steps: number of actions after which it is truncated.
        start: starts the Java process (`borrow_jvm`).
    """

    def __init__(self, env_id: str, text_spec: TextSpec, max_steps: int, start: Callable[[], Any]):
        super().__init__(text_spec, max_steps)
        self.jvm = borrow_jvm(env_id, start)
        self._give_back = weakref.finalize(self, give_back, self.jvm)
        self._give_back.atexit = False  # the process ends with this one

    def close(self) -> None:
        """Give the game's object up, and end the Java process if it was the last one."""
        self._give_back()
