"""Draws the diagrams of the documentation: `python scripts/draw_diagrams.py`.

`layers.svg` (docs/architecture.md): which folder may import which, as tests/test_structure.py has
it. `proposals.svg` (docs/method.md): the first decision of training puzzle 1000036 of Sokoban, as
the bundled model and `--method sesa` played it. Colours follow the reader's light or dark.
"""

from collections.abc import Iterator
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "docs" / "images"
STYLE = """
svg { --paper: #fff; --ink: #1f2328; --quiet: #59636e; --line: #afb8c1; --soft: #eef1f4;
      --mark: #1f5fa8; --win: #1a7f37; --wall: #8b949e; --floor: #f0ede6; --box: #d4a72c;
      --target: #c2255c; }
@media (prefers-color-scheme: dark) {
svg { --paper: #0d1117; --ink: #f0f6fc; --quiet: #9198a1; --line: #57606a; --soft: #21262d;
      --mark: #79b8ff; --win: #3fb950; --wall: #6e7681; --floor: #262c36; --box: #d4a72c;
      --target: #ff7eb6; } }
text { font-family: system-ui, Helvetica, Arial, sans-serif; font-size: 16px; fill: var(--ink); }
.bold { font-weight: 600; } .quiet { fill: var(--quiet); } .win { fill: var(--win); }
.mark { fill: var(--mark); } .struck { fill: var(--quiet); text-decoration: line-through; }
.middle { text-anchor: middle; } .end { text-anchor: end; }
"""
LAYERS = (
    ("sesa_agent", "commands, report, tree explorer", 0, 0),
    ("evaluation", "success, intervals, experiments", 0, 1),
    ("training", "credit, batch, loss, the loop", 0, 2),
    ("sampling", "players, trees, rollouts", 0, 3),
    ("environments", "text games and adapters", -1, 4),
    ("agents", "prompts, policy, engines", 1, 4),
    ("configs", "every setting", 0, 5),
)
"""Folder, what is in it, column and row."""
IMPORTS = ((0, 1), (1, 2), (2, 3), (3, 4), (3, 5), (4, 6), (5, 6))
"""Numbers of layers: who imports whom directly below; every layer may import those further down."""
START = ("######", "#____#", "#___P#", "#_#X##", "##_O##", "######")
DRAWS = (
    ("1. Sampled from x", {}, "Down"),
    ("2. Down excluded", {"Down"}, "Up"),
    ("3. Up excluded, too", {"Down", "Up"}, "Left"),
)
"""Title, what is excluded, what was sampled."""
PLAIN = {"Down": 0.95227, "Left": 0.03050, "Up": 0.00941, "Right": 0.00741}
"""The policy's probabilities of each answer under the plain prompt."""
EXCLUDED_MASS = {"Up": 0.04773, "Left": 0.03833}
"""What is left of the probability when it is sampled."""
AFTER = {
    "Down": (("######", "#____#", "#___P#", "#_#X##", "##_O##", "######"), "same state: merged"),
    "Up": (("######", "#___P#", "#____#", "#_#X##", "##_O##", "######"), "new state: open"),
    "Left": (("######", "#____#", "#__P_#", "#_#X##", "##_O##", "######"), "new state: open"),
}


def svg(title: str, width: int, height: int, parts: Iterator[str]) -> str:
    """A picture with a background of its own, so that it can be read on any page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="var(--paper)"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, kind: str = "middle") -> str:
    """A line of text; `kind` names classes of `STYLE`."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def arrow(x: float, top: float, bottom: float) -> str:
    """A line that points down."""
    return (
        f'<path d="M{x:g} {top:g}V{bottom:g}m-5 -8l5 8l5 -8" fill="none" '
        'stroke="var(--line)" stroke-width="2"/>'
    )


def layers() -> Iterator[str]:
    """Boxes from the commands down to the settings."""
    places = [(330 + 170 * column, 16 + 78 * row) for _, _, column, row in LAYERS]
    for upper, lower in IMPORTS:
        (x1, y1), (x2, y2) = places[upper], places[lower]
        yield arrow((x1 + x2) / 2, y1 + 50, y2 - 2)
    for (name, content, _, _), (x, y) in zip(LAYERS, places, strict=True):
        yield (
            f'<rect x="{x - 145}" y="{y}" width="290" height="50" rx="6" fill="var(--soft)" '
            'stroke="var(--line)"/>'
        )
        yield text(x, y + 21, f"{name}/", "middle bold")
        yield text(x, y + 41, content, "middle quiet")


def board(x: float, y: float, rows: tuple[str, ...], cell: int = 15) -> Iterator[str]:
    """A Sokoban board with its top left corner at (x, y)."""
    fills = {"#": "wall", "X": "box", "√": "win"}
    for row, line in enumerate(rows):
        for column, symbol in enumerate(line):
            left, top = x + column * cell, y + row * cell
            fill = fills.get(symbol, "floor")
            yield (
                f'<rect x="{left:g}" y="{top:g}" width="{cell - 1}" height="{cell - 1}" '
                f'fill="var(--{fill})"/>'
            )
            middle = f'cx="{left + cell / 2 - 0.5:g}" cy="{top + cell / 2 - 0.5:g}"'
            if symbol == "P":
                yield f'<circle {middle} r="5" fill="var(--mark)"/>'
            elif symbol == "O":
                yield (
                    f'<circle {middle} r="4" fill="none" stroke="var(--target)" stroke-width="2"/>'
                )


def proposals() -> Iterator[str]:
    """Three draws from one prompt, and the states that they lead to."""
    yield text(90, 30, "The state", "middle bold")
    yield from board(45, 48, START)
    yield text(90, 164, "To push the box", "middle quiet")
    yield text(90, 186, "the player must", "middle quiet")
    yield text(90, 208, "stand above it.", "middle quiet")
    for number, (title, excluded, drawn) in enumerate(DRAWS):
        left = 190 + 235 * number
        yield text(left + 110, 30, title, "middle bold")
        mass = EXCLUDED_MASS.get(drawn, 1.0)
        for row, (action, plain) in enumerate(PLAIN.items()):
            y, share = 52 + 26 * row, plain / mass
            if action in excluded:
                yield text(left + 55, y + 13, action, "end struck")
                continue
            kind = "mark bold" if action == drawn else "quiet"
            fill = "mark" if action == drawn else "line"
            yield text(left + 55, y + 13, action, f"end {kind}")
            yield (
                f'<rect x="{left + 62}" y="{y}" width="{max(1.0, 105 * share):.1f}" height="16" '
                f'fill="var(--{fill})"/>'
            )
            yield text(left + 68 + 105 * share, y + 13, f"{share:.3f}"[1:], kind)
        rows, outcome = AFTER[drawn]
        yield arrow(left + 110, 162, 208)
        yield text(left + 120, 188, "on a fork", "quiet")
        yield from board(left + 65, 216, rows)
        yield text(left + 110, 328, outcome, "middle" if number else "middle quiet")
    yield text(770, 352, "then Down: solved", "middle win bold")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    layers_svg = svg("Which folder imports which", 660, 478, layers())
    (IMAGES / "layers.svg").write_text(layers_svg, encoding="utf-8")
    title = "Three proposals at one decision, one after another"
    (IMAGES / "proposals.svg").write_text(svg(title, 900, 370, proposals()), encoding="utf-8")
