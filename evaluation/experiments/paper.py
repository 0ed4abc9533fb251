"""The experiments of the paper as data: arms, budgets, measurements, tables and plots.

`sesa-agent reproduce NAME` runs one. The arms of an experiment have the same budget of policy
calls, model and trainer; they differ in their preset and in the settings given here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .arms import BASE, Arm
from .results import Measurement

ROLLOUT = "rollout"
"""The name of what is no measurement: means over the steps of training."""
CALLS = {
    "path_exploration": 16_000,
    "sudoku": 10_000,
    "math": 10_000,
    "sokoban": 80_000,
    "countdown": 20_000,
    "frozen_lake": 30_000,
}
"""Budget of policy calls of every trained arm, by environment."""
NUM_SEEDS = {"sokoban": 5}
"""Training seeds of every arm; 3 in the other environments."""
QUICK_SHARE = 4
"""`--quick` divides the calls and the held-out puzzles by this, and uses one seed."""


@dataclass(frozen=True)
class Plan:
    """An arm of an experiment, independent of environment and seed."""

    label: str
    method: str = "sesa"
    settings: tuple[str, ...] = ()
    start_from: str = ""
    """Label of the arm whose last checkpoint it continues from, with a full budget of its own."""
    calls: int = 0
    """Its budget of policy calls; 0 for that of all arms."""
    has_lessons: bool = True
    """Whether its model gets the warm start of the experiment, if that has one."""


@dataclass(frozen=True)
class Metric:
    """A number in an arm's result: a column of the table."""

    name: str
    measurement: str
    """Name of the measurement, such as `T=1`; `ROLLOUT` for training rollouts."""
    field: str
    """Field of `Evaluation`, or one of `ROLLOUT_METRICS`."""
    k: int = 0
    """The k of a field with a value for each k; 0 for other fields."""

    def value(self, result: dict[str, Any]) -> float | None:
        """Look up the number; None if the measurement has none."""
        if self.measurement == ROLLOUT:
            return result.get("rollout", {}).get(self.field)
        found = result["measured"][self.measurement].get(self.field)
        return found.get(str(self.k)) if self.k else found

    def puzzle_interval(self, result: dict[str, Any]) -> tuple[float, float] | None:
        """The 95 % interval over the puzzles of one run; None if there is none."""
        if self.measurement == ROLLOUT:
            return None
        measured = result["measured"][self.measurement]
        if self.field == "success_rate":
            return measured["low"], measured["high"]
        if self.field == "mean_return":
            low, high = measured.get("return_low"), measured.get("return_high")
            return None if low is None or high is None else (low, high)
        ends = measured.get(f"{self.field}_interval", {}).get(str(self.k))
        return (ends[0], ends[1]) if ends else None


@dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper."""

    source: str
    """The figure or table of the paper."""
    title: str
    envs: tuple[str, ...]
    plans: tuple[Plan, ...]
    measurements: tuple[Measurement, ...]
    metrics: tuple[Metric, ...]
    """Columns of the table."""
    curves: tuple[tuple[str, str], ...] = ()
    """Learning curves of the plot, one panel each: a name in the arms' curves and its label. If
    empty, the plot shows `metrics` as bars."""
    has_one_puzzle: bool = False
    """Whether every seed is the same puzzle, so that there is no interval over puzzles."""
    note: str = ""
    """A sentence below the table."""
    quick_share: int = QUICK_SHARE
    """The divisor of `--quick`."""
    is_comparison: bool = False
    """Whether arms are tested against each other, run by run on the same puzzles. The base is then
    measured once for every seed."""
    spent: tuple[str, ...] = ("policy_calls",)
    """Columns of the table about what training spent (`SPENT`)."""


SUCCESS = Metric("success, T = .5", "T=0.5", "success_rate")
"""The metric that arms are compared by, at RAGEN's evaluation temperature."""
RETURN = Metric("return, T = .5", "T=0.5", "mean_return")
"""The mean return of the same measurement; results of older versions have none."""
PASS_RATIO = Metric("pass@16 / pass@1, T = 1", "T=1", "pass_ratio")
"""How much repeated attempts add (Figure 5)."""


def comparison_measurements(
    num_episodes: int, ood_sets: Sequence[str] = ()
) -> tuple[Measurement, ...]:
    """The measurements that `SUCCESS` and `PASS_RATIO` need, and those of other sets.

    At T = 1, 16 attempts at an eighth of the puzzles: more would cost as much as training.

    Args:
        num_episodes: held-out puzzles.
        ood_sets: out-of-distribution sets, each measured on a quarter as many puzzles.
    """
    warm = Measurement(1.0, max(1, num_episodes // 8), num_samples=16, ks=(1, 16))
    few = max(1, num_episodes // 4)
    return (
        Measurement(0.5, num_episodes),
        warm,
        *(Measurement(0.5, few, split=name) for name in ood_sets),
    )


SINGLE_ANSWER_PLANS = (
    Plan(BASE),
    Plan("ragen", "ragen"),
    Plan("dapo", "dapo"),
    Plan("sesa-two-stage", "sesa-two-stage"),
    Plan("sesa"),
)
"""The arms of Figure 4, and `sesa` without sketches."""


def rescue_experiment(
    env: str,
    title: str,
    stall_calls: int,
    rescue_calls: int,
    words: tuple[str, ...],
    parallel_words: tuple[str, ...] = (),
) -> Experiment:
    """Figures 5 and 6 in one environment: a collapsed policy continues unchanged, or with `sesa`.

    All runs end after the same total number of calls, including `sesa` from the start.

    Args:
        env: the environment.
        title: title of table and plot.
        stall_calls: policy calls after which independent rollouts have stalled.
        rescue_calls: policy calls of both arms that continue from there.
        words: settings of all arms.
        parallel_words: settings of the arms with independent rollouts.
    """
    words = ("eval.samples=16", "eval.temperature=1.0", "eval.episodes=64", *words)
    parallel_words = (*words, *parallel_words)
    start = "ragen-entropy"
    return Experiment(
        source="Figures 5 and 6",
        title=title,
        envs=(env,),
        plans=(
            Plan(start, "ragen-entropy", parallel_words, calls=stall_calls),
            Plan(f"{start}, on", "ragen-entropy", parallel_words, start, rescue_calls),
            Plan(f"{start}, then sesa", "sesa", words, start, rescue_calls),
            Plan("sesa", "sesa", words, calls=stall_calls + rescue_calls),
        ),
        measurements=(Measurement(1.0, num_puzzles=256, num_samples=16, ks=(1, 16)),),
        metrics=(PASS_RATIO, Metric("success, T = 1", "T=1", "success_rate")),
        curves=(("eval/pass_ratio", "pass@16 / pass@1"), ("eval/success_rate", "success, T = 1")),
        note=f"Arms named after {start} continue from its last checkpoint with calls of their own.",
    )


EXPERIMENTS = {
    "path-exploration": Experiment(
        source="Figure 3",
        title="Path Exploration: coverage during training",
        envs=("path_exploration",),
        plans=(
            # A step without signal is sampled five times, hence the shorter period.
            Plan("dapo", "dapo", ("sampling.max_trajectories=16", "eval.every=2")),
            # As in the paper: 16 answers within one response.
            Plan(
                "sesa-single-pass",
                "sesa-paper",
                (
                    "sampling.name=single_pass",
                    "sampling.proposer=one_response",
                    "sampling.num_proposals=16",
                ),
            ),
            Plan("sesa"),
            Plan("dapo, then sesa", start_from="dapo"),
        ),
        measurements=(Measurement(temperature=1.0, num_puzzles=4, num_samples=128, ks=(32,)),),
        metrics=(
            Metric("coverage@32", "T=1", "coverage_at_k", 32),
            Metric("hit rate", "T=1", "success_rate"),
        ),
        curves=(("eval/coverage_at_32", "Coverage@32"), ("eval/success_rate", "hit rate")),
        has_one_puzzle=True,
    ),
    "sudoku": Experiment(
        source="Figure 4, left",
        title="Sudoku: pass@k on held-out puzzles, T = 1",
        envs=("sudoku",),
        plans=SINGLE_ANSWER_PLANS,
        measurements=(Measurement(1.0, num_puzzles=256, num_samples=32, ks=(1, 8, 32)),),
        metrics=tuple(Metric(f"pass@{k}", "T=1", "pass_at_k", k) for k in (1, 8, 32)),
    ),
    "math": Experiment(
        source="Figure 4, right",
        title="Math: pass@k on held-out problems, T = 1",
        envs=("math",),
        plans=SINGLE_ANSWER_PLANS,
        measurements=(Measurement(1.0, num_puzzles=256, num_samples=16, ks=(1, 4, 16)),),
        metrics=tuple(Metric(f"pass@{k}", "T=1", "pass_at_k", k) for k in (1, 4, 16)),
    ),
    "agents": Experiment(
        source="Table 1",
        title="Agents: success on held-out puzzles",
        envs=("sokoban", "countdown", "frozen_lake"),
        plans=(
            Plan(BASE),
            Plan("ragen", "ragen"),
            Plan("ragen-entropy", "ragen-entropy"),
            Plan("sesa-paper", "sesa-paper"),
            Plan("sesa"),
        ),
        measurements=comparison_measurements(1024),
        metrics=(SUCCESS, PASS_RATIO),
        quick_share=2,  # after a quarter of the calls the arms do not differ yet in Sokoban
        is_comparison=True,
    ),
    # One optimiser for all arms, that of `ragen-entropy`; sampling, credit and loss differ. The
    # filter is RAGEN's own, with which its collapse was reported. Without it, as tuned for the
    # comparison of methods, policies stall in this game at a pass@16 / pass@1 of about 2.
    "rescue": rescue_experiment(
        "countdown",
        "Countdown: policy collapse, and sequential sampling",
        stall_calls=20_000,
        rescue_calls=20_000,
        words=("optim.lr=1e-4", "optim.beta2=0.999", "eval.every=4"),
        parallel_words=("loss.filter_ratio=0.25",),
    ),
}
"""The training experiments of `sesa-agent reproduce`, by name."""


def experiment_arms(
    name: str, seeds: Sequence[int] = (), is_quick: bool = False, overrides: Sequence[str] = ()
) -> list[Arm]:
    """Return the arms of an experiment; an arm comes after the one that it starts from.

    Args:
        name: one of `EXPERIMENTS`.
        seeds: training seeds; by default as many as `NUM_SEEDS` says, with `is_quick` one.
        is_quick: use a fraction of the calls and puzzles.
        overrides: `group.key=value` words for all arms; they override everything else.
    """
    experiment = EXPERIMENTS[name]
    share = experiment.quick_share if is_quick else 1
    measurements = tuple(
        Measurement(
            how.temperature,
            how.num_puzzles if experiment.has_one_puzzle else how.num_puzzles // share,
            how.num_samples,
            how.ks,
        )
        for how in experiment.measurements
    )
    # The methods need different numbers of calls per step, so only the calls bound a run.
    common = ("optim.steps=1000000", *overrides)
    arms: list[Arm] = []
    for env in experiment.envs:
        own_seeds = seeds or range(1 if is_quick else NUM_SEEDS.get(env, 3))
        plans = [
            replace(plan, calls=(plan.calls or CALLS[env]) // share) for plan in experiment.plans
        ]
        arms += plan_arms(plans, env, own_seeds, measurements, common, experiment.is_comparison)
    return arms


def plan_arms(
    plans: Sequence[Plan],
    env: str,
    seeds: Sequence[int],
    measurements: tuple[Measurement, ...],
    common: tuple[str, ...],
    is_comparison: bool = True,
    scale: str = "",
    lessons: int = 0,
    left_over: str = "all",
) -> list[Arm]:
    """Return the arms of one environment: a run for each plan and seed.

    Args:
        plans: the plans, each after the one that it starts from.
        env: the environment.
        seeds: training seeds. In a comparison the base is measured with each, otherwise with the
            first.
        measurements: how all arms are measured.
        common: `group.key=value` words for all arms, with the budget unless plans have their own.
        is_comparison: whether arms are tested against each other.
        scale: the preset of a model size and its machine; empty for none.
        lessons: most lessons of a warm start; 0 for none.
        left_over: what stays of the checkpoints (`LEFT_OVER`).
    """
    arms: dict[tuple[str, int], Arm] = {}
    for plan in plans:
        budget = (f"optim.max_policy_calls={plan.calls}",) if plan.calls else ()
        for seed in seeds[:1] if plan.label == BASE and not is_comparison else seeds:
            arms[plan.label, seed] = Arm(
                plan.label,
                env,
                plan.method,
                plan.settings,
                seed,
                measurements,
                common=(*budget, *common),
                scale=scale,
                lessons=lessons if plan.has_lessons else 0,
                left_over=left_over,
                start_from=arms[plan.start_from, seed] if plan.start_from else None,
            )
    return list(arms.values())
