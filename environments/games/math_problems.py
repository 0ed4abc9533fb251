"""Math problems with one answer: generated arithmetic, or a file of problems.

A generated problem is a sum of signed terms with small running totals, determined by its seed; it
can be worked out by several methods. Files may have the layouts of DAPO-Math-17k, GSM8K and AIME;
their problems are dealt to the splits. `math_answers.py` reads and compares answers.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import numpy as np
from gymnasium.spaces import Text

from ...configs.errors import check, check_choice
from ..options import options_of
from ..text_env import RenderMode, TextEnv, TextGame, TextSpec
from .data_files import BROKEN_ROWS, Rows, column_names, deal_rows, is_garbled, read_rows, row_of
from .math_answers import extract_answer, is_equal, is_readable
from .math_numbers import MAX_ANSWER_LENGTH, clean_answer, parse_number
from .one_answer import OneAnswerEnv
from .pixels import draw_text

MAX_TOTAL = 99
"""Largest running total of a generated sum; the smallest is 0."""


# ---- generated arithmetic ----


@dataclass(frozen=True)
class MathKnobs:
    """What sums are generated.

    Raises:
        ValueError: if a knob is out of its range.
    """

    num_terms: int = 3
    """Number of terms in a sum."""
    max_number: int = 20
    """Largest number; the smallest is 1."""

    def __post_init__(self) -> None:
        check(2 <= self.num_terms <= 8, "num_terms", self.num_terms, "from 2 to 8")
        top = f"from 1 to {MAX_TOTAL}"
        check(1 <= self.max_number <= MAX_TOTAL, "max_number", self.max_number, top)


def generate_terms(seed: int, knobs: MathKnobs) -> tuple[int, ...]:
    """Make the terms of a seed's sum: the first is positive, negative ones are subtracted.

    Every running total from left to right lies between 0 and `MAX_TOTAL`.
    """
    rng = random.Random(seed)
    terms = [rng.randint(1, knobs.max_number)]
    steps = [step for step in range(-knobs.max_number, knobs.max_number + 1) if step]
    while len(terms) < knobs.num_terms:
        total = sum(terms)
        terms.append(rng.choice([step for step in steps if 0 <= total + step <= MAX_TOTAL]))
    return tuple(terms)


def write_sum(terms: Sequence[int]) -> str:
    """Write terms as a sum without spaces.

    >>> write_sum((27, 38, -19))
    '27+38-19'
    """
    return str(terms[0]) + "".join(f"{term:+d}" for term in terms[1:])


def _worked(terms: Sequence[int]) -> str:
    return f"{write_sum(terms)}={sum(terms)}"


def _in_one_go(terms: tuple[int, ...]) -> str:
    return str(sum(terms))


def _left_to_right(terms: tuple[int, ...]) -> str:
    totals = [sum(terms[: count + 1]) for count in range(len(terms))]
    steps = zip(totals, terms[1:], strict=False)
    return "; ".join(_worked((total, term)) for total, term in steps)


def _right_to_left(terms: tuple[int, ...]) -> str:
    totals = [sum(terms[count:]) for count in range(len(terms))]
    steps = zip(terms[-2::-1], totals[:0:-1], strict=True)
    return "; ".join(_worked((term, total)) for term, total in steps)


def _round_numbers_first(terms: tuple[int, ...], rounded: Sequence[int]) -> str:
    rest = [term - whole for term, whole in zip(terms, rounded, strict=True)]
    return "; ".join([_worked(rounded), _worked(rest), _worked((sum(rounded), sum(rest)))])


def _tens(terms: tuple[int, ...]) -> list[int]:
    return [abs(term) // 10 * 10 * (1 if term > 0 else -1) for term in terms]


def _nearest_tens(terms: tuple[int, ...]) -> list[int]:
    return [(abs(term) + 5) // 10 * 10 * (1 if term > 0 else -1) for term in terms]


def _ones_first(terms: tuple[int, ...]) -> str:
    tens = _tens(terms)
    ones = [term - ten for term, ten in zip(terms, tens, strict=True)]
    return "; ".join([_worked(ones), _worked(tens), _worked((sum(ones), sum(tens)))])


METHODS: dict[str, Callable[[tuple[int, ...]], str]] = {
    "in one go": _in_one_go,
    "left to right": _left_to_right,
    "right to left": _right_to_left,
    "tens and ones": lambda terms: _round_numbers_first(terms, _tens(terms)),
    "ones first": _ones_first,
    "round and correct": lambda terms: _round_numbers_first(terms, _nearest_tens(terms)),
}
"""Methods for a sum of signed terms; each writes its working, with the result at the end."""


def careless_answer(terms: tuple[int, ...]) -> str:
    """Answer in one go without carrying or borrowing: digit by digit, each modulo 10.

    >>> careless_answer((27, 38))
    '55'
    """
    size = max(len(str(abs(term))) for term in terms)
    digits = []
    for place in range(size):
        column = (abs(term) // 10**place % 10 * (1 if term > 0 else -1) for term in terms)
        digits.append(sum(column) % 10)
    return str(sum(digit * 10**place for place, digit in enumerate(digits)))


# ---- problems from a file ----


@dataclass(frozen=True)
class Problem:
    """A problem and its right answer."""

    text: str
    answer: str


@dataclass(frozen=True)
class ProblemSet:
    """The problems of a file, dealt to the splits."""

    splits: dict[str, list[Problem]]
    charset: str
    """Every character of the problems."""
    max_length: int
    """Length of the longest problem, in characters."""
    num_broken: int
    """Number of rows that were skipped."""


LAYOUTS = (("prompt", "reward_model"), ("problem", "answer"), ("question", "answer"))
"""Columns of the layouts that are read: DAPO-Math-17k; AIME; GSM8K and AIME."""
NO_ANSWERS = {"", "n/a", "na", "nan", "none", "null", "nil", "-", "?"}
"""Texts that stand for a missing answer."""
# DAPO-Math-17k wraps every problem in these sentences; our own prompt says how to answer.
_OPENING = re.compile(r"\s*Solve the following math problem step by step\.[^\n]*\n\s*")
_CLOSING = re.compile(r'\s*Remember to put your answer on its own line after "Answer:"[^\n]*\s*$')


@cache
def read_problem_set(path: str, test_path: str = "", broken_rows: str = "skip") -> ProblemSet:
    """Read the problems of a file, and of another one for the test split, once per process.

    Repeated problems count once (DAPO-Math-17k as published repeats each one a hundred times), and
    problems of `test_path` are removed from `path`. Problems are the same if they differ only in
    white space or in how their accents are encoded (Unicode NFC).

    Args:
        path: a .parquet, .jsonl, .json or .csv file in one of the `LAYOUTS`.
        test_path: another such file; empty to use a tenth of `path` for the test split.
        broken_rows: "skip" or "refuse".

    Raises:
        ValueError: in one line, if a file cannot be used or has too few problems.
    """
    problems, num_broken = _read_problems(path, broken_rows)
    tests, more_broken = _read_problems(test_path, broken_rows) if test_path else (None, 0)
    tested = {content_of(problem.text) for problem in tests or ()}
    problems = [problem for problem in problems if content_of(problem.text) not in tested]
    texts = [problem.text for problem in (*problems, *(tests or ()))]
    return ProblemSet(
        deal_rows(problems, tests, path, lambda problem: content_of(problem.text)),
        "".join(sorted(set().union(*texts))),
        max(map(len, texts)),
        num_broken + more_broken,
    )


def _read_problems(path: str, broken_rows: str) -> tuple[list[Problem], int]:
    """Return the different problems of a file, and the number of rows skipped."""
    rows = read_rows(path, _layout(path), broken_rows)
    problems: dict[str, Problem] = {}
    for number, row in rows:
        problem = _read_problem(rows, number, row)
        if problem is not None:
            problems.setdefault(content_of(problem.text), problem)
    return list(problems.values()), rows.num_broken


def content_of(text: str) -> str:
    """Return what makes a problem the same as another one: its text without its white space.

    The encoding of accents does not matter either (Unicode NFC).
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def _layout(path: str) -> tuple[str, str]:
    names = column_names(path)
    present = {name.strip().casefold() for name in names}
    for layout in LAYOUTS:
        if present.issuperset(layout):
            return layout
    choices = ", or ".join(" and ".join(layout) for layout in LAYOUTS)
    raise ValueError(
        f"{path} must have the columns {choices}; it has {', '.join(names) or 'none'}."
    )


def _read_problem(rows: Rows, number: int, row: dict[str, Any]) -> Problem | None:
    """Read a row of any layout, or drop it."""
    question, answer = row.values()
    text = _prompt_text(question) if "prompt" in row else question
    if not isinstance(text, str) or not text.strip():
        rows.drop(number, f"has no {next(iter(row))}")
        return None
    if is_garbled(text):
        rows.drop(number, f"has a {next(iter(row))} that is not UTF-8")
        return None
    if "reward_model" in row:
        answer = answer.get("ground_truth") if isinstance(answer, dict) else None
    name = "a ground_truth" if "reward_model" in row else "an answer"
    is_value = isinstance(answer, str | int | float | Decimal) and not isinstance(answer, bool)
    if not is_value or answer != answer or str(answer).strip().casefold() in NO_ANSWERS:
        found = f": {answer!r}" if answer not in (None, "") else ""
        rows.drop(number, f"has no {name.split()[1]}{found[:60]}")
        return None
    gold = read_gold(str(answer))
    if gold is None:
        rows.drop(number, f"has {name} that cannot be read: {str(answer)[-60:]!r}")
        return None
    return Problem(text.strip(), gold)


def _prompt_text(prompt: Any) -> str | None:
    """Return the problem inside a prompt of DAPO-Math-17k."""
    if isinstance(prompt, list):
        said = [turn.get("content") for turn in prompt if isinstance(turn, dict)]
        prompt = said[-1] if said else None
    if not isinstance(prompt, str):
        return None
    return _CLOSING.sub("", _OPENING.sub("", prompt, count=1))


@lru_cache(maxsize=100_000)
def read_gold(answer: str) -> str | None:
    """Return the answer in a file's answer column, without its working; None if unreadable."""
    has_mark = "####" in answer or "\\boxed" in answer
    gold = extract_answer(answer) if has_mark else clean_answer(answer)
    return gold if gold and is_readable(gold) else None


def read_answer(text: str) -> tuple[str, str] | None:
    r"""Read the answer in a text, with or without working before it.

    Returns:
        Its canonical text and the answer itself; None if there is none.

    >>> read_answer("27+38=65; 65-19=46"), read_answer("#### 2  x")
    (('46', '46'), ('\\boxed{2 x}', '2 x'))
    """
    answer = extract_answer(text)
    if answer is None:
        return None
    number = parse_number(answer)
    answer = " ".join(answer.split()) if number is None else str(number)
    canonical = f"\\boxed{{{answer}}}" if number is None else answer
    if len(answer) > MAX_ANSWER_LENGTH or extract_answer(canonical) != answer:
        return None
    return canonical, answer


# ---- game ----


class MathGame(TextGame[str]):
    r"""Solve a problem, in one answer.

    Rules: the answer is right if it has the same value as the problem's own answer. Any working may
    come before it.

    Observation: the problem's text (`Text`).

    Actions: the answer (`Text`). As text: any text in which `extract_answer` finds an answer; its
    canonical text is the number in lowest terms, or `\boxed{...}`. An answer that is neither a
    number nor LaTeX is illegal and wrong.

    Reward: 1 if the answer is right, else 0.

    Episode end: terminated by the first answer, right or wrong. Truncated: never.

    Arguments: path (a file of problems; empty for generated sums), test_path, broken_rows (see
    `read_problem_set`), and for generated sums the fields of `MathKnobs`.

    Version history: v0, the first one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self, path: str = "", test_path: str = "", broken_rows: str = "skip", **knobs: Any
    ):
        for name, value in {"path": path, "test_path": test_path}.items():
            check(isinstance(value, str), name, value, "the name of a file")
        check_choice("broken_rows", broken_rows, BROKEN_ROWS)
        if test_path and not path:
            raise ValueError(f"test_path needs a path to train on, got {test_path!r} alone.")
        if path and knobs:
            raise ValueError(
                f"{', '.join(knobs)} applies to generated sums, but path is {path!r}. Remove one."
            )
        self.render_mode = "rgb_array"
        self.knobs = MathKnobs(**knobs)
        self.terms: tuple[int, ...] = ()
        """The generated sum; empty for a problem from a file."""
        self.answer: str | None = None
        self.problems = read_problem_set(path, test_path, broken_rows) if path else None
        if self.problems:
            self.charset, self.max_text_length = self.problems.charset, self.problems.max_length
            self.num_puzzles = {name: len(rows) for name, rows in self.problems.splits.items()}
        self.text_spec = _text_spec(is_generated=not path)
        self.problem = self._make_problem(0)
        self.observation_space = Text(self.max_text_length, min_length=0, charset=self.charset)
        self.action_space = Text(MAX_ANSWER_LENGTH, min_length=0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the puzzle of `seed`, or of a seed drawn from the generator."""
        super().reset(seed=seed)
        puzzle_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.problem, self.answer = self._make_problem(puzzle_seed), None
        return self.to_text(), {"puzzle_seed": puzzle_seed, "optimal_length": 1}

    def _make_problem(self, seed: int) -> Problem:
        if self.problems:
            return row_of(seed, self.problems.splits)
        self.terms = generate_terms(seed, self.knobs)
        spaced = re.sub(r"([+-])", r" \1 ", write_sum(self.terms))
        return Problem(f"Compute {spaced}.", str(sum(self.terms)))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Judge the answer."""
        self.answer = str(action)
        success = is_equal(self.answer, self.problem.answer)
        info = {"success": success, "legal": success or is_readable(self.answer)}
        return self.to_text(), float(success), True, False, info

    def to_text(self) -> str:
        """Return the problem."""
        return self.problem.text

    def read_action(self, text: str) -> tuple[str, str] | None:
        """Read the answer in a text, with or without working before it."""
        return read_answer(text)

    def state_key(self) -> Hashable:
        """Return the problem and the answer, if one was given."""
        return self.problem, self.answer

    def puzzle_content(self, seed: int) -> str | None:
        """Return the sum of a seed; None for the problems of a file."""
        return None if self.problems else write_sum(generate_terms(seed, self.knobs))

    def scripted_action(self, rng: random.Random) -> str:
        """Answer with the working of a sum from left to right, or a problem's own answer."""
        if self.problems:
            return f"\\boxed{{{self.problem.answer}}}"
        return _left_to_right(self.terms)

    def render(self) -> np.ndarray:
        """Draw the digits of the problem, uint8 of shape (height, width, 3)."""
        return draw_text(self.to_text())


def _text_spec(is_generated: bool) -> TextSpec:
    form = "result at the end such as 27+38=65; 65-19=46"
    return TextSpec(
        instruction="Solve the problem.",
        legend="",
        actions=f"the working with the {form}"
        if is_generated
        else r"the working with the answer at the end as in \boxed{7}",
        sketch="the method of calculation",
        examples=("27+38=65; 65-19=46", "46"),
    )


@options_of(MathGame, MathKnobs)
def make_math(max_steps: int = 1, render_mode: RenderMode = None, **options: Any) -> TextEnv:
    """Build the text environment; see `MathGame` and `MathKnobs` for the options."""
    return OneAnswerEnv(MathGame(**options), max_steps, render_mode)
