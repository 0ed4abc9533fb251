"""Output for the user: lines, progress bar, table of success rates. Does not import torch."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from sesa_agent.configs.schema import Config
    from sesa_agent.evaluation.evaluate import Evaluation

console = Console()


def say(line: str) -> None:
    """Print a line without wrapping it, so that a command in it can be copied."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def say_success(cfg: "Config") -> None:
    """Say what counts as success, if a rule decides it and not the environment."""
    if cfg.env.success:
        turns = f"within env.max_turns={cfg.env.max_turns} responses"
        say(f"Success in {cfg.env.id} is {cfg.env.success}, {turns}. env.success changes it.")


def printable(text: str) -> str:
    r"""Text without control characters, except line breaks.

    >>> printable("\x1b[2Jwon\n")
    '�[2Jwon\n'
    """
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def warn(line: str) -> None:
    """Print a warning; if printing is off, log it."""
    from sesa_agent.training.distributed import is_rank_zero

    if not console.quiet:
        console.print(line, style="bold", markup=False, highlight=False)
    elif is_rank_zero():
        logging.getLogger("sesa_agent").warning(line)


@contextmanager
def showing(wanted: bool) -> Iterator[None]:
    """Turn printing on or off within the context."""
    before, console.quiet = console.quiet, not wanted
    try:
        yield
    finally:
        console.quiet = before


def show_number(value: float | None) -> str:
    """A number of a table, to three decimals."""
    return "none" if value is None else f"{value:.3f}"


def show_probability(logprob: float) -> str:
    """A probability to three decimals, or as a power of e if that would be .000.

    >>> show_probability(-0.5), show_probability(-40.0)
    ('.607', 'e^-40.0')
    """
    if logprob < math.log(0.001):
        return f"e^{logprob:.1f}"
    return f"{min(math.exp(logprob), 1.0):.3f}".removeprefix("0")


def progress_bar() -> Progress:
    """A bar with step, share done, elapsed and remaining time, last measured success."""
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


def result_table(
    env_id: str,
    results: Mapping[str, "Evaluation"],
    ks: Sequence[int] = (),
    split: str = "test",
) -> Table:
    """Success with its interval, return, pass@k and Coverage@k, one row per policy.

    Returns are left out where they equal success, as with a reward of 1 for a win and 0 otherwise.

    Args:
        env_id: the environment's id.
        results: measurements by the policy's name; all with the same k.
        ks: values of k to show; by default pass@k for those of `shown_ks` and Coverage@k for the
            largest.
        split: the split or set that the puzzles are of.
    """
    first = next(iter(results.values()))
    pass_ks = ks or shown_ks(list(first.pass_at_k))
    coverage_ks = [k for k in ks or pass_ks[-1:] if k in first.coverage_at_k]
    kind = "held-out" if split == "test" else split
    title = f"{env_id}: {first.num_episodes} {kind} puzzles, T = {first.temperature:g}"
    table = Table(title=title, min_width=len(title))
    has_return = any(differs_from_success(r.mean_return, r.success_rate) for r in results.values())
    names = ["policy", "success", "95 % interval", *(["return"] if has_return else [])]
    names += [f"pass@{k}" for k in pass_ks]
    for name in (*names, *(f"coverage@{k}" for k in coverage_ks)):
        table.add_column(name)
    for name, result in results.items():
        interval = f"{result.low:.3f} to {result.high:.3f}"
        values = [result.pass_at_k[k] for k in pass_ks]
        values += [result.coverage_at_k[k] for k in coverage_ks]
        numbers = [show_number(result.mean_return)] if has_return else []
        numbers += [f"{value:.3f}" for value in values]
        table.add_row(name, f"{result.success_rate:.3f}", interval, *numbers)
    return table


def differs_from_success(mean_return: float | None, success_rate: float | None) -> bool:
    """Whether a mean return says more than the success rate beside it; None is an unknown return.

    >>> differs_from_success(9.4, 0.0), differs_from_success(0.5, 0.5)
    (True, False)
    """
    if mean_return is None or success_rate is None:
        return False
    return abs(mean_return - success_rate) >= 0.0005


def shown_ks(ks: Sequence[int]) -> list[int]:
    """At most three values of k, to fit on a screen, without 1: pass@1 is the success rate.

    >>> shown_ks([1, 2, 4, 8]), shown_ks([1, 2, 4, 8, 16, 32])
    ([2, 4, 8], [2, 8, 32])
    """
    above_1 = [k for k in ks if k > 1]
    return above_1 if len(above_1) <= 3 else above_1[::-1][::2][:3][::-1]
