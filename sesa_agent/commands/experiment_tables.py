"""Writes the results of an experiment: JSON with every number, a Markdown table, a plot."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
from rich.table import Table

from sesa_agent import __version__
from sesa_agent.configs.writing import replace_text
from sesa_agent.environments.ood_sets import TEST
from sesa_agent.evaluation.experiments.arms import Result, without_folder
from sesa_agent.evaluation.experiments.compare import Overall, Row, Triple, compare, estimate
from sesa_agent.evaluation.experiments.equal_budgets import (
    BUDGETS,
    EqualBudgets,
    equal_budgets,
    equal_budgets_note,
)
from sesa_agent.evaluation.experiments.paper import PASS_RATIO, RETURN, SUCCESS, Metric
from sesa_agent.evaluation.experiments.results import SPENT, write_json
from sesa_agent.evaluation.experiments.sentences import comparison_to_json
from sesa_agent.plots import save_success
from sesa_agent.screen import console, differs_from_success, say, show_number

OOD_PAGE = "[the sets](../docs/environments.md#out-of-distribution-sets)"
"""A link from a page of results."""


def result_head(name: str, command: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """The first entries of every results file.

    Args:
        name: name of the file.
        command: words of the command that makes it again; absolute paths are shortened to their
            last name.
        seeds: training seeds.
    """
    return {
        "experiment": name,
        "command": shlex.join(without_folder(word) for word in command),
        "versions": installed_versions(),
        "seeds": list(seeds),
    }


def installed_versions() -> dict[str, str]:
    """Versions of the packages that determine the result of a run."""
    return {
        "sesa-agent": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def typed_command() -> list[str]:
    """The words of the running command."""
    return ["sesa-agent", *sys.argv[1:]]


def summarise(
    results: Sequence[Result], metrics: Sequence[Metric], has_one_puzzle: bool = False
) -> list[dict[str, Any]]:
    """Summarize the seeds of every arm.

    Args:
        results: results of `run_arm`.
        metrics: numbers to look up.
        has_one_puzzle: whether all seeds are the same puzzle, without an interval over puzzles.

    Returns:
        A row for each arm and environment: `env`, `label`, mean `policy_calls`, all that was
        `spent` (`SPENT`), and `values` by the metric's name, each an `Estimate` as a dict.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result["env"], result["label"]), []).append(result)
    return [
        {
            "env": env,
            "label": label,
            "policy_calls": fmean(r["policy_calls"] for r in group),
            "spent": {name: fmean(r.get(name, 0) for r in group) for name in SPENT},
            "values": {metric.name: _join(group, metric, has_one_puzzle) for metric in metrics},
        }
        for (env, label), group in groups.items()
    ]


def _join(group: Sequence[Result], metric: Metric, has_one_puzzle: bool) -> dict[str, Any]:
    puzzle_interval = None if has_one_puzzle else metric.puzzle_interval(group[0])
    each = [metric.value(result) for result in group]
    return asdict(estimate(each, puzzle_interval=puzzle_interval))


def show_estimate(value: Mapping[str, Any]) -> str:
    """A table cell: mean, 95 % interval, the number of each seed."""
    text = show_number(value["mean"])
    if value["low"] is not None:
        text += f" ({show_number(value['low'])} to {show_number(value['high'])})"
    if len(value["each"]) > 1:
        text += f"; {', '.join(map(show_number, value['each']))}"
    return text


def write_comparison(
    values: dict[str, Any], title: str, results: Sequence[Result], reference: str, output: Path
) -> None:
    """Compare arms; print tables and sentences; write JSON file, Markdown page and plot.

    Args:
        values: first entries of the JSON file, as of `result_head`; `trials` of each arm if they
            were tuned.
        title: title of table and plot.
        results: results of `run_arm`.
        reference: label of the arm against which the others are tested.
        output: folder of the files.
    """
    comparison = compare(results, reference)
    rows = comparison.rows
    found = comparison_to_json(comparison)
    equal, sets = equal_budgets(results), out_of_distribution(results)
    values = {
        **values,
        "table": summarise(results, (SUCCESS, PASS_RATIO)),
        "comparison": {"reference": reference, **found},
        "equal_budgets": [asdict(each) for each in equal],
        "out_of_distribution": sets,
        "arms": list(results),
    }
    has_envs = len({row.env for row in rows}) > 1
    names = [f"{row.env}: {row.label}" if has_envs else row.label for row in rows]
    has_return = any(differs_from_success(r.mean_return.mean, r.success.mean) for r in rows)
    measured = [
        (name, *_measured_cells(row, has_return)) for name, row in zip(names, rows, strict=True)
    ]
    returns = (RETURN.name,) if has_return else ()
    columns = ("arm", SUCCESS.name, "IQM", "over base", *returns, PASS_RATIO.name)
    budgets, spent = _spent_table(names, rows, values.get("trials", {}))
    tables = [(title, columns, measured), ("spent on training, mean over seeds", budgets, spent)]
    parts = [
        markdown_table(columns, measured),
        "\n".join(f"- {line}" for line in found["sentences"]),
        markdown_table(budgets, spent),
        " ".join(found["notes"]),
    ]
    for env, by_arm in sets.items():
        head = ("arm", *next(iter(by_arm.values())))
        lines = [(label, *map(show_estimate, by_set.values())) for label, by_set in by_arm.items()]
        tables.append((f"{env}: success out of distribution, T = .5", head, lines))
        parts += [f"Out of distribution ({OOD_PAGE}):", markdown_table(head, lines)]
    if comparison.overall:
        games = ("arm", "IQM over all games and seeds", f"P(a run of {reference} is better)")
        over_games = [_overall_cells(arm) for arm in comparison.overall]
        tables.append(("all games together", games, over_games))
        parts.append(markdown_table(games, over_games))
    if equal:
        same, at_equal = _equal_table(equal, has_envs)
        tables.append(("validation success at equal budgets", same, at_equal))
        parts += [markdown_table(same, at_equal), equal_budgets_note(equal)]
    for name, head, lines in tables:
        print_table(name, head, lines)
    for line in (*found["sentences"], *found["notes"], equal_budgets_note(equal) if equal else ""):
        say(line)
    picture = write_files(values, title, "\n\n".join(parts), output)
    save_success(found["rows"], title, picture)
    say_written(picture)


def out_of_distribution(results: Sequence[Result]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the success of every arm on the sets that all arms of its game were measured on.

    Returns:
        By environment, label and set an `Estimate` as a dict; environments without sets are left
        out.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for env in dict.fromkeys(result["env"] for result in results):
        own = [result for result in results if result["env"] == env]
        splits = [
            dict.fromkeys(how.get("split", TEST) for how in r.get("measurements", ())) for r in own
        ]
        names = [name for name in splits[0] if name != TEST and all(name in s for s in splits)]
        metrics = [Metric(name, f"T=0.5 {name}", "success_rate") for name in names]
        if metrics:
            found[env] = {row["label"]: row["values"] for row in summarise(own, metrics)}
    return found


def _overall_cells(arm: Overall) -> tuple[str, str, str]:
    return arm.label, _show_triple(arm.iqm), _show_triple(arm.improvement)


def _spent_table(
    names: Sequence[str], rows: Sequence[Row], trials: Mapping[str, int]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and lines of what training spent, and of tuning trials if there were some."""
    lines = [
        (name, *(f"{row.spent[key]:.0f}" for key in SPENT))
        for name, row in zip(names, rows, strict=True)
    ]
    columns = ("arm", *(key.replace("_", " ") for key in SPENT))
    if not trials:
        return columns, lines
    counts = (str(trials.get(row.label, 0)) for row in rows)
    return (*columns, "tuning trials"), [
        (*cells, count) for cells, count in zip(lines, counts, strict=True)
    ]


def _equal_table(
    equal: Sequence[EqualBudgets], has_envs: bool
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and lines of success at equal budgets: of those that all games have counted."""
    common = [name for name in BUDGETS if all(name in each.amounts for each in equal)]
    lines = [
        (f"{each.env}: {label}" if has_envs else label, *(show_number(by[name]) for name in common))
        for each in equal
        for label, by in each.success.items()
    ]
    return ("arm", *(f"at equal {name.replace('_', ' ')}" for name in common)), lines


def _show_triple(value: Triple | None) -> str:
    if value is None:
        return ""
    centre, low, high = value
    return show_estimate({"mean": centre, "low": low, "high": high, "each": []})


def _measured_cells(row: Row, has_return: bool) -> tuple[str, ...]:
    gain = "" if row.gain is None else f"{row.gain:+.3f}"
    if row.relative_gain is not None:
        gain += f" ({row.relative_gain:+.0%})"
    return (
        show_estimate(asdict(row.success)),
        show_estimate({**asdict(row.iqm), "each": []}),
        gain,
        *([show_estimate({**asdict(row.mean_return), "each": []})] if has_return else []),
        show_estimate({**asdict(row.pass_ratio), "each": []}),
    )


def say_written(picture: Path) -> None:
    """Print the names of the files that were written."""
    say(f"Written: {', '.join(str(picture.with_suffix(end)) for end in ('.json', '.md', '.png'))}")


def write_results(
    values: dict[str, Any],
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: str,
    output: Path,
) -> Path:
    """Print the table; write values as JSON and rows as a Markdown table.

    Returns:
        The path for the plot.
    """
    print_table(title, columns, rows)
    return write_files(values, title, f"{markdown_table(columns, rows)}\n\n{notes}", output)


def file_name(env: str) -> str:
    """The name of an environment's files.

    >>> file_name("my_package.games:Corridor-v0")
    'my_package-games-Corridor-v0'
    """
    return re.sub(r"[^\w-]+", "-", env)


def write_files(values: dict[str, Any], title: str, text: str, output: Path) -> Path:
    """Write values as JSON, and a text with its command as a Markdown page.

    Returns:
        The path for the plot.
    """
    path = output / values["experiment"]
    write_json(path.with_suffix(".json"), values)
    page = f"# {title}\n\n{text} Made by\n\n```\n{values['command']}\n```\n"
    replace_text(path.with_suffix(".md"), page)
    return path.with_suffix(".png")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *rows])


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    shown = Table(title=title)
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
