"""A user's mistakes, each told in one line."""

from typing import Any


class SettingError(ValueError):
    """A user's mistake, told in one line: the setting, its value, what is allowed and what to do.

    The command line prints the line and exits with code 2; every other exception is a bug.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, without its full stop."""
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")


def check(condition: bool, key: str, value: Any, allowed: str, advice: str = "") -> None:
    """Refuse a setting in one line: the key as it was typed, what is allowed and what it was.

    Raises:
        SettingError: if `condition` does not hold.
    """
    if not condition:
        raise SettingError(
            f"{key} must be {allowed}, got {value!r}.{' ' + advice if advice else ''}"
        )


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a name that is not among the choices."""
    check(value in choices, key, value, "one of " + ", ".join(choices))
