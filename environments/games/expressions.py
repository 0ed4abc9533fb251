"""Arithmetic expressions over whole numbers: reading, writing, evaluating and finding them.

An expression is kept in postfix order and evaluated in exact rationals. The parser is our own, so a
model's text is never executed, and its length, depth and digits are bounded.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

OPERATORS = "+-*/"
MAX_LENGTH = 200
"""Longest expression that is read, in characters."""
MAX_DIGITS = 6
"""Longest number that is read, in digits."""
MAX_DEPTH = 20
"""Parentheses that may be open at once."""

Postfix = tuple[int | str, ...]
Value = int | Fraction

_SIGNS = str.maketrans("×÷−", "*/-")
_TOKEN = re.compile(r"[0-9]+|\S")
_CLAIM = re.compile(r"\s*-?[0-9]{1,6}\s*")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_END = "end of text"


def parse_expression(text: str) -> Postfix:
    """Read an expression of whole numbers, `+ - * /` and parentheses into postfix order.

    The signs × ÷ − are read too, and a trailing "= 24" is ignored. There is no unary minus.

    Raises:
        ValueError: if the text is not such an expression or exceeds a bound.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"An expression has at most {MAX_LENGTH} characters, got {len(text)}.")
    body, equals, claim = text.translate(_SIGNS).partition("=")
    if equals and not _CLAIM.fullmatch(claim):
        raise ValueError(f"Only a number may follow '=', got {claim!r}.")
    tokens = [_END, *reversed(_TOKEN.findall(body))]
    postfix: list[int | str] = []
    _read_sum(tokens, postfix, depth=0)
    if tokens != [_END]:
        raise ValueError(f"Expected an operator, got {tokens[-1]!r}.")
    return tuple(postfix)


def _read_sum(tokens: list[str], postfix: list[int | str], depth: int) -> None:
    _read_product(tokens, postfix, depth)
    while tokens[-1] in ("+", "-"):
        operator = tokens.pop()
        _read_product(tokens, postfix, depth)
        postfix.append(operator)


def _read_product(tokens: list[str], postfix: list[int | str], depth: int) -> None:
    _read_atom(tokens, postfix, depth)
    while tokens[-1] in ("*", "/"):
        operator = tokens.pop()
        _read_atom(tokens, postfix, depth)
        postfix.append(operator)


def _read_atom(tokens: list[str], postfix: list[int | str], depth: int) -> None:
    token = tokens.pop()
    if token == "(" and depth < MAX_DEPTH:
        _read_sum(tokens, postfix, depth + 1)
        if tokens.pop() != ")":
            raise ValueError("A parenthesis is not closed.")
    elif token.isascii() and token.isdigit() and len(token) <= MAX_DIGITS:
        postfix.append(int(token))
    else:
        raise ValueError(f"Expected a number of at most {MAX_DIGITS} digits, got {token!r}.")


def format_expression(postfix: Postfix) -> str:
    """Write an expression with single spaces and only the parentheses that parsing needs."""
    stack: list[tuple[str, int]] = []
    for token in postfix:
        if isinstance(token, int):
            stack.append((str(token), 3))
            continue
        own = _PRECEDENCE[token]
        right, right_precedence = stack.pop()
        left, left_precedence = stack.pop()
        left = f"({left})" if left_precedence < own else left
        # Operators associate to the left, so an equal one on the right keeps its parentheses.
        right = f"({right})" if right_precedence <= own else right
        stack.append((f"{left} {token} {right}", own))
    return stack[0][0]


def _apply(operator: str, left: Value, right: Value) -> Value:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if right == 0:
        raise ValueError("Division by zero.")
    return Fraction(left) / right


def evaluate_postfix(postfix: Postfix) -> Value:
    """Return the exact value of an expression in postfix order.

    Raises:
        ValueError: on a division by zero, or if operators and numbers do not fit together.
    """
    stack: list[Value] = []
    for token in postfix:
        if isinstance(token, int):
            stack.append(token)
        elif len(stack) < 2:
            raise ValueError(f"Operator {token!r} has fewer than two operands.")
        else:
            right = stack.pop()
            stack[-1] = _apply(token, stack[-1], right)
    if len(stack) != 1:
        raise ValueError(f"Expected one value, got {len(stack)}.")
    return stack[0]


def evaluate_expression(text: str) -> Fraction:
    """Return the exact value of an expression in a text.

    Raises:
        ValueError: if the text is not an expression, exceeds a bound or divides by zero.

    >>> evaluate_expression("(3 + 5) / 6 = 1")
    Fraction(4, 3)
    """
    return Fraction(evaluate_postfix(parse_expression(text)))


# ---- solver ----


def all_values(numbers: Sequence[int], operators: str = "+-") -> dict[Value, Postfix]:
    """Return every value that the numbers can make, with one expression for each.

    Every number is used exactly once. The search is exhaustive: a subset's values come from all
    ways to split it in two and all operators.
    """
    full = (1 << len(numbers)) - 1
    values: dict[int, dict[Value, Postfix]] = {
        1 << index: {number: (number,)} for index, number in enumerate(numbers)
    }
    for subset in range(1, full + 1):
        if subset not in values:
            values[subset] = _combine(subset, values, operators)
    return values[full]


def _combine(
    subset: int, values: dict[int, dict[Value, Postfix]], operators: str
) -> dict[Value, Postfix]:
    found: dict[Value, Postfix] = {}
    # Splits with only the last number on the right come first, so that sums and differences need
    # no parentheses and keep the puzzle's order where possible.
    rights = [part for part in range(subset - 1, 0, -1) if part & subset == part]
    rights.sort(key=int.bit_count)
    for right_set in rights:
        for left, left_postfix in values[subset ^ right_set].items():
            for right, right_postfix in values[right_set].items():
                for operator in operators:
                    if operator != "/" or right != 0:
                        value = _apply(operator, left, right)
                        if value not in found:
                            found[value] = (*left_postfix, *right_postfix, operator)
    return found


def solve(numbers: Sequence[int], target: int, operators: str = "+-") -> str | None:
    """Return an expression of all numbers that equals the target, or None if there is none."""
    postfix = all_values(numbers, operators).get(target)
    return None if postfix is None else format_expression(postfix)
