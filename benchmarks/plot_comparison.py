"""Draws the learning curves of a comparison.

python benchmarks/plot_comparison.py results/sokoban.json
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "sesa": "#c8102e",
    "sesa-paper": "#e88a1a",
    "ragen": "#1f5fa8",
    "ragen-entropy": "#5aa0a0",
}


def draw(axes: Any, values: dict[str, Any]) -> None:
    """One thin line a seed, one thick line through the means of all seeds of a method."""
    for method, results in values["arms"].items():
        colour = COLOURS.get(method)
        for result in results:
            calls, success, _ = zip(*result["curve"], strict=True)
            axes.plot(calls, success, color=colour, alpha=0.3, linewidth=1)
        finals = [result["T=0.5"]["success_rate"] for result in results]
        length = min(len(result["curve"]) for result in results)
        mean = [
            [statistics.mean(r["curve"][i][column] for r in results) for i in range(length)]
            for column in (0, 1)
        ]
        label = f"{method}: {statistics.mean(finals):.2f} on held-out puzzles"
        axes.plot(*mean, color=colour, linewidth=2.5, label=label)
    base = values["base"]["T=0.5"]["success_rate"]
    axes.axhline(base, color="0.5", linestyle=":", label=f"base: {base:.2f} on held-out puzzles")
    axes.set_xlabel("policy calls")
    axes.set_ylabel("success on validation puzzles, T = .5")
    axes.set_title(values["env"])
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Write the picture beside the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    path = parser.parse_args().results
    figure, axes = plt.subplots(figsize=(7, 4), dpi=150)
    draw(axes, json.loads(path.read_text(encoding="utf-8")))
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"))


if __name__ == "__main__":
    main()
