"""Problems of reasoning-gym (Apache-2.0): `sesa-agent train --env reasoning_gym/leg_counting`.

Any of its datasets, with its configuration as options (`env.options.max_animals=5`). An episode is
one answer to one problem; the reward is the score of the dataset's own scorer, between 0 and 1.

Some of these scorers run the answer as Python (`eval`, or sympy's `parse_expr`, which also
evaluates it). A model's text is never run unchecked: for these datasets an answer is readable only
if it is a literal or a small formula (`safe_answers.py`).
"""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from ..games.one_answer import OneAnswerEnv
from ..text_env import TextGame, TextSpec
from .adapter import AnyText
from .collection_game import MAX_SEED, safe_text
from .safe_answers import is_formula, is_literal, is_sum

READERS: dict[str, Callable[[str], bool]] = {
    "binary_matrix": is_literal,
    "n_queens": is_literal,
    "spiral_matrix": is_literal,
    "string_insertion": is_literal,
    "countdown": is_sum,
    "intermediate_integration": is_formula,
    "polynomial_multiplication": is_sum,
    "puzzle24": is_sum,
    "simple_integration": is_formula,
}
"""Datasets whose scorer runs the answer, and the test that a readable answer passes."""
LEFT_OUT = ("composite",)
"""Datasets that only combine others."""


def game_names() -> Sequence[str]:
    """Return the names of all datasets.

    Raises:
        ModuleNotFoundError: if reasoning-gym is not installed.
    """
    from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]

    return sorted(name for name in DATASETS if name not in LEFT_OUT)


def make(name: str, success_score: float = 1.0, **options: Any) -> OneAnswerEnv:
    """Make the environment of a dataset.

    Args:
        name: the dataset.
        success_score: the lowest score that counts as solved, above 0 and at most 1.
        options: the dataset's configuration.

    Raises:
        ValueError: if `success_score` or an option is out of range.
        TypeError: if the dataset has no such option.
    """
    env = OneAnswerEnv(ReasoningGame(name, success_score, options), max_steps=1)
    env.observation_space, env.action_space = AnyText(), AnyText()
    return env


class ReasoningGame(TextGame[str]):
    """A problem of reasoning-gym.

    Rules: answer the problem.
    Observation: the problem, in the dataset's wording.
    Actions: the answer, any text.
    Reward: the score of the dataset's own scorer, 0 to 1.
    Episode end: terminated by the answer; success if the score is at least `success_score`.
    """

    text_spec = TextSpec(
        instruction="Solve the problem.",
        legend="",
        actions="the answer alone, in the form that the problem asks for",
        examples=("0", "1", "42"),
    )

    def __init__(self, name: str, success_score: float, options: dict[str, Any]):
        if not 0 < success_score <= 1:
            raise ValueError(f"success_score must be above 0 and at most 1, got {success_score}")
        self.name, self.success_score, self.options = name, success_score, options
        self.is_readable = READERS.get(name, lambda text: True)
        self.is_over = False
        self._make_dataset(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Draw the problem of `seed`."""
        super().reset(seed=seed)
        self.seed, self.is_over = int(self.np_random.integers(MAX_SEED)), False
        self.dataset = self._make_dataset(self.seed)
        self.problem: dict[str, Any] = self.dataset[0]
        return self.problem["question"], {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Score an answer."""
        try:
            score = float(self.dataset.score_answer(action, self.problem))
        except Exception:  # a few scorers raise on answers in the wrong form: these score 0
            score = 0.0
        self.is_over = True
        info = {"success": score >= self.success_score, "legal": True}
        return self.problem["question"], score, True, False, info

    def to_text(self) -> str:
        """Return the problem."""
        return safe_text(self.problem["question"])

    def read_action(self, text: str) -> tuple[str, str] | None:
        """Read any text; if the scorer would run it, only a harmless one."""
        text = text.strip()
        return (text, text) if text and self.is_readable(text) else None

    def state_key(self) -> Hashable:
        """Return the problem's seed, and whether it is answered."""
        return self.seed, self.is_over

    def scripted_action(self, rng: random.Random) -> str | None:
        """Answer with the dataset's own answer; None if it has none."""
        answer = self.problem.get("answer")
        return None if answer is None else str(answer)

    def _make_dataset(self, seed: int) -> Any:
        from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

        try:
            return create_dataset(self.name, seed=seed, size=1, **self.options)
        except AssertionError as error:  # how reasoning-gym refuses options
            raise ValueError(str(error) or "an option is out of range") from error
