"""Reads actions from responses. Pure; an unreadable response is data, not an error.

Two ways to read: `read_answer` wants exactly the format that the prompt asks for, and
`find_answer` takes whatever cannot mean anything else. A response ends at the first `</answer>`
outside thoughts, as sampling does, so it never has two answers. Every function takes time in
proportion to the response, whatever a model writes.
"""

import re

from .prompts import SEPARATOR, SKETCH_STOP

_THINK, _ANSWER, _END = "<think>", "<answer>", "</answer>"
_THOUGHT = re.compile(r"</think>\s*<answer>")
_TAG = re.compile("<(/?)(think|answer)>", re.IGNORECASE)
_QUOTES = ("```", "**", "__", '"', "'", "`", "*", "_", "“”", "‘’", "«»")
"""What may enclose an action: the same mark twice, or an opening and a closing one."""
_PUNCTUATION = ".,;:"
"""What may follow an action. Not `!`, which is a factorial."""
_MAX_LAYERS = 6


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


def find_answer(response: str, is_whole: bool = True) -> str | None:
    """Return the answer wherever it stands in a response; None if there is none.

    The answer is what stands between the first `</answer>` outside thoughts and the last `<answer>`
    before it, in any case of the letters. What stands before is ignored, thoughts or not. Nothing
    in a thought is an answer, and a thought that never ends leaves none.

    Args:
        response: the text of a response.
        is_whole: the model ended the response itself. Then `</answer>` may be missing at its end;
            in a response that was cut off the answer might have gone on.

    >>> find_answer("Sure: <Answer>Up</Answer>")
    'Up'
    >>> find_answer("<think>Left?</think> <answer>Up")
    'Up'
    """
    start, in_thought = None, False
    for tag in _TAG.finditer(response):
        is_end, name = bool(tag[1]), tag[2].lower()
        if name == "think":
            # An unopened thought ends too: some chat templates open it.
            in_thought, start = not is_end, None
        elif in_thought:
            continue
        elif not is_end:
            start = tag.end()
        else:
            return None if start is None else response[start : tag.start()].strip()
    return response[start:].strip() if is_whole and start is not None else None


def bare_action(text: str) -> str:
    """Return an action without quotes, emphasis, code marks or punctuation around it.

    >>> bare_action("**`Up`**."), bare_action("f('a')")
    ('Up', "f('a')")
    """
    for _ in range(_MAX_LAYERS):
        before = text
        text = text.strip().rstrip(_PUNCTUATION).rstrip()
        quotes = next((quotes for quotes in _QUOTES if _encloses(quotes, text)), None)
        if quotes is not None:
            text = text[len(_opening(quotes)) : -len(_closing(quotes))]
            text = _without_language(text) if quotes == "```" else text
        if text == before:
            break
    return text


def _without_language(code: str) -> str:
    """Drop the rest of the line that opens a code fence."""
    language, _, rest = code.partition("\n")
    is_name = not language.strip() or language.strip().isalnum()
    return rest if is_name and rest.strip() else code


def _opening(quotes: str) -> str:
    return quotes[0] if quotes[0] != quotes[-1] else quotes


def _closing(quotes: str) -> str:
    return quotes[-1] if quotes[0] != quotes[-1] else quotes


def _encloses(quotes: str, text: str) -> bool:
    """Whether a text stands in quotes, and has none of them inside."""
    first, last = _opening(quotes), _closing(quotes)
    is_long = len(text) > len(first) + len(last)
    if not (is_long and text.startswith(first) and text.endswith(last)):
        return False
    inside = text[len(first) : -len(last)]
    return first not in inside and last not in inside


def split_actions(answer: str, max_actions: int) -> list[str]:
    """Split an answer into its first `max_actions` actions.

    Where a single action is allowed, the separator is a part of it like any other text.

    >>> split_actions("Up || Left || Up", max_actions=2)
    ['Up', 'Left']
    >>> split_actions("SELECT a || b", max_actions=1)
    ['SELECT a || b']
    """
    parts = answer.split(SEPARATOR.strip()) if max_actions > 1 else [answer]
    parts = [part.strip() for part in parts]
    return [part for part in parts if part][:max_actions]


def first_action(joined: str, max_actions: int) -> str:
    """Return the first of the actions that `Turn.action` joins.

    >>> first_action("Up || Left", max_actions=2), first_action("a || b", max_actions=1)
    ('Up', 'a || b')
    """
    return joined.split(SEPARATOR)[0] if max_actions > 1 else joined


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
