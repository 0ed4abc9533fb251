"""`sesa-agent reproduce`: the paper's figures and tables, from training to table and picture."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.table import Table

from sesa_agent import __version__
from sesa_agent.agents.policy import BUNDLED, check_model_path
from sesa_agent.configs.load import choose, load_config
from sesa_agent.configs.schema import Config, SettingError, check
from sesa_agent.evaluation.diversity import NUM_ANSWERS, REGIMES, distinct_counts, draw_sets
from sesa_agent.evaluation.experiment import Arm, Result, resolve_arm, without_folder
from sesa_agent.evaluation.paper import EXPERIMENTS, QUICK_SHARE, Metric, experiment_arms
from sesa_agent.evaluation.run_arms import Report, run_arms
from sesa_agent.evaluation.statistics import t_interval
from sesa_agent.plots import save_bars, save_counts, save_curves
from sesa_agent.runs import check_writable
from sesa_agent.screen import console, progress_bar, say, show_number
from sesa_agent.train_command import stop_on_interrupt
from sesa_agent.training.setup import (
    build_dialogue,
    build_engine,
    build_policy,
    resolve_auto,
    sampling_params,
)

DIVERSITY = "diversity"
FIXED = {"seed": "--seeds", "output": "--runs"}
"""Settings that an option of the command decides."""


def run_reproduction(
    name: str,
    model: str,
    seeds: str,
    quick: bool,
    jobs: int,
    output: Path,
    runs: Path,
    overrides: list[str],
) -> None:
    """Run an experiment of the paper, or what is left of it, and write its results."""
    choose("EXPERIMENT", name, [*EXPERIMENTS, DIVERSITY], "")
    numbers = read_seeds(seeds or ("0" if quick else "0,1,2"))
    check(jobs >= 1, "--jobs", jobs, "at least 1")
    for word in overrides:
        key = word.partition("=")[0]
        if key in FIXED:
            raise SettingError(f"{key} is set by {FIXED[key]}, got {word!r}.")
    words = [*overrides, f"model.path={model}"] if model else overrides
    options = {"--model": model, "--seeds": seeds, "--output": output, "--runs": runs}
    defaults = {"--output": Path("results"), "--runs": Path("runs/reproduce")}
    command = ["sesa-agent", "reproduce", name, *(["--quick"] if quick else [])]
    for option, value in options.items():
        if value and value != defaults.get(option):
            command += [option, str(value)]
    command += overrides
    head = {
        "experiment": name,
        "command": shlex.join(without_folder(word) for word in command),
        "versions": {
            "sesa-agent": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "seeds": numbers,
    }
    check_writable(output, "--output")
    if name == DIVERSITY:
        run_diversity(head, numbers, quick, output, words)
        return
    arms = experiment_arms(name, numbers, quick, words)
    configs = {arm: resolve_arm(arm) for arm in arms}
    for cfg in configs.values():
        check_model(cfg)
    check_writable(runs, "--runs")
    results = run_with_bar(name, configs, runs / name, jobs)
    if len(results) < len(arms):
        say(f"Stopped. Go on with: {shlex.join([*command, '--jobs', str(jobs)])}")
        return
    write_experiment(head, configs, [results[arm] for arm in arms], output)


def read_seeds(text: str) -> list[int]:
    """Read seeds, as in "0,1,2".

    Raises:
        SettingError: if one of them is no whole number from 0 to 9999, or stands twice.
    """
    words = [word.strip() for word in text.split(",")]
    are_numbers = all(word.isdecimal() and len(word) < 5 for word in words)
    are_distinct = are_numbers and len({int(word) for word in words}) == len(words)
    check(are_distinct, "--seeds", text, "different whole numbers from 0 to 9999, as in 0,1,2")
    return [int(word) for word in words]


def check_model(cfg: Config) -> None:
    """Refuse a model that is not there.

    Raises:
        SettingError: naming it.
    """
    if cfg.model.path not in BUNDLED:
        check_model_path(cfg.model.path)


# ---- training experiments ----


def run_with_bar(
    name: str, configs: Mapping[Arm, Config], runs: Path, jobs: int
) -> dict[Arm, Result]:
    """Run all arms under one bar, which counts policy calls and the draws of measuring."""
    sizes = {arm: _num_draws(arm, cfg) for arm, cfg in configs.items()}
    shares = dict.fromkeys(configs, 0.0)
    with stop_on_interrupt() as interrupt, progress_bar() as bar:
        task = bar.add_task(name, total=float(sum(sizes.values())), success="")
        num_finished = 0

        def show(arm: Arm, draws: float, news: str) -> None:
            shares[arm] = draws
            bar.update(
                task,
                completed=sum(shares.values()),
                description=f"{num_finished}/{len(configs)} arms",
                success=f"{arm.label}, seed {arm.seed}{news}",
            )

        def on_report(report: Report) -> None:
            metrics = report.metrics
            rate = metrics.get("eval/success_rate", metrics["rollout/success_rate"])
            show(report.arm, report.policy_calls, f": success {rate:.2f}")

        def on_result(arm: Arm, result: Result) -> None:
            nonlocal num_finished
            num_finished += 1
            show(arm, sizes[arm], "")
            bar.console.print(f"{_describe(arm)}: {_headline(name, result)}", highlight=False)

        return run_arms(
            list(configs), runs, jobs, on_report, on_result, wants_stop=lambda: bool(interrupt)
        )


def _num_draws(arm: Arm, cfg: Config) -> int:
    cap = cfg.eval.final_episodes
    draws = sum(min(how.num_puzzles, cap) * how.num_samples for how in arm.measurements)
    return draws + (cfg.optim.max_policy_calls if arm.is_trained else 0)


def _describe(arm: Arm) -> str:
    return f"{arm.env}: {arm.label}, seed {arm.seed}"


def _headline(name: str, result: Result) -> str:
    values = [(metric.name, metric.value(result)) for metric in EXPERIMENTS[name].metrics]
    return ", ".join(f"{name} {show_number(value)}" for name, value in values)


def write_experiment(
    head: dict[str, Any],
    configs: Mapping[Arm, Config],
    results: Sequence[Result],
    output: Path,
) -> None:
    """Write the JSON file, the table and the picture of an experiment; print the table."""
    name = head["experiment"]
    experiment = EXPERIMENTS[name]
    budgets = {arm.env: cfg.optim.max_policy_calls for arm, cfg in configs.items()}
    models = {arm.env: Path(cfg.model.path).name for arm, cfg in configs.items()}
    rows = summarise(results, experiment.metrics, experiment.has_one_puzzle)
    values = {
        **head,
        "source": experiment.source,
        "models": models,
        "policy_calls": budgets,
        "table": rows,
        "arms": results,
    }
    columns = ("arm", *(metric.name for metric in experiment.metrics), "policy calls")
    has_games = len(experiment.envs) > 1
    lines = [
        (
            f"{row['env']}: {row['label']}" if has_games else row["label"],
            *(_cell(value) for value in row["values"].values()),
            f"{row['policy_calls']:.0f}",
        )
        for row in rows
    ]
    notes = "Mean over seeds, 95 % t interval over seeds, and the number of each seed."
    if len(head["seeds"]) == 1:
        notes = "One seed, so nothing is known of the spread between seeds."
    if not experiment.has_one_puzzle:
        notes += " A single run has the 95 % Wilson interval over puzzles."
    title = f"{experiment.title} ({experiment.source})"
    picture = write_results(values, title, columns, lines, notes, output)
    if experiment.curves:
        save_curves(results, experiment.curves, experiment.title, picture)
    else:
        save_bars(rows, experiment.title, picture)
    say(f"Written: {', '.join(str(picture.with_suffix(end)) for end in ('.json', '.md', '.png'))}")


def summarise(
    results: Sequence[Result], metrics: Sequence[Metric], has_one_puzzle: bool = False
) -> list[dict[str, Any]]:
    """Join the seeds of every arm.

    Args:
        results: results of `run_arm`.
        metrics: numbers to look up.
        has_one_puzzle: there is no interval over puzzles.

    Returns:
        A row for each arm and environment: `env`, `label`, mean `policy_calls`, and `values` by the
        metric's name: `mean`, `low`, `high`, `over` (the 95 % interval is over "seeds" or
        "puzzles") and `each`. What does not exist is None.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result["env"], result["label"]), []).append(result)
    return [
        {
            "env": env,
            "label": label,
            "policy_calls": sum(r["policy_calls"] for r in group) / len(group),
            "values": {metric.name: _join(group, metric, has_one_puzzle) for metric in metrics},
        }
        for (env, label), group in groups.items()
    ]


def _join(group: Sequence[Result], metric: Metric, has_one_puzzle: bool) -> dict[str, Any]:
    each = [metric.value(result) for result in group]
    found = [value for value in each if value is not None]
    if not found:
        return {"mean": None, "low": None, "high": None, "over": None, "each": each}
    centre, low, high = t_interval(found)
    ends, over = (low, high), "seeds"
    if math.isnan(low):
        interval = None if has_one_puzzle or len(group) > 1 else metric.puzzle_interval(group[0])
        ends, over = interval or (None, None), "puzzles" if interval else None
    return {"mean": centre, "low": ends[0], "high": ends[1], "over": over, "each": each}


def _cell(value: Mapping[str, Any]) -> str:
    text = show_number(value["mean"])
    if value["low"] is not None:
        text += f" ({show_number(value['low'])} to {show_number(value['high'])})"
    if len(value["each"]) > 1:
        text += f"; {', '.join(map(show_number, value['each']))}"
    return text


# ---- draws without training ----


def run_diversity(
    head: dict[str, Any], seeds: Sequence[int], quick: bool, output: Path, overrides: list[str]
) -> None:
    """Draw answers in every regime and count the distinct ones (Figure 1)."""
    cfg = resolve_auto(load_config("path_exploration", "sesa-paper", overrides))
    check_model(cfg)
    policy = build_policy(cfg)
    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    num_answers = NUM_ANSWERS // QUICK_SHARE if quick else NUM_ANSWERS
    counts: dict[str, list[list[int]]] = {regime: [] for regime in REGIMES}
    num_sets: dict[str, list[int]] = {regime: [] for regime in REGIMES}
    with progress_bar() as bar:
        task = bar.add_task(DIVERSITY, total=len(REGIMES) * len(seeds), success="")
        for seed in seeds:
            params = sampling_params(cfg.engine, cfg.eval.temperature, seed)
            for regime, per_set in REGIMES.items():
                sets = draw_sets(
                    engine,
                    dialogue,
                    cfg.env.id,
                    per_set,
                    params,
                    num_answers,
                    cfg.sampling,
                )
                counts[regime].append(distinct_counts([a for answers in sets for a in answers]))
                num_sets[regime].append(len(sets))
                last = counts[regime][-1][-1]
                bar.update(task, advance=1, success=f"{regime}, seed {seed}: {last} distinct")
    title = f"Path Exploration: distinct places among {num_answers}, without training"
    rows = []
    for regime, lines in counts.items():
        centre, low, high = t_interval([line[-1] for line in lines])
        interval = "" if math.isnan(low) else f"{low:.1f} to {high:.1f}"
        sets = ", ".join(map(str, num_sets[regime]))
        each = ", ".join(str(line[-1]) for line in lines)
        rows.append((regime, f"{centre:.1f}", interval, each, sets))
    values = {
        **head,
        "source": "Figure 1",
        "model": Path(cfg.model.path).name,
        "temperature": cfg.eval.temperature,
        "answers": num_answers,
        "proposer": cfg.sampling.proposer,
        "sets": num_sets,
        "distinct": counts,
    }
    columns = ("regime", "distinct places", "95 % over seeds", "each seed", "sets")
    notes = "An answer that cannot be read counts as drawn, not as a place."
    picture = write_results(values, f"{title} (Figure 1)", columns, rows, notes, output)
    save_counts(counts, title, picture)
    say(f"Written: {', '.join(str(picture.with_suffix(end)) for end in ('.json', '.md', '.png'))}")


# ---- files ----


def write_results(
    values: dict[str, Any],
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: str,
    output: Path,
) -> Path:
    """Write values as JSON and rows as a Markdown table, print the table.

    Returns:
        Where the picture goes.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / values["experiment"]
    text = json.dumps(values, indent=1) + "\n"
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    page = f"# {title}\n\n{table}\n\n{notes} Made by\n\n```\n{values['command']}\n```\n"
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    shown = Table(title=title)
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    return path.with_suffix(".png")
