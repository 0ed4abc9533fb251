"""User errors, each reported in one line."""

from typing import Any


class SettingError(ValueError):
    """A user error in one line: the setting, its value, what is allowed and what to do.

    The command line prints the line and exits with code 2; every other exception is a bug.
    """


def check(condition: bool, key: str, value: Any, allowed: str, advice: str = "") -> None:
    """Reject a setting in one line: the key as it was typed, what is allowed, and the value.

    Raises:
        SettingError: if `condition` does not hold.
    """
    if not condition:
        raise SettingError(
            f"{key} must be {allowed}, got {value!r}.{' ' + advice if advice else ''}"
        )


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Reject a name that is not among the choices."""
    check(value in choices, key, value, "one of " + ", ".join(choices))


def first_line(error: BaseException) -> str:
    r"""The first line of an exception's message without its full stop, to be quoted in ours.

    >>> first_line(ValueError("No such file.\nTry again.")), first_line(KeyError())
    ('No such file', 'KeyError()')
    """
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
