"""The function that judges answers, `--reward my_module:verify`: imported, checked and called.

    def verify(answer, row):            # one answer; its reward, such as True or 1 if it is right
    def verify(answer, row, earlier):   # a conversation; `earlier` lists the answers before

A number ends the episode. A text is the next message to the model, and the episode goes on;
`(number, text)` is both: a reward and the next message. The function keeps no state of its own: the
same answers to the same row must give the same result, so copies of an episode are cheap.
"""

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...configs.errors import SettingError
from ..descriptions import describe_error, describe_value

EARLIER = "earlier"
"""The parameter that gets the answers before this one, if the function has it."""
CONTRACT = "a number (the reward), a str (the next message), or both as (reward, message)"


@dataclass(frozen=True)
class Verdict:
    """What a function said about an answer."""

    reward: float = 0.0
    message: str | None = None
    """The next message to the model; None ends the episode."""


@dataclass(frozen=True)
class RewardFunction:
    """A function of the user, called with an answer and its row."""

    name: str
    """As it was typed, `module:function`."""
    call: Callable[..., Any]
    takes_earlier: bool
    """Whether it gets the earlier answers of the episode."""

    def __call__(self, answer: str, row: dict[str, Any], earlier: Sequence[str] = ()) -> Verdict:
        """Judge an answer.

        Raises:
            TypeError: if the function returns none of what `CONTRACT` says.
            Exception: any that the function raises.
        """
        more = {EARLIER: list(earlier)} if self.takes_earlier else {}
        result = self.call(answer, row, **more)
        if isinstance(result, str):
            return Verdict(message=result)
        has_both = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str)
        reward = _read_number(result[0] if has_both else result)
        if reward is None:
            raise TypeError(f"{self.name} must return {CONTRACT}, got {describe_value(result)}")
        return Verdict(reward, result[1] if has_both else None)


def _read_number(value: Any) -> float | None:
    """Read a finite number, also of numpy or torch; None if it is none."""
    if isinstance(value, str) or not hasattr(value, "__float__"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # several numbers; too large
        return None
    return number if math.isfinite(number) else None


def load_reward(name: str) -> RewardFunction:
    """Import the function `module:function`, also from the working folder.

    Raises:
        SettingError: in one line, if it cannot be imported or has other parameters.
    """
    module_name, colon, path = name.partition(":")
    if not (colon and module_name and path):
        raise SettingError(f"--reward must be module:function, got {name!r}.")
    function = _find(_import(module_name, name), path, name)
    if not callable(function):
        raise SettingError(f"--reward {name} must be a function, got {describe_value(function)}.")
    if inspect.iscoroutinefunction(function):
        raise SettingError(f"--reward {name} must be a plain function, not async def.")
    return RewardFunction(name, function, _takes_earlier(function, name))


def _import(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        advice = (
            f"Start the command in the folder of {module}.py, or install it."
            if module == missing or module.startswith(f"{missing}.")
            else f"{module} needs it: install it."
        )
        raise SettingError(f"--reward {name}: there is no module {missing}. {advice}") from error
    except Exception as error:  # the module's own code
        raise SettingError(
            f"--reward {name}: {module} cannot be imported: {describe_error(error)}."
        ) from error


def _find(module: Any, path: str, name: str) -> Any:
    found = module
    for word in path.split("."):
        if not hasattr(found, word):
            functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
            near = difflib.get_close_matches(path, functions, n=1)
            hint = (
                f"Did you mean {near[0]}?" if near else f"It has {', '.join(functions) or 'none'}."
            )
            raise SettingError(f"--reward {name}: {module.__name__} has no function {path}. {hint}")
        found = getattr(found, word)
    return found


def _takes_earlier(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function wants the earlier answers.

    Raises:
        SettingError: if it cannot be called with an answer and a row.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of functions in C
        return False
    takes_earlier = EARLIER in signature.parameters
    try:
        signature.bind("", {}, **({EARLIER: []} if takes_earlier else {}))
    except TypeError as error:
        raise SettingError(
            f"--reward {name} must take (answer, row), or (answer, row, {EARLIER}) for a "
            f"conversation, got {signature}."
        ) from error
    return takes_earlier
