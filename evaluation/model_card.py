"""Writes the card of the bundled model: what it is, how it was made, what it can do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .evaluate import Evaluation


def write_model_card(folder: Path, recipe: Any, results: Mapping[str, Evaluation]) -> None:
    """Write `README.md` into a model folder.

    Args:
        folder: the model's folder.
        recipe: the numbers it was made with (`PretrainConfig`).
        results: measured success by environment id.
    """
    rows = [
        f"| {env_id} | {r.success_rate:.3f} | {r.low:.3f} to {r.high:.3f} | {r.readable_rate:.4f} |"
        for env_id, r in results.items()
    ]
    first = next(iter(results.values()))
    lines = [
        "# sesa-tiny",
        "",
        "A Llama of 0.17 million weights that plays the games of sesa-agent badly, in",
        "the right format and by habit: a stand-in for a small instruction-tuned model, to be",
        "trained by reinforcement learning on two CPU cores. It knows no language but our prompts.",
        "",
        "Made by `sesa-agent pretrain`: next-token training on the play of short-sighted scripted",
        "players (`environments/players.py`) with a small share of solver moves, and on lists of",
        f"distinct proposals. {recipe.steps} steps, seed {recipe.seed}.",
        "",
        f"Success at T = {first.temperature:g} on {first.num_episodes} held-out puzzles a game,",
        "one response per decision:",
        "",
        "| game | success | 95 % interval | readable responses |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
