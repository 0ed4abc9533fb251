"""The plots of a report: success with intervals, learning curves, exploration, a tree."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from sesa_agent.plots import colours, interval_band, mean_line
from sesa_agent.report.page import SPENT_NAMES, ArmRow, Page, Value, show_value
from sesa_agent.report.pictures import GRID, INK, WON, Panel
from sesa_agent.run_files import Line, env_title
from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree

SUCCESS = "eval/success_rate"
EXPLORATION = {
    "train/entropy": "entropy of the policy, nats",
    "rollout/signal_groups": "share of groups with a learning signal",
    "rollout/distinct_answers": "distinct first actions in a group",
    "rollout/actions_per_state": "distinct actions among two responses",
    "rollout/pass_ratio": "pass@k / pass@1 in training",
    "eval/pass_ratio": "pass@16 / pass@1 in validation",
}
"""Metrics that show whether a policy still explores."""
SHARES = (SUCCESS, "rollout/signal_groups")
"""Metrics of at most 1, like pass@k and Coverage@k."""
MAX_POINTS = 60
"""Maximum number of points in a line; more would make the page large and the line noisy."""


def page_colours(page: Page) -> dict[str, str]:
    """The colour of each arm on a page."""
    named = [*(row.label for row in page.rows), *(line.label for line in page.lines)]
    return colours(list(dict.fromkeys(named)))


def page_panels(page: Page) -> dict[str, list[Panel]]:
    """The plots of a page by section: `success`, `curves`, `exploration` and `tree`."""
    shades = page_colours(page)
    return {
        "success": list(_interval_panels(page.rows, shades)),
        "curves": list(_curve_panels(page.lines, shades)),
        "exploration": list(_exploration_panels(page, shades)),
        "tree": [_tree_panel(page.tree)] if page.tree else [],
    }


# ---- success ----


def _interval_panels(rows: Sequence[ArmRow], shades: Mapping[str, str]) -> Iterator[Panel]:
    """A panel per number of the table: all arms with their intervals."""
    for env in dict.fromkeys(row.env for row in rows):
        mine = [row for row in rows if row.env == env]
        for name in dict.fromkeys(name for row in mine for name in row.values):
            title = f"{_where(env, rows)}{name}"
            shown = {row.label: row.values[name] for row in mine if name in row.values}
            texts = [f"{label} {' '.join(show_value(value))}" for label, value in shown.items()]

            def draw(axes: Axes, shown: Mapping[str, Value] = shown) -> None:
                for place, (label, value) in enumerate(shown.items()):
                    _draw_value(axes, place, value, shades[label])
                names = [_shorten(label) for label in shown]
                axes.set_yticks(range(len(shown)), names, parse_math=False)
                axes.set(ylim=(len(shown) - 0.5, -0.5), xlim=(0, 1.05 * axes.dataLim.x1 or 1))
                axes.tick_params(axis="y", length=0)
                axes.grid(visible=False, axis="y")
                axes.grid(axis="x", alpha=GRID, linewidth=0.7)

            height = 0.6 + 0.32 * len(shown)
            yield Panel(title, f"{title}: {'; '.join(texts)}.", draw, height)


def _shorten(label: str) -> str:
    """A name short enough for a panel; the table has the full name."""
    return label if len(label) <= 24 else f"{label[:23]}…"


def _draw_value(axes: Axes, place: int, value: Value, colour: str) -> None:
    """A large dot with its interval, and a small dot for each seed."""
    if value.interval:
        low, high = value.interval
        axes.plot([max(low, 0), high], [place, place], color=colour, linewidth=3, alpha=0.45)
    if len(value.each) > 1:
        axes.plot(value.each, [place] * len(value.each), "o", color=colour, ms=3, alpha=0.6)
    axes.plot([value.mean], [place], "o", color=colour, markersize=7)


# ---- curves ----


def _curve_panels(lines: Sequence[Line], shades: Mapping[str, str]) -> Iterator[Panel]:
    """Success against every budget in the logs; pass@k and Coverage@k against policy calls."""
    for env in dict.fromkeys(line.env for line in lines):
        where = _where(env, lines)
        for budget, words in SPENT_NAMES.items():
            title = f"{where}success against {words}"
            yield from _line_panel(lines, env, budget, SUCCESS, title, shades)
        for metric in _largest_k(line for line in lines if line.env == env):
            title = f"{where}{metric.removeprefix('eval/').replace('_at_', '@')}"
            yield from _line_panel(lines, env, "policy_calls", metric, title, shades)


def _largest_k(lines: Iterable[Line]) -> list[str]:
    """Names of pass@k and Coverage@k in the logs, each with its largest k above 1."""
    names = {name for line in lines for row in line.rows for name in row}
    largest: dict[str, int] = {}
    for name in names:
        kind, _, k = name.partition("_at_")
        if kind in ("eval/pass", "eval/coverage") and k.isdecimal() and int(k) > 1:
            largest[kind] = max(largest.get(kind, 0), int(k))
    return [f"{kind}_at_{k}" for kind, k in sorted(largest.items())]


def _exploration_panels(page: Page, shades: Mapping[str, str]) -> Iterator[Panel]:
    steps = [event.step for event in page.events]
    for env in dict.fromkeys(line.env for line in page.lines):
        for metric, words in EXPLORATION.items():
            title = f"{_where(env, page.lines)}{words}"
            yield from _line_panel(page.lines, env, "policy_calls", metric, title, shades, steps)


def _line_panel(
    lines: Sequence[Line],
    env: str,
    budget: str,
    metric: str,
    title: str,
    shades: Mapping[str, str],
    event_steps: Sequence[int] = (),
) -> Iterator[Panel]:
    """One metric against one budget, if a log of the environment has both."""
    seeds: dict[str, list[list[tuple[float, float]]]] = {}
    for line in lines:
        found = [
            (row[budget], row[metric])
            for row in line.rows
            if line.env == env and row.get(metric) is not None and budget in row
        ]
        if len(found) > 1 and found[-1][0] > 0:
            seeds.setdefault(line.label, []).append(found)
    if not seeds:
        return
    events = [
        (number, row[budget])
        for number, step in enumerate(event_steps, start=1)
        for row in lines[0].rows
        if row["step"] == step
    ]
    ends = [
        f"{label} from {np.mean([line[0][1] for line in each]):.3g} "
        f"to {np.mean([line[-1][1] for line in each]):.3g}"
        for label, each in seeds.items()
    ]

    highest = 1.0 if metric in SHARES or "_at_" in metric else np.inf

    def draw(axes: Axes) -> None:
        for label, each in seeds.items():
            _draw_seeds(axes, label, each, shades[label], highest)
        for number, place in events:
            axes.axvline(place, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.annotate(
                str(number),
                (place, 1),
                xytext=(3, 0),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                va="top",
            )
        axes.set(xlabel=SPENT_NAMES[budget], ylim=(0, None), xlim=(0, None))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))

    yield Panel(title, f"{title}: {'; '.join(ends)}.", draw)


def _draw_seeds(
    axes: Axes,
    label: str,
    seeds: Sequence[Sequence[tuple[float, float]]],
    colour: str,
    highest: float,
) -> None:
    """The line of a run; with several runs their mean and 95 % t interval where all have data."""
    lines = [thin(line) for line in seeds]
    axes.plot(*mean_line(lines), color=colour, linewidth=1.8, label=label)
    if len(lines) > 1:
        places, lows, highs = interval_band(lines)
        highs = np.minimum(highs, highest)
        axes.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)


def thin(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbouring points of a long line, to at most `MAX_POINTS` points."""
    if len(line) <= MAX_POINTS:
        return list(line)
    blocks = np.array_split(np.array(line, float), MAX_POINTS)
    return [(float(x), float(y)) for x, y in (block.mean(axis=0) for block in blocks)]


def _where(env: str, parts: Sequence[ArmRow] | Sequence[Line]) -> str:
    """The environment as a prefix of a title, if there are several."""
    return f"{env_title(env)}: " if len({part.env for part in parts}) > 1 else ""


# ---- a tree ----


def _tree_panel(tree: TrajectoryTree) -> Panel:
    """A group of training as a tree: turns from left to right, successes as large dots."""
    depths, heights = tree_layout(tree)
    num_leaves = len(tree.leaves())
    num_wins = sum(path.success for path in tree.trajectories())
    title = f"{len(tree)} turns, {num_leaves} trajectories, {num_wins} of them won"

    def draw(axes: Axes) -> None:
        for node, parent in enumerate(tree.parents):
            start = (depths[parent], heights[parent]) if parent != ROOT else (0, heights[ROOT])
            xs, ys = zip(start, (depths[node], heights[node]), strict=True)
            axes.plot(xs, ys, color=INK, alpha=0.35, linewidth=0.8, zorder=1)
        won = [node for node, turn in enumerate(tree.turns) if turn.success]
        rest = [node for node in depths if node not in won]
        for nodes, colour, size in ((rest, INK, 9), (won, WON, 42)):
            axes.scatter(
                [depths[node] for node in nodes],
                [heights[node] for node in nodes],
                size,
                color=colour,
            )
        axes.set(xlabel="turns of the game", yticks=[])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return Panel(title, f"A tree of {title}.", draw, max(1.6, 0.5 + 0.14 * num_leaves))


def tree_layout(tree: TrajectoryTree) -> tuple[dict[int, int], dict[int, float]]:
    """Compute the depth and the height of each turn in a plot.

    Leaves are one unit apart, in depth-first order, and a turn is at the mean height of its
    children.

    Args:
        tree: a tree with at least one turn.

    Returns:
        Depth and height by turn, with `ROOT` for the start.
    """
    children, depths, heights = tree.children(), {ROOT: 0}, {}
    walk = []
    stack = [ROOT]
    while stack:
        node = stack.pop()
        walk.append(node)
        for child in children.get(node, ())[::-1]:
            depths[child] = depths[node] + 1
            stack.append(child)
    leaves = [node for node in walk if node not in children]
    heights = {leaf: float(-place) for place, leaf in enumerate(leaves)}
    for node in reversed(walk):
        if node in children:
            heights[node] = float(np.mean([heights[child] for child in children[node]]))
    return depths, heights
