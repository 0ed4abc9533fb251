"""The experiments of the paper as data: arms, budgets, what is measured and what is shown.

`sesa-agent reproduce NAME` runs one. The arms of an experiment have one budget of policy calls, one
model and one trainer; they differ in their preset and in the settings that stand here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .experiment import BASE, Arm, Measurement

CALLS = {
    "path_exploration": 16_000,
    "sudoku": 10_000,
    "math": 10_000,
    "sokoban": 80_000,
    "countdown": 20_000,
    "frozen_lake": 30_000,
}
"""Policy calls of every trained arm, by environment."""
QUICK_SHARE = 4
"""`--quick` divides the calls and the held-out puzzles by this, and takes one seed."""


@dataclass(frozen=True)
class Plan:
    """An arm of an experiment, before environment and seed are chosen."""

    label: str
    method: str = "sesa"
    settings: tuple[str, ...] = ()
    start_from: str = ""
    """Label of the arm whose last checkpoint it goes on from, with a whole budget of its own."""


@dataclass(frozen=True)
class Metric:
    """A number in an arm's result: a column of the table."""

    name: str
    measurement: str
    """As `T=1`."""
    field: str
    """Of `Evaluation`."""
    k: int = 0
    """Which of the values by k; 0 where there is one value."""

    def value(self, result: dict[str, Any]) -> float | None:
        """Look the number up; None if the measurement has none."""
        found = result["measured"][self.measurement][self.field]
        return found.get(str(self.k)) if self.k else found

    def puzzle_interval(self, result: dict[str, Any]) -> tuple[float, float] | None:
        """Its 95 % interval over puzzles within one run; None if none was computed."""
        measured = result["measured"][self.measurement]
        if self.field == "success_rate":
            return measured["low"], measured["high"]
        ends = measured.get(f"{self.field}_interval", {}).get(str(self.k))
        return (ends[0], ends[1]) if ends else None


@dataclass(frozen=True)
class Experiment:
    """What a figure or table of the paper compares."""

    source: str
    """The figure or table of the paper."""
    title: str
    envs: tuple[str, ...]
    plans: tuple[Plan, ...]
    measurements: tuple[Measurement, ...]
    metrics: tuple[Metric, ...]
    """Columns of the table."""
    curves: tuple[tuple[str, str], ...] = ()
    """What the plot shows along training: a name in the arms' curves and its label, a panel each;
    without any the plot shows `metrics` as bars."""
    has_one_puzzle: bool = False
    """Every seed is the same puzzle, so there is no interval over puzzles."""


SINGLE_ANSWER_PLANS = (
    Plan(BASE),
    Plan("ragen", "ragen"),
    Plan("dapo", "dapo"),
    Plan("sesa-two-stage", "sesa-two-stage"),
    Plan("sesa"),
)
"""The arms of Figure 4, and `sesa` without sketches."""
EXPERIMENTS = {
    "path-exploration": Experiment(
        source="Figure 3",
        title="Path Exploration: coverage during training",
        envs=("path_exploration",),
        plans=(
            # A step that finds no signal is drawn five times over, hence the shorter period.
            Plan("dapo", "dapo", ("sampling.max_trajectories=16", "eval.every=2")),
            # The paper's words: 16 answers within one response.
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
        measurements=(
            Measurement(0.5, num_puzzles=1024),
            Measurement(1.0, num_puzzles=256, num_samples=16, ks=(1, 16)),
        ),
        metrics=(
            Metric("success, T = .5", "T=0.5", "success_rate"),
            Metric("pass@16 / pass@1, T = 1", "T=1", "pass_ratio"),
        ),
    ),
}
"""Everything that `sesa-agent reproduce` trains, by name."""


def experiment_arms(
    name: str, seeds: Sequence[int], is_quick: bool = False, overrides: Sequence[str] = ()
) -> list[Arm]:
    """Return the arms of an experiment, those that others start from before them.

    Args:
        name: one of `EXPERIMENTS`.
        seeds: of the training runs; the model before training is measured once, with the first.
        is_quick: with a part of the calls and puzzles.
        overrides: `group.key=value` words for all arms; they have the last word.
    """
    experiment = EXPERIMENTS[name]
    share = QUICK_SHARE if is_quick else 1
    measurements = tuple(
        Measurement(
            how.temperature,
            how.num_puzzles if experiment.has_one_puzzle else how.num_puzzles // share,
            how.num_samples,
            how.ks,
        )
        for how in experiment.measurements
    )
    arms: dict[tuple[str, str, int], Arm] = {}
    for env in experiment.envs:
        # Steps of the methods differ in calls, so only the calls bound a run.
        budget = ("optim.steps=1000000", f"optim.max_policy_calls={CALLS[env] // share}")
        for plan in experiment.plans:
            for seed in seeds[:1] if plan.label == BASE else seeds:
                arms[env, plan.label, seed] = Arm(
                    plan.label,
                    env,
                    plan.method,
                    plan.settings,
                    seed,
                    measurements,
                    common=(*budget, *overrides),
                    start_from=arms[env, plan.start_from, seed] if plan.start_from else None,
                )
    return list(arms.values())
