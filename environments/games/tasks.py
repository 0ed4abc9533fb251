"""The tasks of a file, judged by their answer column or by a function of the user.

`sesa-agent train --env tasks.jsonl --reward my_module:verify` plays them: the rows are read by
`task_file.py`, the function is called by `reward_function.py`, and docs/tasks.md is the manual.
"""

import random
from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import Any

from ...configs.errors import SettingError, check, check_choice
from ..adapters.adapter import AnyText
from ..descriptions import describe_error, one_line
from ..options import options_of
from ..text_env import RenderMode, TextEnv, TextGame, TextSpec
from .data_files import BROKEN_ROWS, row_of
from .math_answers import is_equal
from .math_problems import read_answer, read_gold
from .reward_function import RewardFunction, Verdict, load_reward
from .task_file import TaskSet, read_task_set

NUM_TRIED = 3
"""Rows on which a function is tried before it is refused."""
ANY_ANSWER = "0"
"""The answer that it is tried with in a row without a right one."""


class TaskGame(TextGame[str]):
    r"""Answer the task of a row, once or in a conversation.

    Rules: those of the prompt. The function judges each answer and may reply; without one, an
    answer is right if it has the value of the answer column, as in `MathGame`, or its words.

    Observation: the prompt, then the function's reply to each answer (`Text`).

    Actions: any text that is not blank (`Text`). As text: with a function, itself without white
    space around it. Without, what `MathGame` reads, or else the text itself.

    Reward: the function's; without one 1 for a right answer, else 0. Success is a last reward of
    `success_score` or more.

    Episode end: terminated by a verdict without a reply. Truncated: never.

    Arguments: path, test_path, prompt, answer, broken_rows (see `read_task_set`), reward (the
    function, `module:function`), success_score.

    Version history: v0, the first one.
    """

    def __init__(
        self,
        path: str = "",
        test_path: str = "",
        prompt: str = "",
        answer: str = "",
        reward: str | None = None,
        success_score: float = 1.0,
        broken_rows: str = "refuse",
    ):
        check_choice("broken_rows", broken_rows, BROKEN_ROWS)
        check(success_score > 0, "success_score", success_score, "above 0")
        self.success_score = success_score
        self.reward = load_reward(reward) if reward else None
        try:
            self.tasks = read_task_set(
                path, test_path, prompt, answer, self.reward is None, broken_rows
            )
        except ValueError as error:
            raise SettingError(f"--env {error}") from error
        if self.reward:
            try_reward(self.tasks, self.reward)
        self.num_puzzles = {name: len(rows) for name, rows in self.tasks.splits.items()}
        self.text_spec = _text_spec(self.tasks, self.reward is not None)
        self.index, self.answers, self.message = 0, (), ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the task of `seed`, or of a seed drawn from the generator."""
        super().reset(seed=seed)
        puzzle_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.index, self.answers = row_of(puzzle_seed, self.tasks.splits), ()
        self.message = self.tasks.prompt(self.index)
        return self.message, {"puzzle_seed": puzzle_seed}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Judge an answer."""
        verdict = self.judge(action)
        is_over = verdict.message is None
        self.answers = (*self.answers, action)
        self.message = self.message if verdict.message is None else verdict.message
        success = is_over and verdict.reward >= self.success_score
        return self.message, verdict.reward, is_over, False, {"success": success, "legal": True}

    def puzzle_content(self, seed: int) -> None:
        """Return None: the rows of the file are dealt to the splits by their content."""

    def judge(self, answer: str) -> Verdict:
        """Judge an answer to the present row, after those given so far."""
        if self.reward:
            return self.reward(answer, self.tasks.row(self.index), self.answers)
        return Verdict(float(is_right(answer, self.gold)))

    def own_answers(self, count: int) -> Iterator[tuple[int, str, str]]:
        """Judge the first rows' own answers, as far as they have one.

        Args:
            count: number of rows.

        Yields:
            The row's number, its answer, and what is wrong: the reward that its answer gets, or
            the exception; empty if it counts as right or the function replies.
        """
        for index in range(min(count, len(self.tasks.rows))):
            self.index, self.answers = index, ()
            if not self.gold:
                continue
            try:
                verdict = self.judge(self.gold)
                is_wrong = verdict.message is None and verdict.reward < self.success_score
                fault = f"reward {verdict.reward:g}" if is_wrong else ""
            except Exception as error:  # the user's own code
                fault = describe_error(error)
            yield self.tasks.rows.numbers[self.index], self.gold, fault

    @property
    def gold(self) -> str:
        """The right answer of the present row; empty if it has none."""
        return self.tasks.answer(self.index) or ""

    def to_text(self) -> str:
        """Return the prompt, or the last reply."""
        return self.message

    def read_action(self, text: str) -> tuple[str, str] | None:
        """Read any text that is not blank; for a gold of mathematics the answer in it."""
        text = text.strip()
        if not text or self.reward:
            return (text, text) if text else None
        if not is_same(text, self.gold) and read_gold(self.gold) is not None:
            reading = read_answer(text)
            if reading is not None:
                return reading
        text = " ".join(text.split())
        return text, text

    def state_key(self) -> Hashable:
        """Return the row and the answers given."""
        return self.index, self.answers

    def scripted_action(self, rng: random.Random) -> str | None:
        """Answer with the row's own answer; None if it has none, or after a reply."""
        return None if self.answers else self.gold or None


def is_same(text: str, gold: str) -> bool:
    """Return whether two texts have the same words, in upper or lower case."""
    return text.casefold().split() == gold.casefold().split()


def is_right(answer: str, gold: str) -> bool:
    r"""Return whether an answer is the right one: in the same words, or of the same value.

    >>> is_right("paris", "Paris"), is_right("0.5", r"#### \frac12"), is_right("7", "8")
    (True, True, False)
    """
    if is_same(answer, gold):
        return True
    value = read_gold(gold)
    return value is not None and is_equal(answer, value)


@lru_cache(maxsize=32)
def try_reward(tasks: TaskSet, reward: RewardFunction) -> None:
    """Call a function with the first rows and their own answers, until one call works.

    Raises:
        SettingError: if none does; the message says what was wrong with the first.
    """
    failures: list[str] = []
    for index in range(min(NUM_TRIED, len(tasks.rows))):
        answer = tasks.answer(index)
        given = ANY_ANSWER if answer is None else answer
        try:
            reward(given, tasks.row(index))
            return
        except Exception as error:  # the user's own code
            whose = "the answer" if answer is None else "its own answer"
            failures.append(
                f"--reward {reward.name} fails in row {tasks.rows.numbers[index]} of {tasks.name} "
                f"with {whose} {one_line(given)[:40]!r}: {describe_error(error)}."
            )
    raise SettingError(failures[0])


def _text_spec(tasks: TaskSet, has_function: bool) -> TextSpec:
    answers = [tasks.answer(index) for index in range(min(NUM_TRIED, len(tasks.rows)))]
    form = "" if has_function else r", or the working with the answer at the end as in \boxed{7}"
    return TextSpec(
        instruction="Solve the task.",
        legend="",
        actions=f"the answer{form}",
        examples=(*dict.fromkeys(answer for answer in answers if answer), ANY_ANSWER),
    )


@options_of(TaskGame)
def make_tasks(max_steps: int = 100, render_mode: RenderMode = None, **options: Any) -> TextEnv:
    """Build the text environment; see `TaskGame` for the options."""
    env = TextEnv(TaskGame(**options), max_steps, render_mode)
    env.observation_space, env.action_space = AnyText(), AnyText()
    return env
