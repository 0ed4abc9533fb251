"""Which answers may reach a scorer that runs them as Python."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.environments.adapters.safe_answers import is_formula, is_literal, is_sum
from sesa_agent.environments.checks.texts import BAD_TEXTS

LITERALS = ("[1, 2]", "[['a', \"b\"], (1.5, -2)]", "A B C", "ABC", "1 2\n3 4", "[a, b]", "")
SUMS = ("(3 + 5)*(7 - 4)", "-6*x**2 + 11*x*y - 1.5", "x**-2", "x**(1/2)", "8 / 2 * 6")
FORMULAS = ("x**3*exp(2*x)/3 + C", "-sin(x)*cos(2*x)", "log(x**2 + 1)", "2*sqrt(x)")
DANGERS = (
    "__import__('os').system('true')",
    "open('x')",
    "().__class__",
    "[x for x in range(9)]",
    "'a'*10**9",
    "lambda: 0",
    "f'{open}'",
    "9**9**9",
    "(9**99)**99",
    "9**(9*9*9*9*9)",
    "exp(exp(exp(9)))",
    "x if x else y",
    "x.y",
    "x[0]",
    "9**1000",
    "Symbol('x')",
    "sqrt(x, evaluate=False)",
    "(exp)(open)(1)",
    "x == y",
)


@pytest.mark.parametrize("text", LITERALS)
def test_literals_and_text_that_is_not_python_are_safe(text):
    assert is_literal(text)


@pytest.mark.parametrize("text", SUMS)
def test_sums_are_formulas(text):
    assert is_sum(text) and is_formula(text)


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_may_call_a_few_functions(text):
    assert is_formula(text) and not is_sum(text)


@pytest.mark.parametrize("text", [*DANGERS, "True", "1e999999999", "5!", "", "A B"])
def test_nothing_else_is_a_formula(text):
    assert not is_formula(text) and not is_sum(text)


@pytest.mark.parametrize("text", DANGERS)
def test_dangerous_code_is_not_a_literal(text):
    assert not is_literal(text)


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_no_text_makes_the_readers_raise(text):
    for read in (is_literal, is_sum, is_formula):
        assert read(text) in (True, False)


WARNED = ("1if x else 2", "5or 3", "1in x", "2.5is 3", ".5and 1", "0x1for x in y", "0b1or 2")
WARNED += ("1_0if 1 else 2", "3 if 4else 5", "'\\d'", r"['\.']", "1jor 2", "[1,2or 3]")
PIECES = [
    "1",
    "2.5",
    "0x1",
    "x",
    "or",
    "if ",
    "and",
    "in",
    "is",
    "not ",
    " ",
    "(",
    ")",
    "'",
    "\\d",
    "**",
]


@pytest.mark.parametrize("text", WARNED)
def test_answers_that_python_warns_about_are_not_passed_on(text):
    """Their SyntaxWarnings stood between the lines of a run."""
    for read in (is_literal, is_sum, is_formula):
        assert not read(text)


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_reading_never_warns(text):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_safe = [read(text) for read in (is_literal, is_sum, is_formula)]
        if any(is_safe):
            try:
                compile(text, "answer", "eval")
            except (SyntaxError, ValueError):
                pass
    assert set(is_safe) <= {True, False} and caught == []
