"""Running the arms of an experiment under one bar; `reproduce` and `compare` share it."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from sesa_agent import __version__
from sesa_agent.agents.policy import BUNDLED, check_model_path
from sesa_agent.commands.train import stop_on_interrupt
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.schema import Config
from sesa_agent.evaluation.experiments.arms import Arm, Result, without_folder
from sesa_agent.evaluation.experiments.paper import Metric
from sesa_agent.evaluation.experiments.runner import Report, run_arms
from sesa_agent.screen import progress_bar, show_number
from sesa_agent.training.loggers import check_loggers

UNKNOWN_CALLS = 50_000
"""What the bar takes a run for whose budget is not in policy calls."""


def result_head(name: str, command: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """What every file of results begins with.

    Args:
        name: of the file.
        command: words that make it again; of absolute paths the last name is kept.
        seeds: of the training runs.
    """
    return {
        "experiment": name,
        "command": shlex.join(without_folder(word) for word in command),
        "versions": installed_versions(),
        "seeds": list(seeds),
    }


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run comes to."""
    return {
        "sesa-agent": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def typed_command() -> list[str]:
    """The words of the command that runs now."""
    return ["sesa-agent", *sys.argv[1:]]


def refuse_fixed(overrides: Sequence[str], options: Mapping[str, str]) -> None:
    """Refuse settings that an option of the command decides.

    Args:
        overrides: `group.key=value` words.
        options: the option by setting.

    Raises:
        SettingError: naming the option.
    """
    for word in overrides:
        key = word.partition("=")[0]
        if key in options:
            raise SettingError(f"{key} is set by {options[key]}, got {word!r}.")


def check_needs(cfg: Config) -> None:
    """Refuse a model or a logger that is not there.

    Raises:
        SettingError: naming it.
    """
    check_loggers(cfg.log)
    if cfg.model.path not in BUNDLED:
        check_model_path(cfg.model.path)


def run_with_bar(
    configs: Mapping[Arm, Config], metrics: Sequence[Metric], runs: Path, jobs: int
) -> dict[Arm, Result]:
    """Run all arms under one bar, which counts policy calls and the draws of measuring.

    Args:
        configs: resolved settings by arm.
        metrics: numbers to show of a finished arm.
        runs: the folder of the experiment's runs.
        jobs: arms at once.

    Returns:
        Results by arm; after Ctrl-C only of those that were finished.
    """
    sizes = {arm: _num_draws(arm, cfg) for arm, cfg in configs.items()}
    shares = dict.fromkeys(configs, 0.0)
    with stop_on_interrupt() as interrupt, progress_bar() as bar:
        task = bar.add_task("arms", total=float(sum(sizes.values())), success="")
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
            show(report.arm, report.share_done * sizes[report.arm], f": success {rate:.2f}")

        def on_result(arm: Arm, result: Result) -> None:
            nonlocal num_finished
            num_finished += 1
            show(arm, sizes[arm], "")
            bar.console.print(f"{_describe(arm)}: {_headline(metrics, result)}", highlight=False)

        return run_arms(
            list(configs), runs, jobs, on_report, on_result, wants_stop=lambda: bool(interrupt)
        )


def _num_draws(arm: Arm, cfg: Config) -> int:
    """Draws of an arm; of a budget in other units it is not known how many calls it makes."""
    cap = cfg.eval.final_episodes
    draws = sum(min(how.num_puzzles, cap) * how.num_samples for how in arm.measurements)
    return draws + (cfg.optim.max_policy_calls or UNKNOWN_CALLS if arm.is_trained else 0)


def _describe(arm: Arm) -> str:
    return f"{arm.env}: {arm.label}, seed {arm.seed}"


def _headline(metrics: Sequence[Metric], result: Result) -> str:
    values = [(metric.name, metric.value(result)) for metric in metrics]
    return ", ".join(f"{name} {show_number(value)}" for name, value in values)
