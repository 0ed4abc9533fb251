"""Writes the model card of a bundled model: what it is, how it was made, how well it plays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sesa_agent.configs.writing import replace_text
from sesa_agent.evaluation.evaluate import Evaluation

ABOUT = {
    "sesa-tiny": """\
A Llama with 0.17 million weights that plays the games of sesa-agent badly, by habit, but
in the right format: a stand-in for a small instruction-tuned model, to be trained by
reinforcement learning on two CPU cores. It knows no language but our prompts.

Made by `sesa-agent pretrain`: next-token training on the play of short-sighted scripted
players (`training/pretraining/players.py`) with a small share of solver moves, and on lists of
distinct proposals.""",
    "sesa-tiny-answers": """\
A GPT-2 with 0.27 million weights that solves tasks with a single answer, nearly always by the same
poor method: the counterpart of `sesa-tiny` for Path Exploration, Sudoku and sums, to be trained by
reinforcement learning on two CPU cores. It knows no language but our prompts.

Made by `sesa-agent pretrain sesa-tiny-answers`: next-token training on the answers of scripted
players (`training/pretraining/players.py`): places sampled from a peaked prior, singly and in lists
of distinct ones; Sudokus and sums solved by habit, or by the method that a sketch names; sketches
of distinct methods.""",
    "sesa-tiny-varied": """\
`sesa-tiny` without its strong habit: four of ten moves of the players that it imitates are random.
It shows what methods are worth where a policy explores by itself.

Made by `sesa-agent pretrain sesa-tiny-varied`.""",
}
"""Description of each bundled model, for its card."""


def write_model_card(
    folder: Path, name: str, recipe: Any, results: Mapping[str, Evaluation]
) -> None:
    """Write `README.md` into a model folder.

    Args:
        folder: the model's folder.
        name: which bundled model it is.
        recipe: how it was made (`training.pretraining.recipes.Recipe`).
        results: measured success by environment id.
    """
    rows = [
        f"| {env_id} | {r.temperature:g} | {r.success_rate:.3f} | {r.low:.3f} to {r.high:.3f} "
        f"| {r.readable_rate:.4f} |"
        for env_id, r in results.items()
    ]
    first = next(iter(results.values()))
    lines = [
        f"# {name}",
        "",
        f"{ABOUT[name]} {recipe.steps} steps, seed {recipe.seed}.",
        "",
        f"Success on {first.num_episodes} held-out puzzles a game, one response per decision:",
        "",
        "| game | temperature | success | 95 % interval | readable responses |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    replace_text(folder / "README.md", "\n".join(lines))
