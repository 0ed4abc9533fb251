"""Pictures of short texts: a 3x5 bitmap font for digits, `=` and `_`, enough for number games."""

import numpy as np

_ROWS = {
    "0": "### #.# #.# #.# ###",
    "1": ".#. ##. .#. .#. ###",
    "2": "### ..# ### #.. ###",
    "3": "### ..# .## ..# ###",
    "4": "#.# #.# ### ..# ..#",
    "5": "### #.. ### ..# ###",
    "6": "### #.. ### #.# ###",
    "7": "### ..# ..# .#. .#.",
    "8": "### #.# ### #.# ###",
    "9": "### #.# ### ..# ###",
    "=": "... ### ... ### ...",
    "_": "... ... ... ... ###",
}
_GLYPHS = {
    sign: np.array([[dot == "#" for dot in row] for row in rows.split()])
    for sign, rows in _ROWS.items()
}
_BLANK = np.zeros((5, 3), dtype=bool)


def draw_text(text: str, scale: int = 6) -> np.ndarray:
    """Draw lines of digits, `=` and `_` in black on white; any other character is left blank.

    Args:
        text: lines separated by newlines.
        scale: side of one dot of the font, in pixels.

    Returns:
        The picture, uint8 of shape (height, width, 3): 6 x 4 dots per character, and a margin.
    """
    lines = text.split("\n")
    dots = np.zeros((6 * len(lines) + 1, 4 * max(len(line) for line in lines) + 1), dtype=bool)
    for row, line in enumerate(lines):
        for column, sign in enumerate(line):
            top, left = 6 * row + 1, 4 * column + 1
            dots[top : top + 5, left : left + 3] = _GLYPHS.get(sign, _BLANK)
    shades = np.where(dots, 0, 255).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    return np.stack([shades] * 3, axis=-1)
