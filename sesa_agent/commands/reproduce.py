"""`sesa-agent reproduce`: the paper's figures and tables, from training to table and plot.

Figure 1, which needs no training, is in `reproduce_diversity.py`.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sesa_agent.commands.experiment_progress import check_needs, run_with_bar
from sesa_agent.commands.experiment_tables import (
    file_name,
    result_head,
    say_written,
    show_estimate,
    summarise,
    write_comparison,
    write_results,
)
from sesa_agent.commands.reproduce_diversity import run_diversity
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import choose
from sesa_agent.configs.schema import Config
from sesa_agent.configs.task_files import env_label
from sesa_agent.evaluation.experiments.arms import BASE, WARM_START, Arm, Result, resolve_arm
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS, Experiment, experiment_arms
from sesa_agent.evaluation.experiments.real_llm import (
    GAMES,
    HEADLINE,
    REAL_LLM,
    SCALE,
    real_llm_arms,
)
from sesa_agent.evaluation.experiments.tuning import ledger_env, read_ledger
from sesa_agent.option_settings import refuse_fixed, with_options
from sesa_agent.outputs import check_writable
from sesa_agent.plots import save_bars, save_curves
from sesa_agent.screen import say

DIVERSITY = "diversity"
PATH_EXPLORATION = "path_exploration"
FIXED = {"seed": "--seeds", "output": "--runs"}
"""Settings that belong to an option of the command."""
OUTPUT, RUNS = Path("results"), Path("runs/reproduce")
"""The default folders of results and training runs."""


@dataclass(frozen=True)
class ReproduceOptions:
    """The options of `sesa-agent reproduce`."""

    name: str
    """The experiment."""
    overrides: Sequence[str]
    """`group.key=value` words for all arms."""
    env: str
    """Of `diversity`: an environment with single answers; empty for the paper's. Of `real-llm`: one
    of its games; empty for all."""
    scale: str
    """Of `diversity` and `real-llm`: the preset of a model size and its machine."""
    model: str
    """Folder or hub name of a causal LM; empty for the bundled one."""
    seeds: str
    """Such as "0,1,2"; empty for the experiment's own."""
    tuned: Sequence[Path]
    """Of `real-llm`: ledgers of `sesa-agent tune`, one for a game at most."""
    quick: bool
    jobs: int
    output: Path
    runs: Path

    @property
    def words(self) -> list[str]:
        """The settings of all arms, including the model."""
        return with_options(self.overrides, {"model.path": ("--model", self.model or None)})

    def command(self) -> list[str]:
        """The command with these options, without `--jobs` and what has its default value."""
        words = ["sesa-agent", "reproduce", self.name, *(["--quick"] if self.quick else [])]
        words += ["--env", self.env] if self.env else []
        words += ["--scale", self.scale] if self.scale else []
        words += ["--model", self.model] if self.model else []
        words += ["--seeds", self.seeds] if self.seeds else []
        words += [word for path in self.tuned for word in ("--tuned", str(path))]
        words += ["--output", str(self.output)] if self.output != OUTPUT else []
        words += ["--runs", str(self.runs)] if self.runs != RUNS else []
        return [*words, *self.overrides]


@dataclass(frozen=True)
class Part:
    """An experiment with results of its own, and its arms."""

    name: str
    """Of its results."""
    experiment: Experiment
    arms: Sequence[Arm]
    trials: Mapping[str, int] = field(default_factory=dict)
    """How many tuning trials each method had."""


def run_reproduction(options: ReproduceOptions) -> None:
    """Run an experiment of the paper, or the part that is not finished; write its results."""
    name, command, output = options.name, options.command(), options.output
    choose("EXPERIMENT", name, [*EXPERIMENTS, REAL_LLM, DIVERSITY], "")
    seeds = read_seeds(options.seeds) if options.seeds else []
    check(options.jobs >= 1, "--jobs", options.jobs, "at least 1")
    refuse_fixed(options.overrides, FIXED)
    _check_left_out(options)
    check_writable(output, "--output")
    if name == DIVERSITY:
        seeds = seeds or ([0] if options.quick else [0, 1, 2])
        env = options.env or PATH_EXPLORATION
        own = name if env == PATH_EXPLORATION else f"{name}-{file_name(env_label(env))}"
        head = result_head(own, command, seeds)
        run_diversity(head, env, options.scale, seeds, options.quick, output, options.words)
        return
    parts = _real_llm_parts(options, seeds) if name == REAL_LLM else [_paper_part(options, seeds)]
    configs = {arm: resolve_arm(arm) for part in parts for arm in part.arms}
    for cfg in configs.values():
        check_needs(cfg)
    check_writable(options.runs, "--runs")
    metrics = (HEADLINE,) if name == REAL_LLM else parts[0].experiment.metrics
    results = run_with_bar(configs, metrics, options.runs / name, options.jobs)
    for part in parts:
        if all(arm in results for arm in part.arms):
            head = result_head(part.name, command, sorted({arm.seed for arm in part.arms}))
            head |= {"trials": dict(part.trials)} if part.trials else {}
            own = {arm: configs[arm] for arm in part.arms}
            found = [results[arm] for arm in part.arms]
            write_experiment(head, part.experiment, own, found, output)
    if len(results) < len(configs):
        say(f"Stopped. Resume with: {shlex.join([*command, '--jobs', str(options.jobs)])}")


def _check_left_out(options: ReproduceOptions) -> None:
    """Check that options which belong to some experiments are given with those alone."""
    name, real = options.name, f"Use it with {DIVERSITY} or {REAL_LLM}."
    is_free = name in (DIVERSITY, REAL_LLM)
    left_out = f"left out with {name}"
    own = f"It has environments of its own. {real}"
    check(is_free or not options.env, "--env", options.env, left_out, own)
    check(is_free or not options.scale, "--scale", options.scale, left_out, real)
    tuned = [str(path) for path in options.tuned]
    check(name == REAL_LLM or not tuned, "--tuned", tuned, left_out, f"Use it with {REAL_LLM}.")


def _paper_part(options: ReproduceOptions, seeds: Sequence[int]) -> Part:
    name = options.name
    return Part(name, EXPERIMENTS[name], experiment_arms(name, seeds, options.quick, options.words))


def _real_llm_parts(options: ReproduceOptions, seeds: Sequence[int]) -> list[Part]:
    """The games of `real-llm`, or the one that `--env` names.

    Raises:
        SettingError: if it is none of them, or a ledger is of another game or lacks a method.
    """
    ledgers = {ledger_env(path): path for path in options.tuned}
    if options.env:
        choose("--env", options.env, list(GAMES), "")
    envs = [options.env] if options.env else list(GAMES)
    for env, path in ledgers.items():
        check(env in envs, "--tuned", str(path), f"a tuning of one of {', '.join(envs)}")
    scale = options.scale or SCALE
    parts = []
    for env in envs:
        best, trials = read_ledger(ledgers[env]) if env in ledgers else (None, {})
        experiment = GAMES[env].experiment
        for plan in experiment.plans if best is not None else ():
            is_known = plan.label in (BASE, WARM_START) or plan.method in (best or {})
            check(is_known, "--tuned", str(ledgers[env]), f"a tuning that tried {plan.method}")
        arms = real_llm_arms(env, seeds, options.quick, options.words, scale, best)
        parts.append(Part(f"{REAL_LLM}-{env}", experiment, arms, trials))
    return parts


def read_seeds(text: str) -> list[int]:
    """Parse seeds, such as "0,1,2".

    Raises:
        SettingError: if one of them is not a whole number from 0 to 9999, or is repeated.
    """
    words = [word.strip() for word in text.split(",")]
    are_numbers = all(word.isdecimal() and len(word) < 5 for word in words)
    are_distinct = are_numbers and len({int(word) for word in words}) == len(words)
    check(are_distinct, "--seeds", text, "different whole numbers from 0 to 9999, as in 0,1,2")
    return [int(word) for word in words]


# ---- training experiments ----


def write_experiment(
    head: dict[str, Any],
    experiment: Experiment,
    configs: Mapping[Arm, Config],
    results: Sequence[Result],
    output: Path,
) -> None:
    """Write the JSON file, the table and the plot of an experiment; print the table."""
    budgets: dict[str, int] = {}  # the largest, where arms continue from others
    for arm, cfg in configs.items():
        budgets[arm.env] = max(budgets.get(arm.env, 0), cfg.optim.max_policy_calls)
    models = {arm.env: Path(cfg.model.path).name for arm, cfg in configs.items()}
    title = f"{experiment.title} ({experiment.source})"
    head |= {"source": experiment.source, "models": models, "policy_calls": budgets}
    if experiment.is_comparison:
        write_comparison(head, title, results, "sesa", output)
        return
    rows = summarise(results, experiment.metrics, experiment.has_one_puzzle)
    values = {**head, "table": rows, "arms": results}
    names = [name.replace("_", " ") for name in experiment.spent]
    columns = ("arm", *(metric.name for metric in experiment.metrics), *names)
    has_games = len(experiment.envs) > 1
    lines = [
        (
            f"{row['env']}: {row['label']}" if has_games else row["label"],
            *(show_estimate(value) for value in row["values"].values()),
            *(f"{row['spent'][name]:.0f}" for name in experiment.spent),
        )
        for row in rows
    ]
    notes = "Mean over seeds, 95 % t interval over seeds, and the number of each seed."
    if len(head["seeds"]) == 1:
        notes = "One seed, so the variance between seeds is unknown."
    if not experiment.has_one_puzzle:
        notes += " A single run has the 95 % Wilson interval over puzzles."
    notes += f" {experiment.note}" if experiment.note else ""
    if head.get("trials"):
        tried = ", ".join(f"{name} {number}" for name, number in head["trials"].items())
        notes += f" Every method has the best settings of its tuning trials: {tried}."
    picture = write_results(values, title, columns, lines, notes, output)
    if experiment.curves:
        save_curves(results, experiment.curves, experiment.title, picture)
    else:
        save_bars(rows, experiment.title, picture)
    say_written(picture)
