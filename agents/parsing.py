"""Reads actions from responses. Pure; an unreadable response is data, not an error.

Every function takes time in proportion to the response, whatever a model writes: the patterns begin
with a fixed word and nothing in them can match in two ways.
"""

import re

from .prompts import SEPARATOR, SKETCH_STOP

_THINK, _ANSWER, _END = "<think>", "<answer>", "</answer>"
_THOUGHT = re.compile(r"</think>\s*<answer>")


def read_answer(response: str, thinking: bool) -> str | None:
    """Return the text between the answer tags, or None if the response breaks the format.

    >>> read_answer("<answer> Up </answer>", thinking=False)
    'Up'
    >>> read_answer("<answer>Up</answer>", thinking=True) is None
    True
    """
    text = response.lstrip()
    if not text.startswith(_THINK if thinking else _ANSWER):
        return None
    start = len(_ANSWER)
    if thinking:
        thought = _THOUGHT.search(text, len(_THINK))
        if thought is None:
            return None
        start = thought.end()
    end = text.find(_END, start)
    return text[start:end].strip() if end >= 0 else None


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
