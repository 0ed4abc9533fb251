"""What the user typed: settings as `group.key=value` words, beside the options that set some."""

from collections.abc import Mapping, Sequence
from typing import Any

from sesa_agent.configs.errors import SettingError


def refuse_fixed(overrides: Sequence[str], options: Mapping[str, str]) -> None:
    """Reject settings that belong to an option of the command.

    Args:
        overrides: `group.key=value` words.
        options: the option of each such setting.

    Raises:
        SettingError: with the name of the option.
    """
    for word in overrides:
        key = word.partition("=")[0]
        if key in options:
            raise SettingError(f"{key} is set by {options[key]}, got {word!r}. Give only one.")


def with_options(overrides: Sequence[str], options: Mapping[str, tuple[str, Any]]) -> list[str]:
    """Add the settings of options to those that were typed.

    Args:
        overrides: `group.key=value` words.
        options: the option of each setting, and its value; None if it was not given.

    Raises:
        SettingError: if a setting was given in both ways: one would hide the other.

    >>> with_options(["optim.lr=1e-3"], {"seed": ("--seed", 1), "optim.steps": ("--steps", None)})
    ['optim.lr=1e-3', 'seed=1']
    """
    given = {key: pair for key, pair in options.items() if pair[1] is not None}
    refuse_fixed(overrides, {key: option for key, (option, _) in given.items()})
    return [*overrides, *(f"{key}={value}" for key, (_, value) in given.items())]
