r"""Answers to math problems: found in a text, read, and compared by value.

The answer is taken from a text that may also contain the working: the last `\boxed{...}`, the
line after "####", or the last number. Numbers are compared exactly, with our own parser; anything
else is LaTeX, compared by math-verify. A model's text is never executed: only math-verify's LaTeX
side is used, and we build its numbers, because sympy builds them with `eval`. Length, depth,
commands and powers are bounded before parsing, because no timer can interrupt the computation of a
huge power.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from ..time_limit import TimeUp, time_limit

MAX_ANSWER_LENGTH = 180
"""Longest answer that is read, in characters."""
MAX_DIGITS = 30
"""Longest number in LaTeX, in digits."""
MAX_DEPTH = 8
"""Most braces and parentheses of LaTeX that may be open at once."""
MAX_POWER = 10_000
"""Largest exponent in LaTeX; powers of powers are multiplied."""
MAX_SECONDS = 2
"""Time limit for reading or comparing LaTeX, where `time_limit` works."""

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d+)?|\.\d+)"
# A minus after a number, a letter or a bracket subtracts; anywhere else it is a sign.
_IN_TEXT = re.compile(rf"(?:(?<![\w.)\]}}])[-−])?{_DECIMAL}(?:/\d+)?", re.ASCII)
_NUMBER = re.compile(rf"([-+−]?)({_DECIMAL})(?:/({_INTEGER}))?", re.ASCII)
_FRACTION = re.compile(
    rf"([-+−]?)\\[dtc]?frac(?:\{{({_INTEGER})\}}\{{({_INTEGER})\}}|(\d)(\d))", re.ASCII
)
_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


# ---- reading an answer ----


def extract_answer(text: str) -> str | None:
    r"""Return the answer in a text, or None if there is none.

    It is the content of the last `\boxed{...}` with balanced braces; else the line after the last
    "####"; else the whole text if it is a number; else the last number in it.

    >>> extract_answer("27+38=65; 65-19=46")
    '46'
    """
    boxed = _last_boxed(text)
    if boxed:
        return boxed
    _, mark, rest = text.rpartition("####")
    line = rest.strip().partition("\n")[0].strip() if mark else ""
    if line:
        return line
    if parse_number(text) is not None:
        return text.strip()
    numbers = _IN_TEXT.findall(text)
    return numbers[-1] if numbers else None


def _last_boxed(text: str) -> str | None:
    """Return the content of the last box with balanced braces."""
    last, last_start, opened = None, -1, []
    for match in _BRACES.finditer(text):
        if match.group()[-1] == "{" and match.group() != r"\{":
            opened.append((match.end(), match.group() != "{"))
        elif match.group() == "}" and opened:
            start, is_boxed = opened.pop()
            if is_boxed and start > last_start:
                last, last_start = text[start : match.start()].strip(), start
    return last


def parse_number(text: str) -> Fraction | None:
    r"""Return the exact value of a whole number, decimal number or fraction; else None.

    >>> parse_number("-1,234.5"), parse_number(r"$\frac{6}{4}$")
    (Fraction(-2469, 2), Fraction(3, 2))
    """
    text = strip_answer(text).replace("{,}", ",")
    if len(text) > MAX_ANSWER_LENGTH:
        return None
    match = _NUMBER.fullmatch(text)
    if match:
        sign, top, bottom = match.groups()
    else:
        match = _FRACTION.fullmatch(text.replace(" ", ""))
        if match is None:
            return None
        sign, *parts = match.groups()
        top, bottom = (part for part in parts if part is not None)
    value = Fraction(top.replace(",", ""))
    divisor = Fraction((bottom or "1").replace(",", ""))
    if divisor == 0:
        return None
    return (-value if sign in ("-", "−") else value) / divisor


def strip_answer(text: str) -> str:
    """Remove what may surround an answer: spaces, dollar signs, a full stop."""
    return text.strip().rstrip(".").strip().strip("$").strip()


def is_equal(given: str, gold: str) -> bool:
    """Return whether two answers have the same value; False if one of them cannot be read.

    Two numbers are compared exactly. Anything else is LaTeX, which math-verify compares, `given`
    against `gold`, with decimals to six places.
    """
    numbers = parse_number(given), parse_number(gold)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return _is_equal_latex(given, gold)


def is_readable(answer: str) -> bool:
    """Return whether an answer is a number, or LaTeX that can be compared."""
    return parse_number(answer) is not None or parse_latex(answer) is not None


@lru_cache(maxsize=10_000)
def _is_equal_latex(given: str, gold: str) -> bool:
    left, right = parse_latex(given), parse_latex(gold)
    if left is None or right is None:
        return False
    from math_verify.grader import sympy_expr_eq

    return bool(_in_time(lambda: sympy_expr_eq(right, left, 6, 15)))


# ---- LaTeX ----

_COMMANDS = frozenset(
    r"""
    frac dfrac tfrac cfrac sqrt cdot times div pm mp pi infty
    sin cos tan cot sec csc arcsin arccos arctan log ln
    left right lfloor rfloor lceil rceil lvert rvert begin end
    le leq ge geq lt gt ne neq in cup cap setminus emptyset varnothing mathbb
    text textbf textit textrm mathrm mathbf mathit mbox overline displaystyle
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi
    varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega
    circ degree quad qquad
    """.split()
)
"""LaTeX commands that are read: none that computes a sum, limit or product over a range."""
_POWER_COMMANDS = frozenset({"frac", "dfrac", "tfrac", "cfrac", "cdot", "pi", "circ", "left"})
_POWER_COMMANDS |= {"right"}
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_UNSAFE = re.compile(
    rf"(?<!\\)!|\|\s*[_^]|\\sqrt\s*\[(?!\s*[1-9]\d?\s*\])|\d{{{MAX_DIGITS + 1},}}|(?![0-9])\d"
)
"""Factorials, evaluation bars, fractional roots, long numbers, digits of other scripts."""


@lru_cache(maxsize=10_000)
def parse_latex(text: str) -> Any:
    """Return the sympy object that LaTeX stands for, or None if it cannot be read.

    Text that exceeds the bounds at the top of this file is not read, because it could take long.
    """
    text = strip_answer(text)
    if not text or not _is_bounded(text):
        return None
    converter = _converter()  # before the time limit starts: an interrupted import stays broken
    return _in_time(lambda: converter.convert(text))


def _is_bounded(text: str) -> bool:
    """Return whether LaTeX is small enough to be parsed and evaluated quickly."""
    if len(text) > MAX_ANSWER_LENGTH or _UNSAFE.search(text):
        return False
    return (
        set(_COMMAND.findall(text)) <= _COMMANDS
        and _depth(text) <= MAX_DEPTH
        and _largest_power(text) <= MAX_POWER
    )


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        depth += (sign in "{([") - (sign in "})]")
        deepest = max(deepest, depth)
    return deepest


def _largest_power(text: str) -> float:
    """Bound the power that any number is raised to; infinite if it cannot be determined.

    A power of a bracket applies on top of those inside it, so powers of brackets are multiplied.
    """
    of_brackets, of_atoms, end = 1.0, 1.0, -1
    for match in re.finditer(r"\^\s*", text):
        if match.start() < end:
            return float("inf")  # a power in a power
        start, base = match.end(), text[: match.start()].rstrip()
        is_power_of_power = len(base) == end
        end = _end_of_group(text, start)
        size = _power_size(text[start:end])
        if is_power_of_power or base[-1:] in ("}", ")", "]", "|"):
            of_brackets *= size
        else:
            of_atoms = max(of_atoms, size)
    return of_brackets * of_atoms


def _power_size(power: str) -> float:
    """Bound an exponent by the product of its numbers."""
    if "^" in power or "." in power or not set(_COMMAND.findall(power)) <= _POWER_COMMANDS:
        return float("inf")
    size = 1.0
    for number in re.findall("[0-9]+", power):
        size *= max(int(number), 1)
    return size


def _end_of_group(text: str, start: int) -> int:
    """Return where the group at `start` ends: braces with their content, else one character."""
    if text[start : start + 1] != "{":
        command = _COMMAND.match(text, start)
        return len(text) if command and command[1] != "circ" else start + 1
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place + 1
    return len(text)


@cache
def _converter() -> Any:
    """Build the LaTeX reader on first use, because importing sympy takes a second."""
    import sympy
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
    from math_verify.grader import should_treat_as_complex
    from math_verify.parser import LatexExtractionConfig, normalize_latex

    config = LatexExtractionConfig().normalization_config

    class Converter(_Latex2Sympy):
        """math-verify's own reader, except for numbers: `sympy.Number(str)` would `eval` them."""

        @classmethod
        def convert(cls, text: str) -> Any:
            return cls(is_real=not should_treat_as_complex(text)).parse(
                normalize_latex(text, config)
            )

        def parse(self, latex_str: str) -> Any:
            # A number with thousands separators never reaches `parse_number`.
            number = parse_number(latex_str) if "," in latex_str else None
            if number is not None:
                return sympy.Rational(number.numerator, number.denominator)
            return super().parse(latex_str)

        def parse_number(self, text: str) -> Any:
            digits = text.replace(",", "")
            if re.fullmatch(r"[0-9]+", digits):
                return sympy.Integer(int(digits))
            if re.fullmatch(r"[0-9]*\.[0-9]+", digits):
                return sympy.Float(digits)
            raise ValueError(f"{text!r} is not a number.")

    return Converter


def _in_time(work: Callable[[], Any], max_seconds: float = MAX_SECONDS) -> Any:
    """Return the result of `work`; None if it raises an exception or takes too long."""
    try:
        with time_limit(max_seconds):
            return work()
    except (TimeUp, Exception):  # the parser and sympy raise all kinds for unreadable text
        return None
