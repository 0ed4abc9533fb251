"""Which answers may reach a scorer that runs them as Python."""

import pytest

from sesa_agent.environments.adapters.safe_answers import is_formula, is_literal, is_sum
from sesa_agent.environments.checks.play import BAD_TEXTS

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
