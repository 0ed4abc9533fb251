"""Answers that do no harm where somebody else's scorer runs them as Python. Pure.

Running a literal or one of these formulas can neither reach anything nor take long: no attributes,
no calls but those of a few mathematical functions, no powers of powers, no huge numbers.
"""

import ast

MAX_LENGTH = 2000
"""Characters of an answer."""
MAX_NUMBER = 1e12
MAX_EXPONENT = 100
FUNCTIONS = {"sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan"}
"""What a formula may call."""
SIGNS = (ast.UnaryOp, ast.USub, ast.UAdd)
NAMES = (ast.Expression, ast.Constant, ast.Name, ast.Load)
SUMS = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)


def is_literal(text: str) -> bool:
    """Return whether running a text gives numbers, strings or lists, or nothing: no Python.

    >>> is_literal("[[0, 1], [1, 'a']]"), is_literal("0 1 2"), is_literal("open('x')")
    (True, True, False)
    """
    if len(text) > MAX_LENGTH:
        return False
    nodes = _nodes(text)
    return all(isinstance(node, (*NAMES, *SIGNS, ast.List, ast.Tuple)) for node in nodes)


def is_sum(text: str) -> bool:
    """Return whether a text is a formula of numbers and variables.

    >>> is_sum("(2*x + 1)**3 - 1/4"), is_sum("9**9**9"), is_sum("sqrt(4)")
    (True, False, False)
    """
    nodes = _nodes(text) if len(text) <= MAX_LENGTH else []
    return bool(nodes) and all(
        isinstance(node, (*NAMES, *SIGNS, *SUMS)) and _is_tame(node) for node in nodes
    )


def is_formula(text: str) -> bool:
    """Return whether a text is a formula that may call a function of a sum.

    >>> is_formula("x**2*exp(3*x) - sin(x)/4"), is_formula("exp(exp(9))"), is_formula("open('x')")
    (True, False, False)
    """
    nodes = _nodes(text) if len(text) <= MAX_LENGTH else []
    return bool(nodes) and all(
        isinstance(node, (*NAMES, *SIGNS, *SUMS, ast.Call)) and _is_tame(node) for node in nodes
    )


def _nodes(text: str) -> list[ast.AST]:
    """All nodes of a Python expression; none if the text is no expression."""
    try:
        return list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _is_tame(node: ast.AST) -> bool:
    """Whether a part of a formula is harmless, if all other parts are."""
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
    """Whether a constant is a number of this size or smaller."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most


def _is_small(node: ast.AST) -> bool:
    """Whether a part of an exponent keeps it small."""
    if isinstance(node, ast.Constant):
        return _is_at_most(node.value, MAX_EXPONENT)
    return isinstance(node, (*SIGNS, ast.Name, ast.Load, ast.Div)) or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    )
