"""`sesa-agent tune --env ID`: the same number of trials for every method, on validation puzzles."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sesa_agent.commands.compare import (
    CompareOptions,
    comparison_arms,
    read_budget,
)
from sesa_agent.commands.experiment_progress import check_needs, run_with_bar
from sesa_agent.commands.experiment_tables import (
    file_name,
    markdown_table,
    print_table,
    result_head,
    typed_command,
)
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import choose
from sesa_agent.configs.task_files import env_label
from sesa_agent.configs.writing import replace_text
from sesa_agent.environments import close_env
from sesa_agent.environments.text_env import num_targets
from sesa_agent.evaluation.experiments.arms import Arm, Result, resolve_arm
from sesa_agent.evaluation.experiments.results import write_json
from sesa_agent.evaluation.experiments.tuning import (
    COVERAGE,
    COVERAGE_MEASUREMENT,
    GRID,
    RUNGS,
    SCALE_GRID,
    SUCCESS_MEASUREMENT,
    TUNING_SEEDS,
    Tuning,
    best_settings,
    trials,
)
from sesa_agent.outputs import check_writable
from sesa_agent.screen import say, show_number
from sesa_agent.training.setup import build_env


@dataclass(frozen=True)
class TuneOptions:
    """The options of the command."""

    env: str
    methods: str = ""
    """Methods, separated by commas; empty for those of the paper's Table 1."""
    ablate: bool = False
    """Tune the arms of `compare --ablate`, instead of `methods`."""
    num_trials: int = 8
    grid: str = ""
    """Dimensions of the grid, separated by commas; empty for all."""
    budget: str = ""
    """As of `compare`."""
    num_puzzles: int = 512
    """Validation puzzles."""
    overrides: Sequence[str] = ()
    scale: str = ""
    lessons: int = 0
    """As of `compare`."""

    @property
    def grid_values(self) -> dict[str, tuple[str, ...]]:
        """The values of each dimension of the grid."""
        return SCALE_GRID if self.scale else GRID

    @property
    def name(self) -> str:
        """The name of the ledger's file."""
        kind = "ablation" if self.ablate else ""
        parts = [file_name(env_label(self.env)), self.scale, kind, "tuning"]
        return "-".join(filter(None, parts))


def make_tuning(options: TuneOptions) -> Tuning:
    """Return the trials of all arms.

    Raises:
        SettingError: in one line, for a wrong option or setting.
    """
    check(options.num_trials >= 1, "--trials", options.num_trials, "at least 1")
    check(options.num_puzzles >= 2, "--episodes", options.num_puzzles, "at least 2")
    grid = options.grid_values
    dimensions = [name.strip() for name in options.grid.split(",")] if options.grid else list(grid)
    for name in dimensions:
        choose("--grid", name, list(grid), "")
    compared = CompareOptions(
        options.env,
        options.methods,
        options.ablate,
        num_seeds=1,
        budget=options.budget,
        episodes=options.num_puzzles,
        overrides=options.overrides,
        scale=options.scale,
        lessons=options.lessons,
        # Dozens of runs of a real model would fill a disk, and nobody plays with them.
        left_over="nothing" if options.scale else "all",
    )
    arms = tuple(arm for arm in comparison_arms(compared) if arm.is_trained)
    budget = read_budget(options.env, options.budget)
    chosen = tuple(trials(options.num_trials, dimensions, grid))
    env = build_env(resolve_arm(arms[0]))
    has_targets = num_targets(env) > 0
    close_env(env)
    if has_targets:
        return Tuning(arms, budget, chosen, COVERAGE_MEASUREMENT, COVERAGE)
    measurement = replace(SUCCESS_MEASUREMENT, num_puzzles=options.num_puzzles)
    return Tuning(arms, budget, chosen, measurement)


def run_tuning(options: TuneOptions, jobs: int | None, output: Path, runs: Path) -> None:
    """Train and measure the trials that are not finished yet; write the ledger after each rung.

    Args:
        options: determine the trials.
        jobs: number of runs in parallel; None for 2, or with a scale 1.
        output: folder of the ledger.
        runs: folder of all runs.

    Raises:
        SettingError: for a wrong option, before anything is trained.
    """
    tuning = make_tuning(options)
    jobs = jobs if jobs is not None else 1 if options.scale else 2
    check(jobs >= 1, "--jobs", jobs, "at least 1")
    check_writable(output, "--output")
    check_writable(runs, "--runs")
    folder = runs / file_name(env_label(options.env))

    def run_rung(configs: Mapping[Arm, Any]) -> Mapping[Arm, Result]:
        for cfg in configs.values():
            check_needs(cfg)
        return run_with_bar(configs, (tuning.metric,), folder, jobs)

    command, rows = typed_command(), []
    head = result_head(options.name, command, TUNING_SEEDS)
    head |= {"env": env_label(options.env), "split": "validation"}
    head |= {"decided_by": tuning.metric.name}
    columns = ("arm", "rung", "trial", tuning.metric.name)
    for found in tuning.run(run_rung):
        rows += found
        last = found[0]["rung"]
        shown = [_cells(row) for row in found]
        print_table(f"rung {last + 1} of {len(RUNGS)}: {found[0]['budget']}", columns, shown)
        values = {**head, "is_finished": last == len(RUNGS) - 1, "rows": rows}
        write_json(output / f"{options.name}.json", values)
        page = [f"# {options.name}: {tuning.metric.name}, on validation puzzles"]
        page += [markdown_table(columns, [_cells(row) for row in rows])]
        page += [f"Made by\n\n```\n{head['command']}\n```\n"]
        replace_text(output / f"{options.name}.md", "\n\n".join(page))
    if not rows or rows[-1]["rung"] < len(RUNGS) - 1:
        say(f"Stopped. Resume with: {shlex.join(command)}")
        return
    for label, words in best_settings(rows).items():
        say(f"{label}: {' '.join(words) or 'as it is'}")
    words = ["sesa-agent", "compare", "--env", options.env]
    words += ["--ablate"] if options.ablate else []
    words += ["--scale", options.scale] if options.scale else []
    words += ["--lessons", str(options.lessons)] if options.lessons else []
    words += ["--tuned", str(output / f"{options.name}.json")]
    say(f"Compare them with: {shlex.join(words)}")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    rates = ", ".join(show_number(rate) for rate in row["success"])
    return row["arm"], str(row["rung"] + 1), row["trial"], rates
