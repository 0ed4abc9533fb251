"""The actions that an environment allows now: found in `info`, shown in a line, read in answers.

An environment lists them in `info["available_actions"]`, as texts. `TextAdapter` fills it from the
entries in which other packages have them. Pure functions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

AVAILABLE = "available_actions"
"""The entry of `info` that is read from every environment."""
KEYS = (AVAILABLE, "admissible_commands", "admissible_actions", "valid_actions", "validActions")
"""Entries of `info` in which packages list texts (TextWorld and ALFWorld: the second)."""
MASK = "action_mask"
"""The entry with a flag for each action of a `Discrete` space."""
MAX_SHOWN, MAX_LETTERS = 50, 2000
"""A line shows at most so many actions, and no further one once it has so many characters."""
_PUNCTUATION = ".,;:!?"


def find_available(info: Mapping[str, Any], names: Sequence[str] = ()) -> list[str]:
    """Find the actions that an environment allows now; empty if it does not say.

    Args:
        info: what `reset` or `step` returned. Entries of another kind are ignored.
        names: names of the actions of a `Discrete` space, in order, for a mask.

    >>> find_available({"admissible_commands": ["look", "go east", "look"]})
    ['look', 'go east']
    >>> find_available({"action_mask": np.array([0, 1, 1])}, ["Up", "Down", "Wait"])
    ['Down', 'Wait']
    """
    for key in KEYS:
        texts = list_texts(info.get(key))
        if texts:
            return texts
    mask = flat_mask(info, len(names))
    return [] if mask is None else [name for name, flag in zip(names, mask, strict=True) if flag]


def list_texts(value: Any) -> list[str]:
    """Return the different texts of a list; empty for anything else, or if one is no text."""
    if not isinstance(value, list | tuple | np.ndarray):
        return []
    texts = list(value)
    if not all(isinstance(text, str) for text in texts):
        return []
    return [text for text in dict.fromkeys(map(str, texts)) if text.strip()]


def flat_mask(info: Mapping[str, Any], num_actions: int) -> np.ndarray | None:
    """Return the mask of a `Discrete` space's actions, (num_actions,); None if there is none."""
    mask = info.get(MASK)
    if not num_actions or not isinstance(mask, list | tuple | np.ndarray):
        return None
    try:
        mask = np.asarray(mask)
    except ValueError:  # lists of unequal length
        return None
    return mask if mask.shape == (num_actions,) and mask.dtype.kind in "biuf" else None


def spell(text: str, available: Sequence[str]) -> str | None:
    """Return the available action that a text names, as it is listed; None if there is none.

    Case, white space and punctuation at the end do not matter.

    >>> spell(" Go  EAST.", ["look", "go east"])
    'go east'
    """
    if not available:
        return None
    if text in available:
        return text
    wanted = _key(text)
    return next((action for action in available if _key(action) == wanted), None)


def _key(text: str) -> str:
    words = " ".join(text.split()).casefold()
    return words.rstrip(_PUNCTUATION).rstrip() or words


def show_available(available: Sequence[str]) -> str:
    """Write the available actions in one line; the end of a long list is counted.

    >>> show_available(["look", "go east"])
    'Actions now: look; go east'
    """
    shown: list[str] = []
    num_letters = 0
    for action in available[:MAX_SHOWN]:
        if num_letters > MAX_LETTERS:
            break
        shown.append(" ".join(action.split()))
        num_letters += len(shown[-1])
    left_out = len(available) - len(shown)
    return "Actions now: " + "; ".join([*shown, *([f"and {left_out} more"] if left_out else [])])


def with_available(observation: str, available: Sequence[str]) -> str:
    """Add the line with the available actions to an observation, if there are any."""
    return f"{observation}\n{show_available(available)}" if available else observation
