"""Renders the panels of a report: as SVG with the colours of the page, and as PNG.

The text of a panel is drawn in a unique placeholder colour, which is then replaced by the text
colour of the page, so that plots follow its light and dark mode. Every panel is a separate image: a
page can place them side by side or, on a phone, below one another.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sesa_agent.configs.writing import drafted

INK = "#010203"
"""Placeholder for the page's text colour."""
WON = "#2e8b57"
"""Colour of successes; `var(--won)` in a page."""
SIZE = (4.2, 2.7)
"""Width and height of a panel in inches."""
GRID = 0.15
"""Opacity of grid lines."""


@dataclass(frozen=True)
class Panel:
    """A small plot."""

    title: str
    alt: str
    """Alternative text."""
    draw: Callable[[Axes], None]
    height: float = SIZE[1]
    """In inches."""


def svg(panel: Panel, shades: Mapping[str, str]) -> str:
    """Draw a panel as an SVG element for a page.

    Args:
        panel: the panel.
        shades: colours of the page's arms; arm n gets `var(--arm-n)`, everything else the text
            colour.
    """
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": panel.title, "font.size": 9.5}
    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with mpl.rc_context({**style, **dict.fromkeys(ink, INK)}):
        figure = Figure(figsize=(SIZE[0], panel.height), layout="constrained")
        axes = figure.subplots()
        _draw(panel, axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: (?:\w+ )*?([\d.]+px)[^;\"]*", r"font-size: \1", text)
    for place, colour in enumerate(shades.values()):
        text = text.replace(colour, f"var(--arm-{place})")
    text = text.replace(WON, "var(--won)")
    used = set(re.findall(r"#([\w-]+)", text))  # unused ids could clash with those of other panels
    text = re.sub(r' id="([\w-]+)"', lambda m: m[0] if m[1] in used else "", text)
    # Paths and letters have their colours in style attributes; without one they use currentColor.
    text = text.replace(INK, "currentColor")
    start = f'<svg role="img" aria-label="{html.escape(panel.alt)}" fill="currentColor"'
    return text.replace("<svg", start, 1)


def save_png(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels side by side, with a legend if there are several arms."""
    num_columns = min(len(panels), 4 if len(panels) == 4 else 3)
    num_rows = -(-len(panels) // num_columns)
    size = (SIZE[0] * num_columns, max(panel.height for panel in panels) * num_rows + 0.4)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for panel, axes in zip(panels, grid, strict=False):
        _draw(panel, axes)
        axes.set_title(panel.title, loc="left", fontsize="medium")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    lines = {
        label: line
        for axes in grid
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(lines) > 1:
        place = {"loc": "outside lower center", "ncols": 6, "frameon": False}
        legend = figure.legend(list(lines.values()), list(lines), **place)
        for text in legend.get_texts():
            text.set_parse_math(False)
    with drafted(path) as draft:
        figure.savefig(draft, format="png")


def _draw(panel: Panel, axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    panel.draw(axes)
