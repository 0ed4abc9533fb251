r"""Numbers and units of math answers, exact and in the notations that people and models write.

`clean_answer` rewrites typographic signs and removes what only changes the look, `split_unit` takes
the unit off the end, and `parse_number` reads what is left. Nothing here needs sympy.
"""

import re
from fractions import Fraction

MAX_ANSWER_LENGTH = 180
"""Longest answer that is read, in characters."""
MAX_TEN_POWER = 400
"""Largest power of ten in a number such as `3e8`."""

# ---- characters ----

_SIGNS = {
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full width
    **dict.fromkeys("‐‑‒–—―−﹣", "-"),
    **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009", " "),
    **dict.fromkeys("\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad", ""),
    **{"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/", "∶": ":"},
    **{"π": r"\pi ", "∞": r"\infty ", "∅": r"\emptyset ", "√": r"\sqrt ", "°": r"^\circ "},
    **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "≈": "=", "…": "..."},
    **{"∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}"},
    **{"、": ",", "。": "."},
}
_FRACTIONS = "¼1/4 ½1/2 ¾3/4 ⅐1/7 ⅑1/9 ⅒1/10 ⅓1/3 ⅔2/3 ⅕1/5 ⅖2/5 ⅗3/5 ⅘4/5 ⅙1/6 ⅚5/6 ⅛1/8 ⅜3/8"
for _entry in f"{_FRACTIONS} ⅝5/8 ⅞7/8".split():
    _top, _bottom = _entry[1:].split("/")
    _SIGNS[_entry[0]] = rf"\frac{{{_top}}}{{{_bottom}}}"
_TABLE = str.maketrans(_SIGNS)
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"
_LOWER = str.maketrans(_RAISED, "0123456789-")


def plain_signs(text: str) -> str:
    r"""Rewrite typographic signs in ASCII: dashes, spaces, full-width digits, ½, ², √12, π, °.

    >>> plain_signs("−3½ ≤ √12")
    '-3\\frac{1}{2} \\le  \\sqrt{12}'
    """
    if text.isascii():
        return text
    text = re.sub(f"[{_RAISED}]+", lambda found: f"^{{{found[0].translate(_LOWER)}}}", text)
    return re.sub(r"√\s*([0-9]+)", r"\\sqrt{\1}", text).translate(_TABLE)


# ---- looks ----

_TEXT = (
    r"\\(?:text|mbox|hbox|fbox|textrm|textnormal|textit|textbf|operatorname"
    r"|mathrm|mathbf|mathit|boldsymbol|bm)"
)
_LOOKS = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(?<!\\)\$", ""),
        (r"\\(?:display|text|script)style\b|\\(?:normalsize|[lL]arge|LARGE|[hH]uge|small)\b", ""),
        (r"\\(?:[bB]igg?[lrm]?|left|right)(?![a-zA-Z])\.?|\\(?:bf|it|rm|limits)\b|\\!", ""),
        (r"(?<!\\)\\[,;: ]|~|\\(?:thinspace|quad|qquad|enspace)(?![a-zA-Z])", " "),
        (r"\s*\{([,.])\}\s*", r"\1"),
        (r"\\\{\s*\\\}", r"\\emptyset "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\varnothing\b", r"\\emptyset "),
        (r"\\langle\b", "("),
        (r"\\rangle\b", ")"),
        (r"\\lbrace\b", r"\\{"),
        (r"\\rbrace\b", r"\\}"),
        (_TEXT + r"\s*\{\s*([-+]?\s*[0-9.][^{}]*)\}", r"\1"),
        (r"\\frac\s*([0-9])\s*([0-9])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9])\s*\{", r"\\frac{\1}{"),
        (r"\\frac\s*(\{[^{}]*\})\s*([0-9])", r"\\frac\1{\2}"),
        (r"\\sqrt\s*([0-9])", r"\\sqrt{\1}"),
        (r"\s+", " "),
    )
]
_AROUND = re.compile(r"^(?:[\s*`=]|\\[(\[]|\\approx\b)+|(?:[\s*`,;]|\\[)\]]|(?<!\.)\.)+$")


def clean_answer(text: str) -> str:
    r"""Remove what only changes the look of an answer: size, spacing, dollar signs, a full stop.

    A text that is far too long for an answer gives the empty one.

    >>> clean_answer(r"$\displaystyle -\dfrac34$.")
    '-\\frac{3}{4}'
    """
    if len(text) > 10 * MAX_ANSWER_LENGTH:
        return ""
    if _PLAIN.fullmatch(text):
        return text  # most answers, and a file may hold a million
    text = plain_signs(text)
    for pattern, new in _LOOKS:
        text = pattern.sub(new, text)
    text = _AROUND.sub("", text).strip()
    while re.fullmatch(r"\{(?:[^{}]|\{[^{}]*\})*\}", text):
        text = text[1:-1].strip()
    return text


# ---- numbers ----

INTEGER = r"(?:[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?![0-9])|[0-9]+)"
DECIMAL = rf"(?:{INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
_PLAIN = re.compile(DECIMAL)
_REPEATING = re.compile(
    r"([0-9]*)\.([0-9]*)(?:\\overline\s*\{([0-9]+)\}|\\dot\s*\{?([0-9])\}?|\(([0-9]+)\)"
    r"|([0-9])\6{2,}(?:\.\.\.|\\[cl]?dots))"
)
_SCIENTIFIC = re.compile(
    rf"({DECIMAL})?(?:[eE]|\s*(?:\\times|\\cdot|[x*])?\s*10\s*\^)\s*(?:\{{\s*)?([-+]?[0-9]{{1,3}})\s*\}}?"
)
_SLASH = re.compile(rf"([-+]?\s*{DECIMAL})\s*/\s*([-+]?\s*{DECIMAL})")
_FRAC = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_MIXED = re.compile(
    r"([0-9]+)(?:\s*(?=\\frac)| (?:and )?)(\\frac\s*\{[0-9]+\}\s*\{[0-9]+\}|[0-9]+\s*/\s*[0-9]+)"
)


def parse_number(text: str) -> Fraction | None:
    r"""Return the exact value of a number without a unit; None if the text is anything else.

    Whole, decimal and repeating decimal numbers, fractions, mixed numbers and powers of ten, with
    or without separated thousands.

    >>> parse_number("-1,234.5"), parse_number(r"$3\frac{1}{2}$"), parse_number("1.5e3")
    (Fraction(-2469, 2), Fraction(7, 2), Fraction(1500, 1))
    """
    text = clean_answer(text)
    if not text or len(text) > MAX_ANSWER_LENGTH:
        return None
    return _signed_number(text)


def _signed_number(text: str) -> Fraction | None:
    sign, body = (text[0], text[1:].strip()) if text[:1] in ("+", "-") else ("", text)
    value = _unsigned_number(body)
    return -value if value is not None and sign == "-" else value


def _unsigned_number(text: str) -> Fraction | None:
    if _PLAIN.fullmatch(text):
        return _plain_value(text)
    if match := _SLASH.fullmatch(text) or _FRAC.fullmatch(text):
        if any("frac" in part for part in match.groups()):
            return None
        top, bottom = (_signed_number(part.strip()) for part in match.groups())
        return top / bottom if top is not None and bottom else None
    if match := _MIXED.fullmatch(text):
        part = _unsigned_number(match[2])
        return None if part is None else int(match[1]) + part
    if match := _SCIENTIFIC.fullmatch(text):
        power = int(match[2])
        if abs(power) > MAX_TEN_POWER or (not match[1] and text[0] in "eExX*\\ "):
            return None
        return _plain_value(match[1] or "1") * Fraction(10) ** power
    match = _REPEATING.fullmatch(text)
    return _repeating_value(match) if match else None


def _plain_value(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", ""))


def _repeating_value(match: re.Match[str]) -> Fraction:
    whole, fixed = match[1] or "0", match[2] or ""
    cycle = next(group for group in match.groups()[2:] if group)
    start = Fraction(int(whole + fixed), 10 ** len(fixed))
    return start + Fraction(int(cycle), 10 ** len(fixed) * (10 ** len(cycle) - 1))


# ---- units ----

_UNITS = {
    **{"mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre"},
    **{"km": "kilometer kilometre", "in": "inch inche", "ft": "foot feet", "yd": "yard"},
    **{"mi": "mile", "mg": "milligram", "g": "gram", "kg": "kilogram", "lb": "pound"},
    **{"oz": "ounce", "t": "ton tonne", "ms": "millisecond", "s": "sec second"},
    **{"min": "minute", "h": "hr hour", "day": "", "week": "", "month": "", "year": "yr"},
    **{"ml": "milliliter millilitre", "l": "liter litre", "gal": "gallon", "mph": "", "m/s": ""},
    **{"km/h": "kph km/hr kmh", "rad": "radian", "unit": "", "%": "\\% percent percentage pct"},
    **{"$": "\\$ \\textdollar dollar usd", "¢": "cent", "€": "euro eur", "£": "\\pounds gbp"},
    **{"¥": "yen yuan", "₹": "rupee rs", "°": "^\\circ ^{\\circ} \\degree degree deg"},
}
_NAMES = {name: unit for unit, names in _UNITS.items() for name in (unit, *names.split())}
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_FACTORS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MATH_WORDS = set("and or pi sqrt sin cos tan cot sec csc log ln exp infinity inf mod i e".split())
_CURRENCY = re.compile(r"([-+]?)\s*(\\\$|\\textdollar|\\pounds|[€£¥₹])\s*")
_POWER = r"\s*(?:\^\s*\{?\s*([23])\s*\}?)?$"
_SIGN_UNIT = re.compile(r"\s*(\\?%|\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|\\\$|[€£¥₹¢])()$")
_MARKED_UNIT = re.compile(_TEXT + r"\s*\{([^{}]*)\}" + _POWER)
_BARE_UNIT = re.compile(r"(?<=[0-9}) ])([A-Za-z][A-Za-z ./]*)" + _POWER)
_SURE_NAMES = {name for name in _NAMES if name.isascii() and name.isalpha()} - {*"instlh", "in"}
PROSE_UNIT = rf"(?:{'|'.join(sorted(_SURE_NAMES, key=len, reverse=True))})s?"
"""Pattern of the names that are a unit wherever they follow a number in a sentence."""


def split_unit(text: str) -> tuple[str, str]:
    r"""Split a cleaned answer into its value and the name of its unit; empty if it has none.

    Words that are no unit, such as "apples", are removed too.

    >>> split_unit(r"5\text{ square centimetres}"), split_unit("50%"), split_unit("3 apples")
    (('5', 'cm^2'), ('50', '%'), ('3', ''))
    """
    if match := _CURRENCY.match(text):
        return match[1] + split_unit(text[match.end() :])[0], _NAMES[match[2]]
    for pattern in (_SIGN_UNIT, _MARKED_UNIT, _BARE_UNIT):
        match = pattern.search(text)
        body = text[: match.start()].strip() if match else ""
        is_angle = match and "\\circ" in match[0] and _TRIGONOMETRIC.search(body)
        if not match or not body or is_angle or body[-1] in "+-*/=^_(,;:{":
            continue
        words = match[1].lower().replace(".", " ").split()
        if pattern is _BARE_UNIT and not _is_bare_unit(words, body, text[match.start() - 1] == " "):
            continue
        factor = _FACTORS[words.pop(0)] if words and words[0] in _FACTORS else 0
        body = rf"{body} \times 10^{{{factor}}}" if factor else body
        return body, _unit_name(words, match[2])
    return text, ""


def _is_bare_unit(words: list[str], body: str, is_apart: bool) -> bool:
    """Return whether words after a value that nothing marks as text are a unit or a comment.

    A single letter right after a number is a variable.
    """
    if _MATH_WORDS & set(words):
        return False
    if parse_number(body) is None:  # letters may be variables: only long names are units
        return len(words[-1]) > 1 and bool(_unit_name(words, None)) and words != ["in"]
    return all(len(word) > 1 for word in words) or (is_apart and bool(_unit_name(words, None)))


def _unit_name(words: list[str], power: str | None) -> str:
    """Return the name of a unit; empty for words that are none."""
    if words and words[0] in _POWERS:
        power, words = _POWERS[words[0]], words[1:]
    name = "".join(words)
    unit = _NAMES.get(name) or _NAMES.get(name.removesuffix("s")) or ""
    return f"{unit}^{power}" if unit and power else unit
