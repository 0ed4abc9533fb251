"""Shortens an observation that makes a prompt too long. Pure."""

from collections.abc import Callable

FACTOR = 0.97
"""Each attempt keeps a little less than its estimate says: tokens are not equally long."""


def shorten(text: str, num_tokens: Callable[[str], int], limit: int) -> str:
    """Leave out the middle of a text, so that a prompt with it has at most `limit` tokens.

    Args:
        text: the text, which is too long.
        num_tokens: returns the length of the prompt with a text in place of this one.
        limit: the length wanted, in tokens.

    Returns:
        The beginning and the end, with a line between them that says how much is left out. If not
        even that line fits, it alone, or the text itself if it is no longer.

    >>> print(shorten("a" * 50 + "b" * 50, num_tokens=len, limit=60))
    aaaaaaaaaaaaa
    [... 75 characters left out ...]
    bbbbbbbbbbbb
    """
    least = without_middle(text, 0)
    overhead = num_tokens(least)
    if overhead >= num_tokens(text):
        return text
    keep, shown = len(text), text
    while keep and (length := num_tokens(shown)) > limit:
        share = max(0.0, (limit - overhead) / max(1, length - overhead))
        keep = min(keep - 1, int(FACTOR * share * keep))
        shown = without_middle(text, keep)
    return shown


def without_middle(text: str, keep: int) -> str:
    """Return a text with `keep` of its characters, half at each end, and a line between them."""
    head, tail = text[: (keep + 1) // 2], text[len(text) - keep // 2 :]
    line = f"[... {len(text) - keep:,} characters left out ...]"
    return "\n".join(filter(None, (head, line, tail)))
