"""User errors, each reported in one line."""

import reprlib
from typing import Any

MAX_LENGTH = 2000
"""Length of the longest message, in characters."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120
_SHORT.maxlist = _SHORT.maxdict = 10


class SettingError(ValueError):
    r"""A user error in one line: the setting, its value, what is allowed and what to do.

    The command line prints the line and exits with code 2; every other exception is a bug. A
    message may quote anything: line breaks, control characters and halves of characters are
    escaped, and the middle of a very long one is left out.

    >>> SettingError("no\nsetting")
    SettingError('no\\nsetting')
    """

    def __init__(self, message: str):
        if len(message) > MAX_LENGTH:
            message = f"{message[: MAX_LENGTH // 2]} ... {message[-MAX_LENGTH // 4 :]}"
        super().__init__(printable(message))


def printable(text: str) -> str:
    r"""Escape line breaks, control characters and halves of characters.

    >>> printable("a\x1b[1m\ud800")
    'a\\x1b[1m\\ud800'
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def check(condition: bool, key: str, value: Any, allowed: str, advice: str = "") -> None:
    """Reject a setting in one line: the key as it was typed, what is allowed, and the value.

    Raises:
        SettingError: if `condition` does not hold.
    """
    if not condition:
        raise SettingError(
            f"{key} must be {allowed}, got {show(value)}.{' ' + advice if advice else ''}"
        )


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Reject a name that is not among the choices."""
    check(value in choices, key, value, "one of " + ", ".join(choices))


def show(value: Any) -> str:
    """A value in a message, at most a few lines long.

    >>> show("fast"), show([1, None]), len(show("1" * 10**6))
    ("'fast'", '[1, None]', 120)
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a very long number"


def first_line(error: BaseException) -> str:
    r"""The first line of an exception's message without its full stop, to be quoted in ours.

    >>> first_line(ValueError("No such file.\nTry again.")), first_line(KeyError())
    ('No such file', 'KeyError()')
    """
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
