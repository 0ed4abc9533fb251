"""What arms have learnt when they have spent the same: calls, environment steps or time.

A run spends its budget of policy calls, and the others as they come. Its curve, the success on
validation puzzles during training, tells what it had reached at any earlier point. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from .results import CPU_SECONDS, Result

BUDGETS = ("policy_calls", "env_steps", "seconds", CPU_SECONDS)
"""The budgets that are made equal, if every run has counted them."""
METRIC = "eval/success_rate"


@dataclass(frozen=True)
class EqualBudgets:
    """The trained arms of one environment at equal budgets."""

    env: str
    amounts: dict[str, float]
    """What is spent of each budget: as much as every run has, at its last evaluation."""
    success: dict[str, dict[str, float]]
    """Mean success on validation puzzles over the seeds, by arm and budget."""


def equal_budgets(results: Sequence[Result]) -> list[EqualBudgets]:
    """Read the curves of all arms at the largest amounts that every run has spent.

    Between two evaluations success is taken to grow evenly.

    Args:
        results: results of `run_arm`; those without a curve are left out.

    Returns:
        One for each environment with at least two trained arms.
    """
    envs: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        if len(result.get("curve") or ()) > 1:
            envs.setdefault(result["env"], {}).setdefault(result["label"], []).append(result)
    return [_at_equal(env, arms) for env, arms in envs.items() if len(arms) > 1]


def success_at(curve: Sequence[dict[str, float]], budget: str, amount: float) -> float:
    """Success of a run when it had spent an amount.

    Args:
        curve: evaluations, as `results.curve` returns them.
        budget: one of `BUDGETS`.
        amount: of it; before the first evaluation its success counts, after the last one that.

    >>> curve = [{"seconds": 0, METRIC: 0.2}, {"seconds": 60, METRIC: 0.4}]
    >>> round(success_at(curve, "seconds", 15), 3)
    0.25
    """
    spent, success = [row[budget] for row in curve], [row[METRIC] for row in curve]
    return float(np.interp(amount, spent, success))


def equal_budgets_note(found: Sequence[EqualBudgets]) -> str:
    """Say what the columns of a table of equal budgets hold."""
    words = {name: name.replace("_", " ") for name in BUDGETS}
    amounts = {
        each.env: ", ".join(f"{amount:,.0f} {words[name]}" for name, amount in each.amounts.items())
        for each in found
    }
    told = [f"{env}: {text}" if len(amounts) > 1 else text for env, text in amounts.items()]
    return (
        f"Success on validation puzzles when every run had spent the same ({'; '.join(told)}), "
        "mean over seeds. It is read from the curves of training, so the budgets end at the last "
        "evaluation that every run has."
    )


def _at_equal(env: str, arms: dict[str, list[Result]]) -> EqualBudgets:
    curves = {label: [result["curve"] for result in arm] for label, arm in arms.items()}
    ends = [curve[-1] for each in curves.values() for curve in each]
    amounts = {name: min(end.get(name, 0.0) for end in ends) for name in BUDGETS}
    amounts = {name: amount for name, amount in amounts.items() if amount}
    success = {
        label: {
            name: fmean(success_at(curve, name, amount) for curve in each)
            for name, amount in amounts.items()
        }
        for label, each in curves.items()
    }
    return EqualBudgets(env, amounts, success)
