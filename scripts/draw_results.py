"""Draws the pictures of README and docs/results.md: `python scripts/draw_results.py`.

From results/*.json, each in a light and a dark variant, docs/images/NAME-light.svg and
NAME-dark.svg. A line is the mean over seeds, its band the 95 % t interval over seeds; thin
lines are single seeds.
"""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from sesa_agent.plots import colours, interval_band, mean_line

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
LABELS = {
    "policy_calls": "policy calls",
    "seconds": "seconds of training",
    "eval/success_rate": "success",
    "eval/pass_ratio": "pass@16 / pass@1",
    "eval/coverage_at_32": "Coverage@32",
    "eval/coverage_at_128": "Coverage@128",
}
REAL_LLM_ARMS = ("ragen", "maxrl", "sesa")
"""What is shown of a pre-trained model: the baseline, its best rival and ours."""
INKS = {"light": "#1f2328", "dark": "#d1d7e0"}
STYLE: dict[Any, Any] = {
    "font.size": 12,
    "svg.hashsalt": "sesa-agent",  # equal numbers give equal files
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
}
Panel = Callable[[Axes, str], None]
"""Draws into axes, in a theme."""


def curves(name: str, x: str, y: str, only: Collection[str] = ()) -> Panel:
    """What was measured on validation puzzles along training, a line for each arm.

    Args:
        name: the results file.
        x: what lies along the horizontal axis, as it is called in the curves.
        y: likewise along the vertical axis.
        only: show these arms, and every seed instead of an interval; all arms if there are none.
    """
    lines: dict[str, list[list[tuple[float, float]]]] = {}
    for arm in read(name)["arms"]:
        line = [(row[x], row[y]) for row in arm["curve"] if y in row]
        if line and (not only or arm["label"] in only):
            lines.setdefault(arm["label"], []).append(line)

    def panel(axes: Axes, theme: str) -> None:
        for label, colour in shown_colours(list(lines), theme).items():
            if only:
                for line in lines[label]:
                    axes.plot(*zip(*line, strict=True), color=colour, alpha=0.4, linewidth=1)
            else:
                band = interval_band(lines[label])
                axes.fill_between(*band, color=colour, alpha=0.15, linewidth=0)
            axes.plot(*mean_line(lines[label]), color=colour, linewidth=2.5, label=label)
        axes.set(xlabel=LABELS[x], ylabel=LABELS[y], xlim=(0, None))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylim(0, None if y == "eval/pass_ratio" else min(axes.get_ylim()[1], 1.02))

    return panel


def pass_at_k(name: str, title: str) -> Panel:
    """Held-out pass@k against k, a line for each row of a table."""
    rows = {row["label"]: row["values"] for row in read(name)["table"]}

    def panel(axes: Axes, theme: str) -> None:
        for label, colour in shown_colours(list(rows), theme).items():
            ks = [int(metric.removeprefix("pass@")) for metric in rows[label]]
            values = list(rows[label].values())
            mean, low, high = ([v[end] for v in values] for end in ("mean", "low", "high"))
            axes.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(ks, mean, "o-", color=colour, linewidth=2.5, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.set(xlabel="k", ylabel=f"pass@k, {title}", ylim=(0, 1.02))

    return panel


def read(name: str) -> dict[str, Any]:
    """What an experiment wrote."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


def shown_colours(labels: list[str], theme: str) -> dict[str, str]:
    """The colour of each arm, lighter on a dark page."""
    chosen = colours(labels)
    if theme == "light":
        return chosen
    return {label: lighter(colour) for label, colour in chosen.items()}


def lighter(colour: str) -> str:
    """A colour mixed with white."""
    red, green, blue = (0.55 * part + 0.45 for part in to_rgb(colour))
    return to_hex((red, green, blue))


def draw(name: str, panels: list[Panel], theme: str) -> None:
    """Draw panels side by side and write the picture."""
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context({**STYLE, **dict.fromkeys(inks, INKS[theme])}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
            panel(axes, theme)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        path = IMAGES / f"{name}-{theme}.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    pictures = {
        "sokoban": [
            curves("sokoban", "policy_calls", "eval/success_rate"),
            curves("sokoban", "seconds", "eval/success_rate"),
        ],
        "rescue": [
            curves("rescue", "policy_calls", "eval/pass_ratio"),
            curves("rescue", "policy_calls", "eval/success_rate"),
        ],
        "path-exploration": [
            curves("path-exploration", "policy_calls", "eval/coverage_at_32"),
            curves("path-exploration", "policy_calls", "eval/success_rate"),
        ],
        "countries": [
            curves("real-llm-countries", "policy_calls", "eval/coverage_at_128", REAL_LLM_ARMS),
            curves("real-llm-countries", "policy_calls", "eval/success_rate", REAL_LLM_ARMS),
        ],
        "answers": [pass_at_k("sudoku", "Sudoku"), pass_at_k("math", "sums")],
    }
    for picture, panels_of_it in pictures.items():
        for variant in INKS:
            draw(picture, panels_of_it, variant)
