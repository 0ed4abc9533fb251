"""Draws docs/images/idea-light.svg and idea-dark.svg: `python scripts/draw_idea.py`.

Left: independent rollouts of a sharp policy, all alike. Right: a tree of distinct actions under a
cap. A circle is a turn, its arrow the action; the number below a leaf is the return.
"""

from collections.abc import Iterator
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT, START, ROW, COLUMN, RADIUS = 880, 366, 58, 72, 49, 17
TURNS = {"U": 0, "R": 90, "D": 180, "L": 270}
"""Clockwise degrees of an action's arrow."""
ALIKE = {"U": {"U": {"L": 0}}}
"""What the policy does by habit: an action, then what follows it, at the end the return."""
TREE = {
    "U": {"U": {"L": 0, "D": 0}, "R": {"U": 0}},
    "L": {"U": {"R": 1}, "D": {"L": 0}},
    "R": {"D": {"L": 0, "D": 1}, "U": {"R": 0}},
}
"""Siblings are distinct; two branches win."""
THEMES = {
    "light": {
        "ink": "#1f2328", "quiet": "#59636e", "line": "#afb8c1", "paper": "#ffffff",
        "win": "#1a7f37", "U": "#1f5fa8", "R": "#a0307a", "D": "#2f8f8f", "L": "#c05a00",
    },
    "dark": {
        "ink": "#f0f6fc", "quiet": "#9198a1", "line": "#57606a", "paper": "#0d1117",
        "win": "#3fb950", "U": "#79b8ff", "R": "#f28cc8", "D": "#56d4c8", "L": "#ffa657",
    },
}  # fmt: skip


def num_leaves(node: dict | int) -> int:
    """Count the leaves below a turn."""
    return sum(map(num_leaves, node.values())) if isinstance(node, dict) else 1


def branch(node: dict, parent: tuple[float, float], left: float, theme: dict) -> Iterator[str]:
    """Draw what is below a turn: edges first, so that circles cover their ends.

    Args:
        node: children by their actions.
        parent: centre of the turn, in pixels.
        left: where the columns of its leaves begin.
        theme: colours.
    """
    for action, below in node.items():
        leaves = num_leaves(below)
        x, y = left + leaves * COLUMN / 2, parent[1] + ROW
        yield edge(parent, (x, y), theme)
        if isinstance(below, dict):
            yield from branch(below, (x, y), left, theme)
        else:
            yield text(x, y + 42, str(below), theme["win" if below else "quiet"], bold=bool(below))
        yield turn(x, y, action, theme, is_win=below == 1)
        left += leaves * COLUMN


def edge(start: tuple[float, float], end: tuple[float, float], theme: dict) -> str:
    """A line from a turn to the next."""
    (x1, y1), (x2, y2) = start, end
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{theme["line"]}" stroke-width="2"/>'


def turn(x: float, y: float, action: str, theme: dict, is_win: bool) -> str:
    """A circle with the arrow of its action; a winning one is filled."""
    fill, arrow = theme["win" if is_win else "paper"], theme["paper" if is_win else action]
    rim = theme["win" if is_win else action]
    return (
        f'<g transform="translate({x:g} {y:g})" fill="none" stroke-width="2.5">'
        f'<circle r="{RADIUS}" fill="{fill}" stroke="{rim}"/>'
        f'<path d="M0 8V-8M-6 -2L0 -8L6 -2" stroke="{arrow}" transform="rotate({TURNS[action]})" '
        'stroke-linecap="round" stroke-linejoin="round"/></g>'
    )


def text(x: float, y: float, words: str, colour: str, size: int = 19, bold: bool = False) -> str:
    """A centred line of text."""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{weight}>{words}</text>'


def panel(trees: list[dict], middle: float, title: str, caption: str, theme: dict) -> Iterator[str]:
    """A start with what grows from it, between a title and a caption."""
    yield text(middle, 26, title, theme["ink"], 22, bold=True)
    left = middle - sum(map(num_leaves, trees)) * COLUMN / 2
    for tree in trees:
        yield from branch(tree, (middle, START), left, theme)
        left += num_leaves(tree) * COLUMN
    yield f'<circle cx="{middle:g}" cy="{START}" r="9" fill="{theme["ink"]}"/>'
    yield text(middle, HEIGHT - 12, caption, theme["quiet"])


def picture(theme: dict) -> str:
    """The SVG file."""
    quarter, cap = WIDTH / 4, "different returns within the cap U = 8"
    parts = [
        *panel([ALIKE] * 8, quarter, "Parallel rollouts", "equal returns, nothing to learn", theme),
        *panel([TREE], 3 * quarter, "SESA: distinct actions", cap, theme),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
    head += 'font-family="system-ui, Helvetica, Arial, sans-serif" text-anchor="middle">'
    return "\n".join(
        [head, "<title>Parallel rollouts, and a SESA tree</title>", *parts, "</svg>\n"]
    )


if __name__ == "__main__":
    for name, colours in THEMES.items():
        (IMAGES / f"idea-{name}.svg").write_text(picture(colours), encoding="utf-8")
