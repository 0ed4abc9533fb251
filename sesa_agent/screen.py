"""What a user sees: lines, the progress bar, the table of success rates. Imported without torch."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from sesa_agent.evaluation.evaluate import Evaluation

console = Console()


def say(line: str) -> None:
    """Print a line as it is: unbroken, so that a command in it can be copied."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def printable(text: str) -> str:
    r"""Text without what a terminal would obey; its lines stay lines.

    >>> printable("\x1b[2Jwon\n")
    '�[2Jwon\n'
    """
    return "".join(sign if sign.isprintable() or sign == "\n" else "�" for sign in text)


def warn(line: str) -> None:
    """Print a line that should not be missed; where nothing is printed, log it as a warning."""
    from sesa_agent.training.distributed import is_rank_zero

    if not console.quiet:
        console.print(line, style="bold", markup=False, highlight=False)
    elif is_rank_zero():
        logging.getLogger("sesa_agent").warning(line)


@contextmanager
def showing(wanted: bool) -> Iterator[None]:
    """Print for a while, or print nothing."""
    before, console.quiet = console.quiet, not wanted
    try:
        yield
    finally:
        console.quiet = before


def show_number(value: float | None) -> str:
    """A number of a table, to three places."""
    return "none" if value is None else f"{value:.3f}"


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


def result_table(env_id: str, results: Mapping[str, "Evaluation"], ks: Sequence[int] = ()) -> Table:
    """Success with its interval, pass@k and Coverage@k, a row per policy.

    Args:
        env_id: the environment's id.
        results: measurements by the policy's name; all with the same k.
        ks: the k to show; by default pass@k for those of `shown_ks`, Coverage@k for the largest.
    """
    first = next(iter(results.values()))
    pass_ks = ks or shown_ks(list(first.pass_at_k))
    coverage_ks = [k for k in ks or pass_ks[-1:] if k in first.coverage_at_k]
    title = f"{env_id}: {first.num_episodes} held-out puzzles, T = {first.temperature:g}"
    table = Table(title=title, min_width=len(title))
    names = ["policy", "success", "95 % interval", *(f"pass@{k}" for k in pass_ks)]
    for name in (*names, *(f"coverage@{k}" for k in coverage_ks)):
        table.add_column(name)
    for name, result in results.items():
        interval = f"{result.low:.3f} to {result.high:.3f}"
        values = [result.pass_at_k[k] for k in pass_ks]
        values += [result.coverage_at_k[k] for k in coverage_ks]
        numbers = [f"{value:.3f}" for value in values]
        table.add_row(name, f"{result.success_rate:.3f}", interval, *numbers)
    return table


def shown_ks(ks: Sequence[int]) -> list[int]:
    """At most three k that fit on a screen: pass@1 is the success rate, so it is left out.

    >>> shown_ks([1, 2, 4, 8]), shown_ks([1, 2, 4, 8, 16, 32])
    ([2, 4, 8], [2, 8, 32])
    """
    above_1 = [k for k in ks if k > 1]
    return above_1 if len(above_1) <= 3 else above_1[::-1][::2][:3][::-1]
