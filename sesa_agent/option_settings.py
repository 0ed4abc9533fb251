"""What the user typed: settings as `group.key=value` words, beside the options that set some."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.task_files import REWARD, is_task_file


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


def reward_option(reward: str | Callable[..., Any], env: str) -> dict[str, tuple[str, str | None]]:
    """Return the setting of `--reward`, for `with_options`.

    Args:
        reward: `module:function`, or from Python the function itself; empty for none.
        env: the environment, as it was typed; empty for that of a run.

    Raises:
        SettingError: if the environment judges answers itself, or the function has no name by which
            another process could import it.
    """
    if callable(reward):
        path = getattr(reward, "__qualname__", "<")
        advice = "Define it with def, outside of other functions."
        check("<" not in path, "reward", path, "a function of a module or notebook", advice)
        reward = f"{reward.__module__}:{path}"
    fits = not (reward and env) or is_task_file(env)
    check(fits, "--reward", reward, f"left out with {env!r}, which is no file of tasks")
    return {REWARD: ("--reward", reward or None)}
