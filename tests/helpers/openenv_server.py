"""A real OpenEnv server on the loopback address, in a thread of the tests."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LEVELS = 9
"""The largest number that may be guessed."""
NUMBERS = [str(number) for number in range(1, LEVELS + 1)]
"""All of them."""


def _guessing_game() -> tuple[Any, Any, Any]:
    """The classes of a game: environment, action, observation."""
    from openenv.core.env_server import Environment  # pyright: ignore[reportMissingImports]
    from openenv.core.env_server.types import (  # pyright: ignore[reportMissingImports]
        Action,
        Observation,
        State,
    )

    class Guess(Action):
        number: str

    class Told(Observation):
        message: str = ""
        legal_actions: list[str] = []

    class Guessing(Environment):
        """Guess the number."""

        SUPPORTS_CONCURRENT_SESSIONS = True
        num_open = 0

        def __init__(self):
            super().__init__()
            Guessing.num_open += 1

        def reset(self, seed=None, episode_id=None, **others):
            self.number, self.low, self.high = random.Random(seed).randint(1, LEVELS), 1, LEVELS
            return self._tell("Guess a number from 1 to 9.")

        def step(self, action, timeout_s=None, **others):
            guess = int(action.number) if action.number in NUMBERS else 0
            if guess == self.number:
                return self._tell("Yes!", is_over=True)
            if guess < self.number:
                self.low = max(self.low, guess + 1)
            else:
                self.high = min(self.high, guess - 1)
            return self._tell("It is higher." if guess < self.number else "It is lower.")

        def _tell(self, message, is_over=False):
            numbers = [str(number) for number in range(self.low, self.high + 1)]
            reward = float(is_over)
            return Told(message=message, legal_actions=numbers, done=is_over, reward=reward)

        @property
        def state(self):
            return State(episode_id="0", step_count=0)

        def close(self):
            Guessing.num_open -= 1

    return Guessing, Guess, Told


@contextmanager
def openenv_server(
    sessions: int = 16, classes: tuple[Any, Any, Any] | None = None
) -> Iterator[tuple[str, Any]]:
    """Serve a game; yields the server's address and the class of the environment."""
    import uvicorn  # pyright: ignore[reportMissingImports]
    from openenv.core.env_server import create_app  # pyright: ignore[reportMissingImports]

    game, action, observation = classes or _guessing_game()
    app = create_app(game, action, observation, max_concurrent_envs=sessions)
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}", game
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        door.close()
