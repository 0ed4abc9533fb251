"""What `sesa-agent evaluate` is asked to measure, checked before a model is loaded."""

from dataclasses import dataclass
from pathlib import Path

from sesa_agent.configs.errors import check
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.outputs import check_file_writable

MAX_SAMPLES = 10_000
"""Maximum number of attempts at a puzzle: they are all in memory at once."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and where the result is written."""

    episodes: int
    """Held-out puzzles."""
    samples: int
    """Attempts at each puzzle."""
    k: str
    """Values of k for pass@k, such as "1,5,10"; empty for the default."""
    seed: int
    """Seed of sampling."""
    json_file: Path | None

    @property
    def ks(self) -> list[int]:
        """The values of k."""
        return read_ks(self.k, self.samples)

    def check(self) -> None:
        """Check every option.

        Raises:
            SettingError: in one line, for a value that is not allowed or a file that is not
                writable.
        """
        check(self.episodes >= 1, "--episodes", self.episodes, "at least 1")
        check(1 <= self.samples <= MAX_SAMPLES, "--samples", self.samples, f"1 to {MAX_SAMPLES}")
        check(self.seed >= 0, "--seed", self.seed, "0 or more")
        read_ks(self.k, self.samples)
        puzzle_seeds("test", self.episodes)  # raises if there are not enough puzzles
        if self.json_file:
            check_file_writable(self.json_file, "--json")


def read_ks(text: str, samples: int) -> list[int]:
    """Parse the values of k for pass@k, such as "1,5,10"; none if the text is empty.

    Raises:
        SettingError: if one of them is not a whole number from 1 to `samples`.
    """
    words = [word.strip() for word in text.split(",")] if text else []
    for word in words:
        check(
            word.isdecimal() and len(word) < 10 and 1 <= int(word) <= samples,
            "--k",
            text,
            f"whole numbers from 1 to --samples ({samples}), as in 1,5,10",
            "Raise --samples, or leave out larger k.",
        )
    return sorted({int(word) for word in words})
