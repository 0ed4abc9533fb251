"""What `sesa-agent warm-start` is asked to do, checked before a model is loaded."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sesa_agent.configs.errors import SettingError, check
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.runs import CONFIG_FILE
from sesa_agent.training.warm_start import StopRule


@dataclass(frozen=True)
class WarmStartOptions:
    """What to teach, how long, and where the model is written."""

    env: str = ""
    chats: Path | None = None
    """A JSON Lines file of chats to teach instead of the player's moves."""
    run: Path | None = None
    """A run folder whose successful trajectories are taught instead."""
    lessons: int = 40
    """Most lessons."""
    readable: float = 0.95
    """Share of readable answers that is enough."""
    min_entropy: float = 0.5
    """Entropy of an answer, in nats, below which lessons end."""
    lr: float = 1e-4
    """Learning rate of AdamW."""
    episodes: int = 64
    """Validation puzzles for the figures before and after."""
    seed: int = 0
    """Seed of the lessons and of sampling."""
    output: Path | None = None
    """The model folder; by default `warm/ENV-MODEL`."""

    def check(self) -> None:
        """Check every option.

        Raises:
            SettingError: in one line, for a value that is not allowed.
        """
        one = "The lessons come from one source."
        check(not (self.chats and self.run), "--from", str(self.run), "left out with --chats", one)
        given = "given without --from"
        check(bool(self.env or self.run), "--env", self.env, given, "Try --env sokoban.")
        check(1 <= self.lessons <= 10_000, "--lessons", self.lessons, "from 1 to 10000")
        check(0 < self.readable <= 1, "--readable", self.readable, "above 0 and at most 1")
        check(self.min_entropy >= 0, "--min-entropy", self.min_entropy, "at least 0, in nats")
        check(0 < self.lr < 1, "--lr", self.lr, "above 0 and below 1", "Try 1e-4.")
        check(self.episodes >= 1, "--episodes", self.episodes, "at least 1")
        check(self.seed >= 0, "--seed", self.seed, "0 or more")
        puzzle_seeds("validation", self.episodes)  # raises if there are not enough puzzles
        if self.run and not (self.run / CONFIG_FILE).is_file():
            raise SettingError(
                f"--from {self.run} is not a run folder: it has no {CONFIG_FILE}. Give a folder "
                "that sesa-agent train wrote."
            )

    @property
    def rule(self) -> StopRule:
        """When lessons end."""
        return StopRule(self.readable, self.min_entropy, self.lessons)

    @property
    def source(self) -> str:
        """Where the moves come from, in words."""
        if self.chats:
            return f"the chats in {self.chats}"
        return f"the successes of {self.run}" if self.run else "its scripted player"

    def command(self, overrides: Sequence[str]) -> str:
        """Return the command that gives the same lessons."""
        words = []
        for name in ("env", "chats", "run", *_NUMBERS):
            value = getattr(self, name)
            if value != getattr(WarmStartOptions, name):
                option = "from" if name == "run" else name.replace("_", "-")
                words += [f"--{option}", str(value)]
        return shlex.join(["sesa-agent", "warm-start", *words, *overrides])


_NUMBERS = ("lessons", "readable", "min_entropy", "lr", "episodes", "seed")
