"""`sesa-agent reproduce`: the paper's figures and tables, from training to table and plot."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import choose, load_config
from sesa_agent.configs.schema import Config
from sesa_agent.configs.task_files import env_label
from sesa_agent.evaluation.diversity import NUM_ANSWERS, REGIMES, distinct_counts, draw_sets
from sesa_agent.evaluation.experiments.arms import Arm, Result, resolve_arm
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS, QUICK_SHARE, experiment_arms
from sesa_agent.evaluation.statistics import t_interval
from sesa_agent.option_settings import refuse_fixed, with_options
from sesa_agent.outputs import check_writable
from sesa_agent.plots import save_bars, save_counts, save_curves
from sesa_agent.screen import progress_bar, say
from sesa_agent.training.setup import (
    build_dialogue,
    build_engine,
    build_policy,
    resolve_auto,
    sampling_params,
)

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
    """Of `diversity`: an environment with single answers; empty for the paper's."""
    model: str
    """Folder or hub name of a causal LM; empty for the bundled one."""
    seeds: str
    """Such as "0,1,2"; empty for the experiment's own."""
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
        words += ["--model", self.model] if self.model else []
        words += ["--seeds", self.seeds] if self.seeds else []
        words += ["--output", str(self.output)] if self.output != OUTPUT else []
        words += ["--runs", str(self.runs)] if self.runs != RUNS else []
        return [*words, *self.overrides]


def run_reproduction(options: ReproduceOptions) -> None:
    """Run an experiment of the paper, or the part that is not finished; write its results."""
    name, command, output = options.name, options.command(), options.output
    choose("EXPERIMENT", name, [*EXPERIMENTS, DIVERSITY], "")
    seeds = read_seeds(options.seeds) if options.seeds else []
    check(options.jobs >= 1, "--jobs", options.jobs, "at least 1")
    refuse_fixed(options.overrides, FIXED)
    check(
        name == DIVERSITY or not options.env,
        "--env",
        options.env,
        f"left out with {name}",
        f"It has environments of its own. Use it with {DIVERSITY}.",
    )
    check_writable(output, "--output")
    if name == DIVERSITY:
        seeds = seeds or ([0] if options.quick else [0, 1, 2])
        env = options.env or PATH_EXPLORATION
        own = name if env == PATH_EXPLORATION else f"{name}-{file_name(env_label(env))}"
        head = result_head(own, command, seeds)
        run_diversity(head, env, seeds, options.quick, output, options.words)
        return
    arms = experiment_arms(name, seeds, options.quick, options.words)
    configs = {arm: resolve_arm(arm) for arm in arms}
    for cfg in configs.values():
        check_needs(cfg)
    check_writable(options.runs, "--runs")
    metrics = EXPERIMENTS[name].metrics
    results = run_with_bar(configs, metrics, options.runs / name, options.jobs)
    if len(results) < len(arms):
        say(f"Stopped. Resume with: {shlex.join([*command, '--jobs', str(options.jobs)])}")
        return
    head = result_head(name, command, sorted({arm.seed for arm in arms}))
    write_experiment(head, configs, [results[arm] for arm in arms], output)


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
    configs: Mapping[Arm, Config],
    results: Sequence[Result],
    output: Path,
) -> None:
    """Write the JSON file, the table and the plot of an experiment; print the table."""
    name = head["experiment"]
    experiment = EXPERIMENTS[name]
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
    columns = ("arm", *(metric.name for metric in experiment.metrics), "policy calls")
    has_games = len(experiment.envs) > 1
    lines = [
        (
            f"{row['env']}: {row['label']}" if has_games else row["label"],
            *(show_estimate(value) for value in row["values"].values()),
            f"{row['policy_calls']:.0f}",
        )
        for row in rows
    ]
    notes = "Mean over seeds, 95 % t interval over seeds, and the number of each seed."
    if len(head["seeds"]) == 1:
        notes = "One seed, so the variance between seeds is unknown."
    if not experiment.has_one_puzzle:
        notes += " A single run has the 95 % Wilson interval over puzzles."
    notes += f" {experiment.note}" if experiment.note else ""
    picture = write_results(values, title, columns, lines, notes, output)
    if experiment.curves:
        save_curves(results, experiment.curves, experiment.title, picture)
    else:
        save_bars(rows, experiment.title, picture)
    say_written(picture)


# ---- sampling without training ----


def run_diversity(
    head: dict[str, Any],
    env: str,
    seeds: Sequence[int],
    quick: bool,
    output: Path,
    overrides: list[str],
) -> None:
    """Sample answers to one puzzle in every regime and count the distinct ones (Figure 1)."""
    cfg = resolve_auto(load_config(env, "sesa-paper", overrides))
    check(
        cfg.env.max_turns == 1,
        "--env",
        env,
        f"an environment with single answers, for which env.max_turns ({cfg.env.max_turns}) is 1",
        "Name path_exploration, sudoku or math, or set env.max_turns=1 if one answer settles it.",
    )
    check_needs(cfg)
    policy = build_policy(cfg)
    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    num_answers = NUM_ANSWERS // QUICK_SHARE if quick else NUM_ANSWERS
    counts: dict[str, list[list[int]]] = {regime: [] for regime in REGIMES}
    num_sets: dict[str, list[int]] = {regime: [] for regime in REGIMES}
    with progress_bar() as bar:
        total = len(REGIMES) * len(seeds) * num_answers
        task = bar.add_task("answers", total=total, success="")
        num_before = 0
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
                    watch=lambda num, before=num_before: bar.update(task, completed=before + num),
                )
                num_before += num_answers
                counts[regime].append(distinct_counts([a for answers in sets for a in answers]))
                num_sets[regime].append(len(sets))
                last = counts[regime][-1][-1]
                bar.update(task, success=f"{regime}, seed {seed}: {last} distinct")
    title = f"{env_label(env)}: distinct answers among {num_answers}, without training"
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
        "env": env_label(env),
        "model": Path(cfg.model.path).name,
        "temperature": cfg.eval.temperature,
        "answers": num_answers,
        "proposer": cfg.sampling.proposer,
        "sets": num_sets,
        "distinct": counts,
    }
    columns = ("regime", "distinct answers", "95 % over seeds", "each seed", "sets")
    notes = "An unreadable answer counts as sampled, but not as distinct."
    picture = write_results(values, f"{title} (Figure 1)", columns, rows, notes, output)
    save_counts(counts, title, picture)
    say_written(picture)
