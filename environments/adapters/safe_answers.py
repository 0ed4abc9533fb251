"""Which answers are safe to pass to a scorer that runs them as Python. Pure.

A literal or one of these formulas can neither access anything nor run for long: no attributes, no
calls except to a few mathematical functions, no powers of powers, no huge numbers.
"""

import ast
import re

MAX_LENGTH = 2000
"""Longest answer, in characters."""
MAX_NUMBER = 1e12
MAX_EXPONENT = 100
FUNCTIONS = {"sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan"}
"""Functions that a formula may call."""
_WARNED = re.compile(r"\\|[0-9][\w.]*?(?:and|else|for|if|in|is|not|or)", re.ASCII)
"""What Python may warn about on the screen when it parses it: 1if, A.0or, and backslashes."""
SIGNS = (ast.UnaryOp, ast.USub, ast.UAdd)
NAMES = (ast.Expression, ast.Constant, ast.Name, ast.Load)
SUMS = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)


def is_literal(text: str) -> bool:
    """Return whether a text is a literal (numbers, strings, lists), or cannot be run at all.

    >>> is_literal("[[0, 1], [1, 'a']]"), is_literal("0 1 2"), is_literal("open('x')")
    (True, True, False)
    """
    if not _is_quiet(text):
        return False
    nodes = _nodes(text)
    return all(isinstance(node, (*NAMES, *SIGNS, ast.List, ast.Tuple)) for node in nodes)


def is_sum(text: str) -> bool:
    """Return whether a text is a formula of numbers and variables.

    >>> is_sum("(2*x + 1)**3 - 1/4"), is_sum("9**9**9"), is_sum("sqrt(4)")
    (True, False, False)
    """
    return _is_made_of(text, (*NAMES, *SIGNS, *SUMS))


def is_formula(text: str) -> bool:
    """Return whether a text is such a formula, or one that also calls functions of sums.

    >>> is_formula("x**2*exp(3*x) - sin(x)/4"), is_formula("exp(exp(9))"), is_formula("open('x')")
    (True, False, False)
    """
    return _is_made_of(text, (*NAMES, *SIGNS, *SUMS, ast.Call))


def _is_made_of(text: str, kinds: tuple[type[ast.AST], ...]) -> bool:
    """Return whether a text is an expression of harmless nodes of these kinds alone."""
    nodes = _nodes(text) if _is_quiet(text) else []
    return bool(nodes) and all(isinstance(node, kinds) and _is_harmless(node) for node in nodes)


def _is_quiet(text: str) -> bool:
    """Return whether a text is short and can be parsed without a warning."""
    return len(text) <= MAX_LENGTH and not _WARNED.search(text)


def _nodes(text: str) -> list[ast.AST]:
    """Return all nodes of a Python expression; none if the text is not an expression."""
    try:
        return list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _is_harmless(node: ast.AST) -> bool:
    """Return whether a part of a formula is harmless, provided that all other parts are."""
    if isinstance(node, ast.Constant):
        return _is_at_most(node.value, MAX_NUMBER)
    if isinstance(node, ast.Name):
        return not node.id.startswith("_")
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        inner = [part for argument in node.args for part in ast.walk(argument)]
        return is_known and not node.keywords and not any(isinstance(p, ast.Call) for p in inner)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        has_power = any(isinstance(part, ast.Pow) for part in ast.walk(node.left))
        return not has_power and all(_is_small(part) for part in ast.walk(node.right))
    return True


def _is_at_most(value: object, most: float) -> bool:
    """Return whether a constant is a number with at most this absolute value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most


def _is_small(node: ast.AST) -> bool:
    """Return whether a part of an exponent keeps the exponent small."""
    if isinstance(node, ast.Constant):
        return _is_at_most(node.value, MAX_EXPONENT)
    return isinstance(node, (*SIGNS, ast.Name, ast.Load, ast.Div)) or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    )
