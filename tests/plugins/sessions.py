"""A game on a server of few sessions, as files that count those that are open: `sessions:Game-v0`.

Nothing of it can be copied, and a session too many is refused. Every opening and closing is a line
in the folder's `log`.
"""

import fcntl
import os
import threading
import time
from pathlib import Path

import gymnasium
from gymnasium.spaces import Discrete

LIMIT = 4


class Game(gymnasium.Env):
    """Walk to the last of eight rooms."""

    observation_space, action_space = Discrete(8), Discrete(2)
    action_names = ("Left", "Right")
    max_steps = 4
    is_deterministic = True

    def __init__(self, folder: str, limit: int = LIMIT, reusable: bool = False):
        self.folder, self.max_instances, self.is_reusable = Path(folder), limit, reusable
        self.connection = threading.Lock()  # what no copy gets through
        self.is_open = False
        self._count(+1)
        self.is_open = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = int(self.np_random.integers(3, 6))
        return self.room, {}

    def step(self, action):
        time.sleep(0.01)
        self.room = max(0, min(7, self.room + (1 if action else -1)))
        is_over = self.room == 7
        return self.room, float(is_over), is_over, False, {"success": is_over}

    def close(self):
        if self.is_open:
            self.is_open = False
            self._count(-1)

    def _count(self, change: int) -> None:
        """Open or close a session."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            num_open = num_sessions(self.folder)[0] + change
            if num_open > LIMIT:
                raise ConnectionRefusedError(f"all {LIMIT} sessions are open")
            with (self.folder / "log").open("a") as log:
                log.write(f"{change} {num_open} {os.getpid()}\n")


def num_sessions(folder: Path) -> tuple[int, int, int]:
    """How many sessions are open, were open at most, and were opened in all."""
    file = folder / "log"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    counts = [int(count) for _, count, _ in lines]
    return (counts or [0])[-1], max(counts, default=0), sum(change == "1" for change, *_ in lines)


gymnasium.register("Game-v0", "sessions:Game")
