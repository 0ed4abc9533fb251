"""Reads actions from responses. Pure; an unreadable response is data, not an error."""

import re

from .prompts import SEPARATOR, SKETCH_STOP

_PLAIN = re.compile(r"\s*<answer>(.*?)</answer>", re.DOTALL)
_THINKING = re.compile(r"\s*<think>.*?</think>\s*<answer>(.*?)</answer>", re.DOTALL)


def read_answer(response: str, thinking: bool) -> str | None:
    """Return the text between the answer tags, or None if the response breaks the format.

    >>> read_answer("<answer> Up </answer>", thinking=False)
    'Up'
    >>> read_answer("<answer>Up</answer>", thinking=True) is None
    True
    """
    match = (_THINKING if thinking else _PLAIN).match(response)
    return match.group(1).strip() if match else None


def split_actions(answer: str, max_actions: int) -> list[str]:
    """Split an answer into its first `max_actions` actions.

    >>> split_actions("Up || Left || Up", max_actions=2)
    ['Up', 'Left']
    """
    parts = [part.strip() for part in answer.split(SEPARATOR.strip())]
    return [part for part in parts if part][:max_actions]


def read_sketch(response: str) -> str | None:
    r"""Return the outline in a response, on one line, or None if there is none.

    A response without the tags counts as an outline too.

    >>> read_sketch("<sketch>rows first,\n then boxes</sketch>")
    'rows first, then boxes'
    >>> read_sketch("from the top")
    'from the top'
    """
    text = response.partition(SKETCH_STOP)[0].rpartition("<sketch>")[2]
    return " ".join(text.split()).rstrip(". ") or None
