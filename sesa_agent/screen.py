"""What a user sees: lines, the progress bar, the table of success rates."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sesa_agent.evaluation.evaluate import Evaluation

console = Console()


def say(line: str) -> None:
    """Print a line as it is: unbroken, so that a command in it can be copied."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def progress_bar() -> Progress:
    """The bar: step, share done, time, time left, last measured success."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[success]}"),
        console=console,
    )


def result_table(env_id: str, results: Mapping[str, Evaluation]) -> Table:
    """Success with its interval and pass@k, a row per policy."""
    first = next(iter(results.values()))
    title = f"{env_id}: {first.num_episodes} held-out puzzles, T = {first.temperature:g}"
    table = Table(title=title, min_width=len(title))
    for name in ("policy", "success", "95 % interval", *(f"pass@{k}" for k in first.pass_at_k)):
        table.add_column(name)
    for name, result in results.items():
        interval = f"{result.low:.3f} to {result.high:.3f}"
        passes = [f"{value:.3f}" for value in result.pass_at_k.values()]
        table.add_row(name, f"{result.success_rate:.3f}", interval, *passes)
    return table
