"""Describes errors and values of other people's code in one short line. Nothing here raises.

An exception may have a message of megabytes, with line breaks, terminal codes or lone surrogates;
`__str__` and `__repr__` may raise themselves.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..configs.errors import printable

TEXT_LIMIT = 300
"""Length of a quoted message or value, in characters."""


def describe_error(error: BaseException) -> str:
    """Describe an exception: its class, its message and where it was raised.

    >>> describe_error(KeyError("door"))
    "KeyError: 'door'"
    """
    message = describe_message(error)
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):  # the last one raised it
        place = f" ({Path(frame.f_code.co_filename).name}:{line})"
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def describe_message(error: BaseException) -> str:
    r"""Return an exception's message.

    >>> describe_message(ValueError("No such file.\nTry again."))
    'No such file. Try again.'
    """
    return one_line(_written(str, error))


def describe_value(value: Any) -> str:
    """Show a value as Python writes it.

    >>> describe_value([1, "a"]), describe_value("a" * 1000) == repr("a" * 299)[:-1]
    ("[1, 'a']", True)
    """
    return one_line(_written(repr, value[:TEXT_LIMIT] if isinstance(value, str | bytes) else value))


def one_line(text: str) -> str:
    r"""Cut a text to one line that every terminal and file takes.

    >>> one_line("a\n  b\x1b[1m\ud800")
    'a b\\x1b[1m\\ud800'
    """
    return printable(" ".join(text.split())[:TEXT_LIMIT])


def _written(write: Callable[[Any], str], value: Any) -> str:
    try:
        return write(value)
    except BaseException:  # a time limit that ends here is raised again by `time_limit`
        return f"a {type(value).__name__} that cannot be shown"
