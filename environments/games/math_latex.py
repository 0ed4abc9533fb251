r"""Answers in LaTeX: read by math-verify's parser, compared by value by ourselves.

A model's text is never executed: only math-verify's LaTeX side is used, and we build its numbers,
because sympy builds them with `eval`. Length, depth, commands and powers are bounded before
parsing, because no timer can interrupt the computation of a huge power.

math-verify's own comparison is not used. It rounds to six decimal places and takes differences
below 1e-15 for 0, so tiny numbers are all equal to it; it takes 50 for 50%; and it simplifies,
which can take long. We evaluate instead, with as many digits as it takes, and formulas at a few
points.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from ..time_limit import TimeUp, time_limit
from .math_numbers import MAX_ANSWER_LENGTH, parse_number

MAX_DIGITS = 50
"""Longest number, in digits."""
MAX_DEPTH = 8
"""Most braces and parentheses that may be open at once."""
MAX_BARS = 12
"""Most bars |: the parser tries every one as the beginning and the end of an absolute value."""
MAX_POWER = 10_000
"""Largest exponent; powers of powers are multiplied."""
MAX_SECONDS = 5
"""Time limit for reading an answer and comparing it, where `time_limit` works.

The bounds above keep it under a second. The limit is longer, because a verdict must not depend on
how busy the machine is.
"""
NUM_POINTS = 3
"""Points at which two formulas are compared."""
DECIMAL_TOLERANCE = 1e-6
"""Relative error of a decimal number that stands for an irrational one."""


# ---- reading ----

_COMMANDS = frozenset(
    r"""
    frac sqrt cdot times div pm mp pi infty
    sin cos tan cot sec csc arcsin arccos arctan log ln
    lfloor rfloor lceil rceil lvert rvert begin end
    le leq leqslant ge geq geqslant lt gt ne neq in cup cap setminus emptyset mathbb
    text textbf textit textrm mathrm mathbf mathit mbox overline
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi
    varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega
    circ degree
    """.split()
)
"""LaTeX commands that are read: none that computes a sum, limit or product over a range."""
_POWER_COMMANDS = frozenset({"frac", "cdot", "pi", "circ"})
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)")
_FLOAT_DIGITS = 3 * MAX_DIGITS
_UNSAFE = re.compile(
    rf"(?<!\\)!|\|\s*[_^]|\\sqrt\s*\[(?!\s*[1-9]\d?\s*\])|\d{{{MAX_DIGITS + 1},}}|(?![0-9])\d"
)
"""Factorials, evaluation bars, fractional roots, long numbers, digits of other scripts."""


def parse_latex(text: str) -> Any:
    """Return the sympy object that LaTeX stands for, or None if it cannot be read.

    Text that exceeds the bounds at the top of this file is not read, because it could take long.
    """
    _converter()  # before the time limit starts: an interrupted import stays broken
    return _in_time(lambda: _read(text))


@lru_cache(maxsize=10_000)
def _read(text: str) -> Any:
    if not text or not _is_bounded(text):
        return None
    text = _DEGREES.sub(r"(\1\\cdot\\frac{\\pi}{180})", text)
    try:
        return _converter().convert(text)
    except Exception:  # the parser and sympy raise all kinds for unreadable text
        return None


def _is_bounded(text: str) -> bool:
    """Return whether LaTeX is small enough to be parsed and evaluated quickly."""
    if len(text) > MAX_ANSWER_LENGTH or _UNSAFE.search(text):
        return False
    return (
        set(_COMMAND.findall(text)) <= _COMMANDS
        and _depth(text) <= MAX_DEPTH
        and text.count("|") <= MAX_BARS
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

    # Its units include the letters c, d, g, h, l, m, s and t, and it removes them from products.
    config = replace(LatexExtractionConfig().normalization_config, units=False)

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
                return sympy.Float(digits, _FLOAT_DIGITS)
            raise ValueError(f"{text!r} is not a number.")

    return Converter


def _in_time(work: Callable[[], Any], max_seconds: float = MAX_SECONDS) -> Any:
    """Return the result of `work`; None if it raises an exception or takes too long."""
    try:
        with time_limit(max_seconds):
            return work()
    except (TimeUp, Exception):  # sympy raises all kinds, RecursionError too
        return None


# ---- comparison ----


@lru_cache(maxsize=10_000)
def is_equal_latex(given: str, gold: str) -> bool:
    """Return whether two cleaned answers in LaTeX have the same value.

    An equation counts by its right-hand side unless both answers are equations. Sets and lists are
    equal in any order, tuples in the same order; inequalities and intervals, if they hold for the
    same numbers; formulas, if they have the same values. A decimal number may stand for an
    irrational one, with a relative error of `DECIMAL_TOLERANCE`.
    """
    _converter()
    return bool(_in_time(lambda: _is_same(_read(given), _read(gold))))


def _is_same(given: Any, gold: Any) -> bool:
    """Return whether two sympy objects have the same value; False if one is None."""
    from sympy.core.relational import Relational

    if given is None or gold is None:
        return False
    given, gold = _without_names(given, gold)
    given, gold = _as_sets(given, gold), _as_sets(gold, given)
    if isinstance(given, Relational) and isinstance(gold, Relational):
        return _is_same_relation(given, gold)
    left, right = _parts(given), _parts(gold)
    if left is None or right is None:
        return left is right and _is_same_number(given, gold)
    kind, is_ordered, items = left
    if kind != right[0] or len(items) != len(right[2]):
        return False
    names = {item.lhs for item in right[2] if _is_naming(item)}
    if len(names) > 1 and not all(_relations(item) for item in items):
        return False  # numbers alone do not say which name is which
    return _is_same_list(items, right[2], is_ordered)


def _is_same_list(given: list[Any], gold: list[Any], is_ordered: bool) -> bool:
    if is_ordered:
        return all(map(_is_same, given, gold))
    rest = list(given)
    for item in gold:
        place = next((k for k, other in enumerate(rest) if _is_same(other, item)), None)
        if place is None:
            return False
        del rest[place]
    return not rest


def _parts(value: Any) -> tuple[Any, bool, list[Any]] | None:
    """Return the kind of a composite value, whether its order matters, and its parts."""
    from sympy import Complement, FiniteSet, Intersection, Interval, MatrixBase, Tuple, Union

    if isinstance(value, MatrixBase):
        return value.shape, True, list(value.flat())
    if isinstance(value, Interval):
        return (value.left_open, value.right_open), True, [value.start, value.end]
    if isinstance(value, Tuple | Complement):
        return type(value), True, list(value.args)
    for kind in (FiniteSet, Union, Intersection):
        if isinstance(value, kind):
            return kind, False, list(value.args)
    relations = _relations(value)
    return ("relations", False, relations) if relations else None


def _relations(value: Any) -> list[Any]:
    """Return the relations of a chain such as 1 < x < 2; none for other values."""
    from sympy import And
    from sympy.core.relational import Relational

    if isinstance(value, And):
        return list(getattr(value, "_unsorted_args", value.args))
    return [value] if isinstance(value, Relational) else []


def _is_naming(value: Any) -> bool:
    """Return whether a value is an equation that gives something a name: x = 5, f(x) = 5."""
    from sympy import Eq, Symbol
    from sympy.core.function import AppliedUndef

    relations = _relations(value)
    is_named = bool(relations) and isinstance(relations[0].lhs, Symbol | AppliedUndef)
    return is_named and all(isinstance(relation, Eq) for relation in relations)


def _without_names(given: Any, gold: Any) -> tuple[Any, Any]:
    """Return the values that an equation and a plain value, or two chains, are compared by."""
    from sympy import Eq, Set

    left, right = _relations(given), _relations(gold)
    if left and isinstance(left[-1].rhs, Set) and not isinstance(gold, Eq):  # x in (1, 2)
        return left[-1].rhs, gold
    if not right and left and all(isinstance(relation, Eq) for relation in left):
        return left[-1].rhs, gold
    if not left and _is_naming(gold):
        return given, right[-1].rhs
    if _is_naming(given) and _is_naming(gold):
        ends = [Eq(chain[0].lhs, chain[-1].rhs, evaluate=False) for chain in (left, right)]
        return ends[0], ends[1]
    return given, gold


def _as_sets(value: Any, other: Any) -> Any:
    """Bring sets to one form; inequalities too, if they are compared with a set."""
    from sympy import Complement, FiniteSet, Intersection, Interval, MatrixExpr, S, Set, Union, oo

    if isinstance(value, MatrixExpr):
        return value.doit().as_explicit()
    if isinstance(value, FiniteSet):
        if len(value) == 1 and not isinstance(value.args[0], Set):
            return value.args[0]
        if isinstance(other, Set) and not isinstance(other, FiniteSet) and _bounds(*value.args):
            items: tuple[Any, ...] = value.args
            return Union(*(item.as_set() for item in items))
    if isinstance(value, Union | Intersection | Complement):
        return value.doit()
    if isinstance(other, Set) and (relations := _relations(value)) and _bounds(*relations):
        return Intersection(*(relation.as_set() for relation in relations))
    return Interval(-oo, oo) if value == S.Reals else value


def _bounds(*values: Any) -> bool:
    """Return whether all values are inequalities between one variable and a number."""
    from sympy import Eq
    from sympy.core.relational import Relational

    return all(
        isinstance(value, Relational)
        and not isinstance(value, Eq)
        and (value.lhs.is_Symbol or value.rhs.is_Symbol)
        and len(value.free_symbols) == 1
        for value in values
    )


def _is_same_relation(given: Any, gold: Any) -> bool:
    """Return whether two equations or inequalities have the same solutions.

    They do if one difference of the sides is a multiple of the other, a positive one if it is an
    inequality.
    """
    from sympy import Dummy, Eq, Ne

    if isinstance(given, Eq) and isinstance(gold, Eq) and given.lhs == gold.lhs:
        return _is_same(given.rhs, gold.rhs)
    (kind, left), (gold_kind, right) = _as_below_zero(given), _as_below_zero(gold)
    if kind is not gold_kind:
        return False
    symbols = left.free_symbols | right.free_symbols
    others = {symbol: Dummy(f"other {symbol.name}") for symbol in symbols}
    if not _is_same_number(left * right.xreplace(others), right * left.xreplace(others)):
        return False
    factor = _number(left / right, _point(symbols, 0))
    return factor is not None and (kind in (Eq, Ne) or bool(factor > 0))


def _as_below_zero(relation: Any) -> tuple[Any, Any]:
    """Write a relation as: an expression is less than, at most, equal or unequal to 0."""
    from sympy import Ge, Gt, Le, Lt

    difference = relation.lhs - relation.rhs
    turned = {Gt: Lt, Ge: Le}.get(type(relation))
    return (turned, -difference) if turned else (type(relation), difference)


def _is_same_number(given: Any, gold: Any) -> bool:
    """Return whether two expressions have the same value, at every point that is tried."""
    from sympy import Expr

    if given == gold:
        return True
    if not isinstance(given, Expr) or not isinstance(gold, Expr):
        return False
    symbols = given.free_symbols | gold.free_symbols
    points = [_point(symbols, shift) for shift in range(NUM_POINTS if symbols else 1)]
    return all(_is_same_at(given, gold, point) for point in points)


def _point(symbols: set[Any], shift: int) -> dict[Any, Any]:
    """Choose fractions for variables, by their names: different ones for each shift."""
    from sympy import I, Rational

    names = sorted({symbol.name for symbol in symbols})
    values = {
        name: Rational((7919 * (place + 1) + 104729 * shift) % 20011 - 9973, 4637)
        for place, name in enumerate(names)
    }
    values["i"] = I
    return {symbol: values[symbol.name] for symbol in symbols}


def _is_same_at(given: Any, gold: Any, point: dict[Any, Any]) -> bool:
    """Return whether two expressions have the same value at a point."""
    from sympy import Add, Mul, floor, log
    from sympy.core.evalf import PrecisionExhausted

    left, right = _number(given, point), _number(gold, point)
    if left is None or right is None:
        return False
    error = abs(left - right)
    if given.is_Float != gold.is_Float and not (given.is_Rational or gold.is_Rational):
        return bool(error <= DECIMAL_TOLERANCE * abs(right))
    if right == 0 or error > 1e-9 * abs(right):
        return left == right
    # Close: the difference needs as many digits as the numbers have before the point, and more.
    digits = 60 + max(0, 2 * int(floor(log(abs(right), 10))))
    difference = Add(_exact(given), Mul(-1, _exact(gold), evaluate=False), evaluate=False)
    try:
        return difference.evalf(5, subs=point, maxn=digits, strict=True) == 0
    except PrecisionExhausted:
        return True


def _number(value: Any, point: dict[Any, Any]) -> Any:
    """Return the value of an expression at a point; None if it has none, as 1/0."""
    from sympy.core.evalf import PrecisionExhausted

    try:
        number = _exact(value).evalf(15, subs=point, strict=True)
    except PrecisionExhausted:  # it is 0, or divides by 0
        number = 0 * number if abs(number := value.evalf(15, subs=point)) < 1e-50 else None
    return number if number is not None and number.is_number and number.is_finite else None


def _exact(value: Any) -> Any:
    """Replace decimal numbers by fractions."""
    from sympy import Float, Rational

    floats = value.atoms(Float)
    exact = {part: Rational(part).limit_denominator(10**MAX_DIGITS) for part in floats}
    return value.xreplace(exact) if exact else value
