"""Text for numeric environments. Pure functions.

Observations of any Gymnasium space become compact text, coloured terminal output becomes plain
text, and the rules and action names come from the environment's own documentation.
"""

import re
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

MAX_NUMBERS = 512
"""Size of the largest observation that is written as text, in numbers."""
RULES_LENGTH = 400
"""Length of the rules that are taken from an environment's documentation, in characters."""
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_COLOURED = re.compile(r"\x1b\[([\d;]+)m(.*?)\x1b\[0?m", re.DOTALL)
_ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


def write_observation(observation: Any) -> str:
    """Write an observation as compact text.

    >>> print(write_observation({"hand": (14, 10, False), "board": np.eye(2), "speed": 0.12345}))
    hand: 14, 10, 0
    board:
    1 0
    0 1
    speed: 0.123
    """
    if isinstance(observation, str):
        return observation
    if isinstance(observation, Mapping):
        return "\n".join(_entry(key, part) for key, part in observation.items())
    if isinstance(observation, tuple | list):
        return ", ".join(write_observation(part) for part in observation)
    numbers = np.asarray(observation)
    if numbers.ndim == 0:
        return _number(numbers.item())
    if numbers.ndim == 1:
        return " ".join(_number(number) for number in numbers.tolist())
    gap = "\n" if numbers.ndim == 2 else "\n\n"
    return gap.join(write_observation(part) for part in numbers)


def _entry(key: Any, part: Any) -> str:
    text = write_observation(part)
    return f"{key}:\n{text}" if "\n" in text else f"{key}: {text}"


def _number(number: Any) -> str:
    return f"{number:.3g}" if isinstance(number, float) else str(int(number))


def count_numbers(space: gymnasium.Space[Any]) -> int:
    """Count the numbers in an observation of a space."""
    if isinstance(space, Dict):
        return sum(map(count_numbers, space.values()))
    if isinstance(space, Tuple):
        return sum(map(count_numbers, space))
    return int(np.prod(space.shape or (1,)))


def describe_space(space: gymnasium.Space[Any]) -> str:
    """Describe the observations of a space; empty for text, which needs no description.

    >>> describe_space(Tuple((Discrete(32), Box(-1, 1, (2, 3)))))
    '0 to 31, 2 x 3 numbers from -1 to 1'
    """
    if isinstance(space, Dict):
        parts = {key: describe_space(part) for key, part in space.items()}
        return "; ".join(f"{key}: {text}" for key, text in parts.items() if text)
    if isinstance(space, Tuple):
        return ", ".join(map(describe_space, space))
    if isinstance(space, Discrete):
        return f"{space.start} to {space.start + space.n - 1}"
    if isinstance(space, Box | MultiDiscrete | MultiBinary):
        size = " x ".join(map(str, space.shape or (1,)))
        return f"{size} numbers{_bounds(space) if isinstance(space, Box) else ''}"
    return ""


def _bounds(space: Box) -> str:
    low, high = float(space.low.min()), float(space.high.max())
    return f" from {low:g} to {high:g}" if low > -1e6 and high < 1e6 else ""


def plain_text(text: str) -> str:
    r"""Write coloured terminal text in plain characters, with colours as tags around their text.

    Spaces at the ends of lines and empty lines around the text are removed.

    >>> plain_text("|\x1b[43m \x1b[0m: |\x1b[34;1mG\x1b[0m|")
    '|<yellow> </yellow>: |<blue>G</blue>|'
    """
    text = _ESCAPE.sub("", _COLOURED.sub(_tagged, text))
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()).strip("\n")


def _tagged(match: re.Match[str]) -> str:
    codes = [int(code) for code in match[1].split(";") if code]
    named = [_COLOURS[code % 10] for code in codes if code // 10 in (3, 4, 9) and code % 10 < 8]
    return f"<{named[0]}>{match[2]}</{named[0]}>" if named else match[2]


def documented_rules(env: gymnasium.Env[Any, Any]) -> str:
    """Return the first paragraph of an environment's docstring in one line, or ""."""
    text = (type(env).__doc__ or "") if type(env).__doc__ != gymnasium.Env.__doc__ else ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    # "## Description" is a heading, with or without its text below.
    paragraphs = [re.sub(r"^#+ \w+ ?", "", paragraph) for paragraph in paragraphs]
    rules = next(filter(None, paragraphs), "")
    if len(rules) <= RULES_LENGTH:
        return rules
    return rules[:RULES_LENGTH].rpartition(". ")[0] + "."


def documented_actions(env: gymnasium.Env[Any, Any], num_actions: int) -> tuple[str, ...]:
    """Return the names that an environment gives its actions, in order; empty if it gives none.

    They may be its `action_names`, its `get_action_meanings()` (Atari), its enumeration `actions`
    (MiniGrid), or lines "- 0: Move left" in the "Action Space" section of its docstring
    (Gymnasium).
    """
    for names in _named_actions(env):
        names = tuple(_action_name(str(name)) for name in names)
        is_sound = all(name and len(name) <= 30 and not set(",|") & set(name) for name in names)
        if is_sound and len({name.casefold() for name in names}) == num_actions == len(names):
            return names
    return ()


def _named_actions(env: Any) -> list[list[str]]:
    """Collect candidates for the names of the actions, the most likely first."""
    found: list[list[str]] = [list(getattr(env, "action_names", None) or ())]
    if hasattr(env, "get_action_meanings"):
        found.append(list(env.get_action_meanings()))
    members = getattr(getattr(env, "actions", None), "__members__", {})
    found.append(sorted(members, key=lambda name: int(members[name])))
    _, _, section = (type(env).__doc__ or "").partition("Action Space")
    lines = re.findall(r"^\s*[-*] (\d+): *(.+)$", section.partition("\n    ##")[0], re.MULTILINE)
    if [int(number) for number, _ in lines] == list(range(len(lines))):
        found.append([name for _, name in lines])
    return found


def _action_name(name: str) -> str:
    """Shorten a name: "Move south (down)" becomes "South"."""
    name = re.sub(r"\s*\(.*?\)", "", name).strip().rstrip(".")
    name = re.sub(r"^(?:Move|Go)\s+(?:to the\s+)?(?=\w)", "", name)
    return name[:1].upper() + name[1:]


def numbers_per_place(space: MultiDiscrete | MultiBinary) -> np.ndarray:
    """Return how many numbers each place of an action allows, in the shape of the action."""
    if isinstance(space, MultiDiscrete):
        return np.asarray(space.nvec)
    return np.full(space.shape or (1,), 2)


def read_numbers(text: str, space: MultiDiscrete | MultiBinary) -> Any:
    """Read an action of several numbers, such as "1 0 2"; None if the text is no such action."""
    counts = numbers_per_place(space)
    if not re.fullmatch(r"\d{1,9}(?:[\s,]+\d{1,9})*", text.strip(), re.ASCII):
        return None
    numbers = np.array([int(word) for word in re.findall(r"\d+", text)])
    if len(numbers) != counts.size or (numbers >= counts.ravel()).any():
        return None
    return numbers.reshape(counts.shape).astype(space.dtype)
