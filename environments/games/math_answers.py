r"""Answers to math problems: found in a text, read, and compared by value.

The answer is taken from a text that may also contain the working. Numbers are compared exactly,
with our own parser (`math_numbers.py`); anything else is LaTeX (`math_latex.py`). A model's text is
never executed. docs/math.md says how answers are judged.
"""

import re

from .math_latex import is_equal_latex, parse_latex
from .math_numbers import (
    DECIMAL,
    MAX_ANSWER_LENGTH,
    PROSE_UNIT,
    clean_answer,
    parse_number,
    plain_signs,
    split_unit,
)

MAX_TEXT_LENGTH = 100_000
"""Characters at the end of a text that are searched for an answer."""
WINDOW = 600
"""Characters before the last number of a text that are searched for its beginning."""

# ---- finding an answer ----

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


def extract_answer(text: str) -> str | None:
    r"""Return the answer in a text, or None if there is none.

    It is the content of the last `\boxed{...}` with balanced braces that is not empty; else what
    follows the last "####"; else what follows the last "answer is" or "answer:"; else the whole
    text if it is a number; else the last value in it.

    >>> extract_answer("27+38=65; 65-19=46"), extract_answer("The answer is - 3.")
    ('46', '-3')
    """
    text = text[-MAX_TEXT_LENGTH:]
    boxed = _last_boxed(text)
    if boxed:
        return boxed
    marked = _after_mark(text)
    if marked:
        return marked
    if len(text) <= MAX_ANSWER_LENGTH and parse_number(text) is not None:
        return text.strip()
    return _last_value(text)


def _last_boxed(text: str) -> str | None:
    """Return the content of the last box that has balanced braces and is not empty."""
    last, last_start, opened = None, -1, []
    for match in _BRACES.finditer(text):
        if match.group()[-1] == "{" and match.group() != r"\{":
            opened.append((match.end(), match.group() != "{"))
        elif match.group() == "}" and opened:
            start, is_boxed = opened.pop()
            content = text[start : match.start()].strip() if is_boxed and start > last_start else ""
            if content:
                last, last_start = content, start
    return last


# ---- values in running text ----

# A value is a number or a short formula in LaTeX, with or without a unit. Blank runs are short.
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_LATEX = (
    rf"(?:\\[dtc]?frac\s?(?:{_GROUP}|[0-9])\s?(?:{_GROUP}|[0-9])"
    rf"|\\sqrt\s?(?:\[[0-9]+\])?\s?(?:{_GROUP}|[0-9])|\\(?:pi|infty)(?![a-zA-Z]))"
)
_TEN_POWER = r"\s?(?:\\times|\\cdot|[x*])\s?10\s?\^\s?(?:\{\s?[-+]?[0-9]+\s?\}|[-+]?[0-9]+)"
_NUMERAL = (
    r"(?:[0-9]*\.[0-9]*\\overline\{[0-9]+\}|[0-9]+ [0-9]+/[0-9]+"
    rf"|{DECIMAL}(?:{_TEN_POWER}|[eE][-+]?[0-9]+\b)?)"
)
_ATOM = rf"(?:{_NUMERAL}(?:\s?{_LATEX})?|{_LATEX})"
_UNIT = rf"(?:\s?\\?%|\s?\^\s?\{{?\s?\\circ\s?\}}?|\s?{PROSE_UNIT}(?![a-zA-Z])(?:\s?\^\s?[23])?)"
_VALUE_TEXT = rf"{_ATOM}(?:\s?/\s?{_ATOM})?{_UNIT}?"
_VALUE = re.compile(_VALUE_TEXT)
_SUM = re.compile(rf"{_VALUE_TEXT}(?:\s?[-+]\s?{_VALUE_TEXT})*")
_OR = re.compile(r"\$?,?\s+or\s+\$?\s?(?:[a-zA-Z]\s?=)?\s?-?\s?")
_COMMA = re.compile(r"\s?,\s?-?\s?")
_FORMULA = re.compile(
    r"\$\$?([^$\n]{1,200})\$|\\\(([^\n]{1,200}?)\\\)|\\\[(.{1,200}?)\\\]", re.DOTALL
)
_WORD = re.compile(r"(?<![\\a-zA-Z])(?!(?:or|and)\b)[a-zA-Z]{2,}")
_IN_BRACES = re.compile(r"\{[^{}]*\}")
_LAST_DIGITS = (*"0123456789", r"\pi", r"\infty")


def _last_value(text: str) -> str | None:
    """Return the last value in a text, or the whole formula, tuple or choice that it ends."""
    text = _last_part(plain_signs(text))
    values = list(_VALUE.finditer(text))
    if not values:
        return None
    last = values[-1]
    start = values[_first_joined(values, text, _OR)].start()
    if start < last.start():
        return _sign_before(text, start) + text[start : last.end()]
    longer = _formula_at(text, last) or _tuple_at(text, values)
    return longer or _sign_before(text, last.start()) + last[0]


def _last_part(text: str) -> str:
    """Return a short part of a text around its last digit, with single spaces; may be empty."""
    end = max(text.rfind(digit) for digit in _LAST_DIGITS)
    if end < 0:
        return ""
    text = text[max(0, end - WINDOW) : end + WINDOW // 10].replace("{,}", ",").replace(r"\!", "")
    return re.sub(r"(?:(?<!\\)\\[,; ]|[ \t])+", " ", text)


def _formula_at(text: str, value: re.Match[str]) -> str | None:
    r"""Return the formula that holds the last value of a text: $...$, or a sum with \frac."""
    for formula in _FORMULA.finditer(text):
        if formula.start() <= value.start() < formula.end() and _is_formula(formula):
            return formula[formula.lastindex or 0].strip()
    *_, total = _SUM.finditer(text)
    has_command = re.search(r"\\[a-z]", total[0])
    return _sign_before(text, total.start()) + total[0] if has_command else None


def _tuple_at(text: str, values: list[re.Match[str]]) -> str | None:
    """Return the tuple or interval of numbers that ends with the last value."""
    first = _first_joined(values, text, _COMMA)
    before, after = text[: values[first].start()].rstrip(" -"), text[values[-1].end() :].lstrip()
    if first == len(values) - 1 or before[-1:] not in ("(", "[") or after[:1] not in (")", "]"):
        return None
    return text[len(before) - 1 : values[-1].end()] + after[0]


def _is_formula(match: re.Match[str]) -> bool:
    """Return whether what stands between dollar signs is a formula, not prose between prices."""
    return not _WORD.search(_IN_BRACES.sub("", match[match.lastindex or 0]))


def _first_joined(values: list[re.Match[str]], text: str, joint: re.Pattern[str]) -> int:
    """Return the place of the first value that only joints separate from the last one."""
    first = len(values) - 1
    while first and joint.fullmatch(text, values[first - 1].end(), values[first].start()):
        first -= 1
    return first


# A minus after a number, a letter or a bracket subtracts, and one after a word may be a dash.
_SIGN = re.compile(r"(.*?)( *)(?:-( *)\\?\$?|\b(?i:(negative|minus)) +\\?\$?)", re.DOTALL)
_BEFORE_SIGN = re.compile(
    r"(?:^|[=:<>(\[{,~$]|\b(?:is|are|be|was|equals|to|or|of|get|gives|than))$"
)


def _sign_before(text: str, start: int) -> str:
    """Return the sign of the value that starts at a place of a text: "-" or nothing."""
    match = _SIGN.fullmatch(text[max(0, start - 40) : start])
    if match is None:
        return ""
    before, gap, gap_after, word = match.groups()
    if word:
        return "-" if word.lower() == "negative" or not re.search(r"[0-9)}\]]$", before) else ""
    if gap_after:
        return "-" if _BEFORE_SIGN.search(before) else ""
    return "" if not gap and re.search(r"[\w.)\]}]$", before) else "-"


# ---- marked answers ----

_MARK = re.compile(r"\banswer\s*(?:is|:|=)[\s*:]*", re.IGNORECASE)
_LEADING = re.compile(rf"(-\s?|negative |minus )?(\$?\s?)(-?)({_VALUE_TEXT})", re.IGNORECASE)
_END_OF_VALUE = re.compile(r"[*`)]*(?:$|[.;:!?](?:\s|$)|,?\s+\(?(?!(?:or|and|mod)\b)[a-zA-Z]{2,})")
_END_OF_FORMULA = re.compile(r"$|[.;:!?](?:\s|$)|,?\s+\(?(?!(?:or|and)\b)(?=[a-zA-Z]{2,})")


def _after_mark(text: str) -> str | None:
    """Return the answer after the last "####", "answer is" or "answer:"."""
    _, mark, rest = text.rpartition("####")
    if line := _first_line(rest) if mark else "":
        return _leading_answer(line) or line
    start = max((match.end() for match in _MARK.finditer(text)), default=None)
    return None if start is None else _leading_answer(_first_line(text[start : start + WINDOW]))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _leading_answer(line: str) -> str | None:
    """Return the value or formula at the start of a line, without an explanation after it."""
    line = plain_signs(line)
    formula = _FORMULA.match(line)
    if formula and _is_formula(formula):
        return formula[formula.lastindex or 0].strip()
    value = _LEADING.match(line)
    if value and _END_OF_VALUE.match(line, value.end()):
        return ("-" if value[1] or value[3] else "") + value[4]
    if re.fullmatch(r"[a-zA-Z]+[.!]?", line):
        return line.rstrip(".!")
    masked = _IN_BRACES.sub(lambda group: "_" * len(group[0]), line)
    end = _END_OF_FORMULA.search(masked)
    head = line[: end.start() if end else len(line)].strip().strip("*`").rstrip("-+*/=, ")
    return head if head and not _WORD.search(_IN_BRACES.sub("", head)) else None


# ---- judging an answer ----

_LABEL = re.compile(r"\\text(?:bf|rm|it)?\s*\{\s*\(([A-J])\)\s*\}\s*")
_WORDS = re.compile(
    r"\\(?:text|mbox|textbf|textrm|textit|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}"
)


def is_equal(given: str, gold: str) -> bool:
    """Return whether an answer has the value of the right one; False if it cannot be read.

    Two numbers are compared exactly. A unit of the gold may be missing, but not differ. Percent is
    a number: 50% is 0.5; but if the gold is 50, the problem may have asked for percent.
    """
    given, gold = clean_answer(given), clean_answer(gold)
    if _choice(gold):
        return _choice(given) == _choice(gold)
    given = _LABEL.sub("", given)
    if _spelled(gold):
        return _spelled(given, min_length=1) == _spelled(gold)
    (value, unit), (right, right_unit) = split_unit(given), split_unit(gold)
    if unit == right_unit or (not right_unit and unit != "%"):
        return _is_equal_value(value, right)
    if "%" in (unit, right_unit):
        return _is_equal_percent(value, unit, right, right_unit)
    return not unit and _is_equal_value(value.removesuffix(right_unit).strip(), right)


def _is_equal_percent(value: str, unit: str, right: str, right_unit: str) -> bool:
    if {unit, right_unit} != {"%", ""}:
        return False
    if right_unit:
        return _is_equal_value(value, rf"\frac{{{right}}}{{100}}")
    number = parse_number(right)
    is_share = number is not None and abs(number) <= 1  # such a gold is hardly meant in percent
    same = not is_share and _is_equal_value(value, right)
    return same or _is_equal_value(rf"\frac{{{value}}}{{100}}", right)


def _is_equal_value(given: str, gold: str) -> bool:
    numbers = parse_number(given), parse_number(gold)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return is_equal_latex(given, gold)


def _choice(text: str) -> str | None:
    r"""Return the letter of a multiple-choice answer: A, (A), \text{(A)} 5."""
    match = _LABEL.match(text) or re.fullmatch(r"\(?([A-J])[).]?", _WORDS.sub(r"\1", text).strip())
    return match[1] if match else None


def _spelled(text: str, min_length: int = 4) -> str:
    r"""Return an answer in words, without case and spaces; empty if it may be a formula.

    Words stand in \text{...} or have some letters: abc is a product.
    """
    if len(text) > MAX_ANSWER_LENGTH:
        return ""
    words = _WORDS.sub(r"\1", text)
    is_text = re.fullmatch(r"[a-zA-Z ,.'-]+", words) and (
        words != text or len(words.replace(" ", "")) >= min_length
    )
    return re.sub("[^a-z]", "", words.lower()) if is_text else ""


def is_readable(answer: str) -> bool:
    """Return whether an answer is a number, words, or LaTeX that can be compared."""
    answer = clean_answer(answer)
    value, _ = split_unit(answer)
    if parse_number(value) is not None or _choice(answer) or _spelled(answer):
        return True
    return parse_latex(_LABEL.sub("", value)) is not None
