"""Runs the arms of an experiment with a progress bar, for `reproduce` and `compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sesa_agent.agents.model_folder import check_model_path, named_folder
from sesa_agent.commands.train import stop_on_interrupt
from sesa_agent.configs.schema import Config
from sesa_agent.evaluation.experiments.arms import Arm, Result
from sesa_agent.evaluation.experiments.paper import Metric
from sesa_agent.evaluation.experiments.runner import Report, run_arms
from sesa_agent.screen import progress_bar, show_number
from sesa_agent.training.loggers import check_loggers

UNKNOWN_CALLS = 50_000
"""Policy calls that the bar assumes for a run whose budget is not in policy calls."""


def check_needs(cfg: Config) -> None:
    """Check that the model and the loggers of a run exist.

    Raises:
        SettingError: with the name of what is missing.
    """
    check_loggers(cfg.log)
    check_model_path(named_folder(cfg.model.path))


def run_with_bar(
    configs: Mapping[Arm, Config], metrics: Sequence[Metric], runs: Path, jobs: int
) -> dict[Arm, Result]:
    """Run all arms with one progress bar, which counts policy calls and evaluation samples.

    Args:
        configs: resolved settings by arm.
        metrics: numbers to print for a finished arm.
        runs: the folder of the experiment's runs.
        jobs: number of arms to run in parallel.

    Returns:
        Results by arm; after Ctrl-C only those of finished arms.
    """
    sizes = {arm: _num_samples(arm, cfg) for arm, cfg in configs.items()}
    shares = dict.fromkeys(configs, 0.0)
    with stop_on_interrupt() as interrupt, progress_bar() as bar:
        task = bar.add_task("arms", total=float(sum(sizes.values())), success="")
        num_finished = 0

        def show(arm: Arm, num_done: float, news: str) -> None:
            shares[arm] = num_done
            bar.update(
                task,
                completed=sum(shares.values()),
                description=f"{num_finished}/{len(configs)} arms",
                success=f"{arm.label}, seed {arm.seed}{news}",
            )

        def on_report(report: Report) -> None:
            metrics = report.metrics
            if "lesson" in metrics:
                show(report.arm, 0.0, f": lesson {metrics['lesson']}")
                return
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


def _num_samples(arm: Arm, cfg: Config) -> int:
    """Policy calls and evaluation samples of an arm; a guess if its budget has another unit."""
    cap = cfg.eval.final_episodes
    num = sum(min(how.num_puzzles, cap) * how.num_samples for how in arm.measurements)
    return num + (cfg.optim.max_policy_calls or UNKNOWN_CALLS if arm.is_trained else 0)


def _describe(arm: Arm) -> str:
    return f"{arm.env}: {arm.label}, seed {arm.seed}"


def _headline(metrics: Sequence[Metric], result: Result) -> str:
    values = [(metric.name, metric.value(result)) for metric in metrics]
    return ", ".join(f"{name} {show_number(value)}" for name, value in values)
