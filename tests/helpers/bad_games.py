"""An environment with selectable faults: `--env tests.helpers.bad_games:Bad-v0`."""

import sys
import time
from typing import Any

import gymnasium

from sesa_agent.environments import TextEnv
from sesa_agent.environments.games.data_files import SPLITS

from .games import LineGame

ENV_ID = "tests.helpers.bad_games:Bad-v0"
FAULTS = {
    "raise": r"step\('Left'\) raised ValueError: the board broke \(bad_games.py:\d+\)",
    "exit": r"step\('Left'\) raised SystemExit: 3",
    "hang": r"step\('Left'\) took longer than env.step_timeout=0.2 seconds",
    "swallow": r"step\('Left'\) took longer than env.step_timeout=0.2 seconds",
    "four": r"step\('Left'\) must return \(observation, reward, .*info\), not four values",
    "nan": r"step\('Left'\) must return a finite number as reward, got nan",
    "number": r"step\('Left'\) must return a str as observation, got 7",
    "info": r"step\('Left'\) must return a dict as info, got None",
    "flag": r"step\('Left'\) must return True or False as terminated, got 'won'",
    "key": r"step\('Left'\) must return a hashable state_key\(\), got \[3\]",
    "read": r"canonical_action\('Left'\) raised KeyError: 'Left'",
    "fork": r"a fork raised RuntimeError: no copies",
}
"""What the action Left does, and the message about it; `fork` fails at any action."""


class BadGame(TextEnv):
    """The game of `LineGame`, with one fault."""

    def __init__(self, fault: str, noisy: bool = False):
        super().__init__(LineGame(is_deterministic=not noisy), max_steps=10)
        self.fault = fault
        self.is_unhashable = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if self.fault == "odd_seeds" and seed is not None and seed % 2:
            raise OSError("no such level")
        if self.fault == "training_seeds" and seed in SPLITS["training"][2:]:
            raise OSError("no such level")
        if self.fault == "every_seed":
            raise OSError("no such level")
        if self.fault == "print":
            print("starting a game")
        return super().reset(seed=seed, options=options)

    def step(self, action: str):
        observation, reward, terminated, truncated, info = super().step(action)
        outcome: Any = observation, reward, terminated, truncated, info
        if action != "Left":
            return outcome
        if self.fault == "raise":
            raise ValueError("the board broke")
        if self.fault == "exit":
            sys.exit(3)
        if self.fault == "hang":
            time.sleep(60)
        while self.fault == "swallow":
            try:
                time.sleep(60)
            except Exception:
                continue
        if self.fault == "print":
            print("left!")
        self.is_unhashable = self.fault == "key"
        return {
            "four": (observation, reward, terminated, info),
            "nan": (observation, float("nan"), terminated, truncated, info),
            "number": (7, reward, terminated, truncated, info),
            "info": (observation, reward, terminated, truncated, None),
            "flag": (observation, reward, "won", truncated, info),
        }.get(self.fault, outcome)

    def canonical_action(self, text: str):
        if self.fault == "read" and text == "Left":
            raise KeyError(text)
        return super().canonical_action(text)

    def state_key(self):
        return [3] if self.is_unhashable else super().state_key()

    def fork(self):
        if self.fault == "fork":
            raise RuntimeError("no copies")
        return super().fork()


if "Bad-v0" not in gymnasium.registry:
    entry_point: Any = BadGame
    gymnasium.register("Bad-v0", entry_point, order_enforce=False, disable_env_checker=True)
