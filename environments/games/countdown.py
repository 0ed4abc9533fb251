"""Countdown: make the target from a few numbers, each used exactly once.

The pure generator comes first, then the game; `expressions.py` reads and evaluates answers. A seed
determines the puzzle. Its target is the value of a random expression, so a solution exists, and
`solve` finds one.
"""

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from ...configs.errors import check
from ..options import options_of
from ..text_env import RenderMode, TextEnv, TextGame, TextSpec
from .expressions import (
    MAX_DIGITS,
    OPERATORS,
    Postfix,
    Value,
    evaluate_postfix,
    format_expression,
    parse_expression,
    solve,
)
from .one_answer import OneAnswerEnv
from .pixels import draw_text

REWARDS = ("success", "dense")


# ---- generator ----


@dataclass(frozen=True)
class CountdownKnobs:
    """What puzzles are generated.

    Raises:
        ValueError: if a knob is out of its range.
    """

    min_count: int = 3
    """Fewest numbers of a puzzle."""
    max_count: int = 4
    """Most numbers of a puzzle, at most 5, because the solver is exhaustive."""
    min_number: int = 1
    """Smallest number."""
    max_number: int = 99
    """Largest number."""
    max_target: int = 99
    """Largest target; the smallest is 1."""
    operators: str = "+-"
    """Operators of the expression that a puzzle is made from. Answers may use all four."""

    def __post_init__(self) -> None:
        check(2 <= self.min_count <= 5, "min_count", self.min_count, "from 2 to 5")
        counts = f"from min_count ({self.min_count}) to 5"
        check(self.min_count <= self.max_count <= 5, "max_count", self.max_count, counts)
        top = 10**MAX_DIGITS - 1
        check(1 <= self.min_number <= top, "min_number", self.min_number, f"from 1 to {top}")
        numbers = f"from min_number ({self.min_number}) to {top}"
        check(self.min_number <= self.max_number <= top, "max_number", self.max_number, numbers)
        check(1 <= self.max_target <= top, "max_target", self.max_target, f"from 1 to {top}")
        signs = set(self.operators)
        is_known = bool(signs) and signs <= set(OPERATORS) and len(signs) == len(self.operators)
        check(is_known, "operators", self.operators, f"one or more of {OPERATORS}, each once")


def generate_puzzle(seed: int, knobs: CountdownKnobs) -> tuple[tuple[int, ...], int]:
    """Make the puzzle of a seed: numbers, and the value of a random expression of them as target.

    Raises:
        ValueError: if 10 000 draws give no puzzle that fits the knobs.
    """
    draw_bits = random.Random(seed).getrandbits
    count = knobs.min_count + _below(knobs.max_count - knobs.min_count + 1, draw_bits)
    lowest, num_choices = knobs.min_number, knobs.max_number - knobs.min_number + 1
    for _ in range(10_000):
        numbers = tuple([lowest + _below(num_choices, draw_bits) for _ in range(count)])
        value = _random_value(numbers, knobs.operators, draw_bits)
        if value is not None and 1 <= value <= knobs.max_target:
            return numbers, value
    raise ValueError(
        f"max_target must be within reach of the numbers, got {knobs}. Raise max_target, "
        "lower min_number or max_count, or allow '-' or '/' in operators."
    )


def _random_value(
    numbers: tuple[int, ...], operators: str, draw_bits: Callable[[int], int]
) -> int | None:
    """Return the value of a random expression; None if it is not whole or divides by zero."""
    fractions = [(number, 1) for number in numbers]  # pairs are many times faster than `Fraction`
    for place in range(len(fractions) - 1, 0, -1):  # a shuffle
        other = _below(place + 1, draw_bits)
        fractions[place], fractions[other] = fractions[other], fractions[place]
    while len(fractions) > 1:
        top, bottom = fractions.pop(_below(len(fractions), draw_bits))  # the right operand
        left_top, left_bottom = fractions.pop(_below(len(fractions), draw_bits))
        operator = operators[_below(len(operators), draw_bits)]
        if operator == "+":
            top = left_top * bottom + top * left_bottom
        elif operator == "-":
            top = left_top * bottom - top * left_bottom
        elif operator == "*":
            top = left_top * top
        else:
            top, bottom = left_top * bottom, top
        if bottom == 0:
            return None
        fractions.append((top, left_bottom * bottom))
    [(top, bottom)] = fractions
    return None if top % bottom else top // bottom


def _below(number: int, draw_bits: Callable[[int], int]) -> int:
    """Draw from 0 to `number` - 1: the same numbers as `randrange`, in half the time."""
    num_bits = number.bit_length()
    drawn = draw_bits(num_bits)
    while drawn >= number:
        drawn = draw_bits(num_bits)
    return drawn


# ---- game ----


class CountdownGame(TextGame[np.ndarray]):
    """Make the target from the numbers, in one answer.

    Rules: an expression with + - * / and parentheses that uses every number exactly once and
    equals the target. An answer may use all four operators, whatever the puzzle was made from.

    Observation: int64 of shape (max_count + 1,): the numbers, zeros for absent ones, the target.

    Actions: int64 of shape (2 * max_count - 1,), the expression in postfix order, padded at the
    end. An entry below max_count is the index of a number, the four above are + - * /, the last
    one is padding. As text: the expression, with or without spaces; one with wrong numbers reads
    as padding only and is illegal, as is a division by zero.

    Reward: "success": 1 if the answer is right, else 0. "dense": 1 if right, .1 for the right
    numbers with a wrong value, else 0.

    Episode end: terminated by the first answer, right or wrong. Truncated: never.

    Arguments: reward ("success" or "dense") and the fields of `CountdownKnobs`.

    Version history: v0, the first one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
    text_spec = TextSpec(
        instruction="Use every number exactly once, with + - * / and parentheses, "
        "to make an expression that equals the target.",
        legend="",
        actions="an expression that uses every number once, such as 3 + 5 - 2",
        sketch="which signs to put between which numbers",
        examples=("3 + 5 - 2", "(1+2)*3", "17"),
    )

    def __init__(self, reward: str = "success", **knobs: Any):
        check(reward in REWARDS, "reward", reward, "one of " + ", ".join(REWARDS))
        self.render_mode = "rgb_array"
        self.knobs = CountdownKnobs(**knobs)
        self.reward = reward
        self.answer: tuple[int, ...] | None = None
        self.numbers, self.target = generate_puzzle(0, self.knobs)
        count, top = self.knobs.max_count, max(self.knobs.max_number, self.knobs.max_target)
        self.max_text_length = len("Numbers: \nTarget: ") + (count + 1) * (len(str(top)) + 2)
        self.observation_space = Box(0, top, (count + 1,), np.int64)
        self.action_space = MultiDiscrete([count + len(OPERATORS) + 1] * (2 * count - 1))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the puzzle of `seed`, or of a seed drawn from the generator."""
        super().reset(seed=seed)
        puzzle_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.numbers, self.target = generate_puzzle(puzzle_seed, self.knobs)
        self.answer = None
        return self._observation(), {"puzzle_seed": puzzle_seed, "optimal_length": 1}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Judge the answer."""
        tokens = np.asarray(action).tolist()
        self.answer = tuple(tokens)
        value = self._value(tokens)
        success = value == self.target
        right_numbers = 0.1 if self.reward == "dense" and value is not None else 0.0
        reward = 1.0 if success else right_numbers
        info = {"success": success, "legal": value is not None}
        return self._observation(), reward, True, False, info

    def _observation(self) -> np.ndarray:
        absent = [0] * (self.knobs.max_count - len(self.numbers))
        return np.array([*self.numbers, *absent, self.target])

    def _value(self, tokens: list[int]) -> Value | None:
        """Return the answer's value; None if it has none or does not use the puzzle's numbers."""
        count, places = len(self.numbers), self.knobs.max_count
        padding = places + len(OPERATORS)
        body = tokens[: 2 * count - 1]
        if sorted(t for t in body if t < places) != list(range(count)) or padding in body:
            return None
        if any(token != padding for token in tokens[len(body) :]):
            return None
        try:
            return evaluate_postfix(
                tuple(self.numbers[t] if t < places else OPERATORS[t - places] for t in body)
            )
        except ValueError:
            return None

    def to_text(self) -> str:
        """Write the numbers and the target, one line each."""
        return f"Numbers: {', '.join(map(str, self.numbers))}\nTarget: {self.target}"

    def read_action(self, text: str) -> tuple[str, np.ndarray] | None:
        """Read an expression; one with numbers not in the puzzle is readable but illegal."""
        try:
            postfix = parse_expression(text)
        except ValueError:
            return None
        return format_expression(postfix), self._encode(postfix)

    def _encode(self, postfix: Postfix) -> np.ndarray:
        places, size = self.knobs.max_count, 2 * self.knobs.max_count - 1
        padding = places + len(OPERATORS)
        free, tokens = list(self.numbers), []
        for token in postfix:
            if isinstance(token, str):
                tokens.append(places + OPERATORS.index(token))
            elif token in free:
                place = free.index(token)
                tokens.append(place)
                free[place] = 0  # taken: no number of a puzzle is 0
            else:
                return np.full(size, padding)
        return np.array(tokens + [padding] * (size - len(tokens)))

    def state_key(self) -> Hashable:
        """Return the puzzle and the answer, if one was given."""
        return self.numbers, self.target, self.answer

    def puzzle_content(self, seed: int) -> str:
        """Return the numbers of a seed, in order, and the target."""
        numbers, target = generate_puzzle(seed, self.knobs)
        return f"{sorted(numbers)} {target}"

    def scripted_action(self, rng: random.Random) -> str:
        """Answer with a solution."""
        return expert_action(self)

    def render(self) -> np.ndarray:
        """Draw the numbers above the target, uint8 of shape (height, width, 3)."""
        return draw_text(f"{' '.join(map(str, self.numbers))}\n={self.target}")


@options_of(CountdownKnobs)
def make_countdown(
    max_steps: int = 1, render_mode: RenderMode = None, reward: str = "success", **knobs: Any
) -> TextEnv:
    """Build the text environment; see `CountdownGame` and `CountdownKnobs` for the arguments."""
    return OneAnswerEnv(CountdownGame(reward, **knobs), max_steps, render_mode)


# ---- scripted players ----


def expert_action(game: CountdownGame) -> str:
    """Return a solution of the puzzle."""
    solution = solve(game.numbers, game.target, game.knobs.operators)
    if solution is None:
        raise ValueError(f"No solution for {game.to_text()!r}: the generator promised one.")
    return solution


def habit_action(game: CountdownGame, rng: random.Random) -> str:
    """Return the answer of a player who ignores the target: a - b + c - d, in the given order."""
    signs = ("-+" * len(game.numbers))[: len(game.numbers) - 1]
    rest = (f" {sign} {number}" for sign, number in zip(signs, game.numbers[1:], strict=True))
    return str(game.numbers[0]) + "".join(rest)
