"""The result of a warm start: its figures, the table that is printed, and the model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from sesa_agent.configs.writing import replace_text
from sesa_agent.evaluation.evaluate import Evaluation
from sesa_agent.screen import show_number

NUM_SAMPLES = 8
"""Attempts at each validation puzzle before and after."""
COLUMNS = ("success", "95 % interval", f"pass@{NUM_SAMPLES}", "readable", "entropy (nats)")


@dataclass(frozen=True)
class WarmStart:
    """A model that has had a warm start."""

    folder: Path
    """The model folder, for `--model`."""
    lessons: int
    """Number of lessons of 16 moves."""
    reason: str
    """Why they ended, in words."""
    before: Evaluation
    """On validation puzzles with the plain prompt, at temperature 1."""
    after: Evaluation | None
    """The same after the lessons; None if an interrupt ended them."""

    @property
    def results(self) -> dict[str, Evaluation]:
        """What was measured, by when."""
        return {"before": self.before} | ({"after": self.after} if self.after else {})


def start_table(env_id: str, results: Mapping[str, Evaluation]) -> Table:
    """One row per measurement, with the values of `figures`."""
    table = Table(title=f"{env_id}: {_puzzles(results)}")
    for name in ("lessons", *COLUMNS):
        table.add_column(name)
    for name, result in results.items():
        table.add_row(name, *figures(result))
    return table


def _puzzles(results: Mapping[str, Evaluation]) -> str:
    num_puzzles = next(iter(results.values())).num_episodes
    return f"{num_puzzles} validation puzzles, {NUM_SAMPLES} attempts each, T = 1"


def figures(result: Evaluation) -> tuple[str, ...]:
    """The values of `COLUMNS` as text."""
    return (
        f"{result.success_rate:.3f}",
        f"{result.low:.3f} to {result.high:.3f}",
        f"{result.pass_at_k[NUM_SAMPLES]:.3f}",
        f"{result.readable_rate:.3f}",
        show_number(result.answer_entropy),
    )


def write_card(result: WarmStart, base: str, env_id: str, source: str, command: str) -> None:
    """Write `README.md` into the model's folder.

    Args:
        result: its folder, lessons and figures.
        base: the model that was taught.
        env_id: the environment.
        source: where the moves came from, in words.
        command: the command that gives the same lessons.

    Raises:
        DiskError: if it could not be written.
    """
    rows = [f"| {' | '.join((name, *figures(r)))} |" for name, r in result.results.items()]
    lines = [
        f"# {result.folder.name}",
        "",
        f"{base} after a warm start for {env_id}: {result.lessons} supervised lessons of 16 moves",
        f"each, taught by {source}. They ended because {result.reason}.",
        "",
        f"On {_puzzles(result.results)}, with the prompts of training:",
        "",
        f"| lessons | {' | '.join(COLUMNS)} |",
        "|" + "---|" * (1 + len(COLUMNS)),
        *rows,
        "",
        "It is a start for reinforcement learning, not a good player. Made with:",
        "",
        "```",
        command,
        "```",
        "",
        "The licence of the base model holds for this one too.",
        "",
    ]
    replace_text(result.folder / "README.md", "\n".join(lines))
