"""The plots of `sesa-agent reproduce` and `compare`, from the content of their JSON files."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sesa_agent.configs.writing import drafted
from sesa_agent.evaluation.statistics import t_interval

COLOURS = {
    "base": "#8a8a8a",
    "ragen": "#2f8f8f",
    "ragen-entropy": "#6f9a2d",
    "dapo": "#1f5fa8",
    "sesa-paper": "#d9730d",
    "sesa-single-pass": "#d9730d",
    "sesa-two-stage": "#a0307a",
    "sesa": "#c8102e",
    "sesa, history": "#d9730d",
    "warm start": "#5f6b7a",
    "maxrl": "#7a5ea8",
    "gigpo": "#7a5ea8",
    "dapo, then sesa": "#2e8b57",
    "ragen-entropy, on": "#a07414",
    "ragen-entropy, then sesa": "#a0307a",
    "parallel": "#1f5fa8",
    "sequential-5": "#d9730d",
    "sequential-10": "#c8102e",
    "without-replacement-10": "#2e8b57",
    "trained": "#c8102e",
}
"""Colours of the known arms in all plots."""
OTHER_COLOURS = ("#7a5ea8", "#8c564b", "#b8478f", "#4f7d3a", "#3b7ea6", "#a07414", "#5f6b7a")
"""Colours of other arms, in this order."""


def colours(labels: Sequence[str]) -> dict[str, str]:
    """The colour of each arm of a page.

    >>> colours(["sesa", "- merging", "best"])
    {'sesa': '#c8102e', '- merging': '#7a5ea8', 'best': '#8c564b'}
    """
    others = cycle(OTHER_COLOURS)
    return {label: COLOURS.get(label) or next(others) for label in labels}


def save_curves(
    arms: Sequence[Mapping[str, Any]], panels: Sequence[tuple[str, str]], title: str, path: Path
) -> None:
    """Plot learning curves against policy calls, one panel for each metric.

    Args:
        arms: results of `run_arm`.
        panels: the name of each metric in the curves, and its label.
        title: title of the plot.
        path: the PNG file.
    """
    figure, all_axes = _canvas(len(panels), title)
    for axes, (name, label) in zip(all_axes, panels, strict=True):
        for arm in _unique(arm["label"] for arm in arms):
            lines = [
                [(row["policy_calls"], row[name]) for row in result["curve"] if name in row]
                for result in arms
                if result["label"] == arm
            ]
            _draw_lines(axes, arm, [line for line in lines if line])
        axes.set(xlabel="policy calls", ylabel=label, ylim=(0, None))
    _save(figure, all_axes, path)


def save_counts(counts: Mapping[str, Sequence[Sequence[int]]], title: str, path: Path) -> None:
    """Plot distinct answers against sampled answers.

    Args:
        counts: result of `distinct_counts` for every seed, by regime.
        title: title of the plot.
        path: the PNG file.
    """
    figure, (axes,) = _canvas(1, title)
    for regime, lines in counts.items():
        _draw_lines(axes, regime, [list(enumerate(line, start=1)) for line in lines])
    axes.set(xlabel="answers sampled", ylabel="distinct answers", ylim=(0, None))
    _save(figure, [axes], path)


def save_bars(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Plot the numbers of a table as bars with intervals.

    One environment has one panel for all numbers; several environments have a panel per number.

    Args:
        rows: rows of `summarise`.
        title: title of the plot.
        path: the PNG file.
    """
    envs, names = _unique(row["env"] for row in rows), list(rows[0]["values"])
    if len(envs) == 1:
        panels = [("", [(envs[0], name, name) for name in names])]
    else:
        panels = [(name, [(env, name, env) for env in envs]) for name in names]
    figure, all_axes = _canvas(len(panels), title)
    labels = _unique(row["label"] for row in rows)
    width = 0.8 / len(labels)
    for axes, (ylabel, groups) in zip(all_axes, panels, strict=True):
        for place, label in enumerate(labels):
            _draw_bars(axes, rows, label, groups, (place + 0.5) * width - 0.4, width)
        axes.set_xticks(range(len(groups)), [shown for _, _, shown in groups])
        axes.set(ylabel=ylabel, ylim=(0, None))
    _save(figure, all_axes, path)


def save_success(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Plot success with its interval: a bar for each arm, a dot for each seed.

    Args:
        rows: rows of a comparison; each environment has a panel.
        title: title of the plot.
        path: the PNG file.
    """
    envs = _unique(row["env"] for row in rows)
    colour_of = colours(_unique(row["label"] for row in rows))
    figure, all_axes = _canvas(len(envs), title)
    for axes, env in zip(all_axes, envs, strict=True):
        own = [row for row in rows if row["env"] == env]
        for place, row in enumerate(own):
            found, colour = row["success"], colour_of[row["label"]]
            axes.bar(place, found["mean"], 0.7, color=colour, alpha=0.6)
            if found["low"] is not None:
                axes.plot([place] * 2, [max(found["low"], 0), min(found["high"], 1)], "0.2")
            dots = [place + 0.15] * len(found["each"]), found["each"]
            axes.plot(*dots, "o", color=colour, markeredgecolor="white", markersize=6)
        names = [row["label"] for row in own]
        axes.set_xticks(range(len(own)), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set(title=env, ylabel="success", ylim=(0, None))
    _save(figure, all_axes, path)


def _draw_bars(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    label: str,
    groups: Sequence[tuple[str, str, str]],
    offset: float,
    width: float,
) -> None:
    """The bars of one arm in all groups of (environment, number, label)."""
    found = {row["env"]: row["values"] for row in rows if row["label"] == label}
    shown = [(place, found[env][name]) for place, (env, name, _) in enumerate(groups)]
    shown = [(place, value) for place, value in shown if value["mean"] is not None]
    heights = [value["mean"] for _, value in shown]
    places = [place + offset for place, _ in shown]
    axes.bar(places, heights, width, label=label, color=COLOURS.get(label))
    for place, (_, value) in zip(places, shown, strict=True):
        if value["low"] is not None:
            axes.plot([place, place], [max(value["low"], 0), value["high"]], "0.2", linewidth=1)


def _draw_lines(axes: Axes, label: str, lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    """A thin line per seed, a thick line for their mean, and a band for the 95 % interval."""
    if not lines:
        return
    colour = COLOURS.get(label) or axes.plot([], [])[0].get_color()
    for line in lines if len(lines) > 1 else ():
        axes.plot(*zip(*line, strict=True), color=colour, alpha=0.3, linewidth=1)
    if len(lines) > 1:
        axes.fill_between(*interval_band(lines), color=colour, alpha=0.1, linewidth=0)
    axes.plot(*mean_line(lines), color=colour, linewidth=2.5, label=label)


def interval_band(
    lines: Sequence[Sequence[tuple[float, float]]],
) -> tuple[list[float], list[float], list[float]]:
    """Return the 95 % t interval of lines over the range that all of them cover.

    Args:
        lines: at least two lines, as for `mean_line`.

    Returns:
        The x of all points in that range, and the lower and upper ends there; at least 0, as all
        values in the plots.
    """
    places, values = _common_points(lines)
    ends = [t_interval(column.tolist()) for column in values.T]
    return places, [max(low, 0.0) for _, low, _ in ends], [high for _, _, high in ends]


def mean_line(lines: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Average lines over the range that all of them cover.

    Args:
        lines: points of each line from left to right; they need not have the same x.

    Returns:
        The x of all points in that range and the mean of the interpolated y.

    >>> mean_line([[(0, 0.0), (4, 4.0)], [(0, 2.0), (2, 2.0)]])
    ([0, 2], [1.0, 2.0])
    """
    places, values = _common_points(lines)
    return places, values.mean(axis=0).tolist()


def _common_points(
    lines: Sequence[Sequence[tuple[float, float]]],
) -> tuple[list[float], np.ndarray]:
    """The x that all lines cover and their interpolated y, shape (num_lines, num_places)."""
    start, end = max(line[0][0] for line in lines), min(line[-1][0] for line in lines)
    places = sorted({x for line in lines for x, _ in line if start <= x <= end})
    values = [np.interp(places, [x for x, _ in line], [y for _, y in line]) for line in lines]
    return places, np.array(values)


def _canvas(num_panels: int, title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1 + 5 * num_panels, 4), dpi=150, layout="constrained")
    figure.suptitle(title)
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def _save(figure: Figure, all_axes: Sequence[Axes], path: Path) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
    labelled = [axes for axes in all_axes if axes.get_legend_handles_labels()[0]]
    if labelled:
        labelled[-1].legend(frameon=False)
    with drafted(path) as draft:
        figure.savefig(draft, format="png")


def _unique(names: Any) -> list[str]:
    return list(dict.fromkeys(names))
