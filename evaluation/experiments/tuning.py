"""Tunes arms with the same number of trials each: successive halving over a small grid.

Every arm gets the same trials: the same combinations of the grid's values, drawn once. All start
with half of the budget, since with less of it the bundled models show nothing yet; the best third
starts anew with all of it and two seeds. Success on validation puzzles decides, or coverage where
an environment says how many answers succeed, with training seeds that no reported run has.
Everything but `Tuning.run` and the reading of ledgers is pure.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ...configs.errors import SettingError, check
from ...configs.json_text import read_json_file
from ...configs.schema import Config
from .arms import Arm, resolve_arm
from .paper import SUCCESS, Metric
from .results import Measurement, Result

TUNING_SEEDS = (100, 101)
"""Training seeds of trials."""
GRID: dict[str, tuple[str, ...]] = {
    "optim.lr": ("3e-5", "1e-4", "3e-4", "1e-3"),
    "optim.num_epochs": ("1", "2", "4"),
    "shape": ("0.5", "1", "2"),
    "loss.filter_ratio": ("0.25", "1"),
    "loss.entropy_coef": ("0", "0.001"),
}
"""The values of each dimension, for the bundled models. `shape` multiplies the puzzles of a step
and divides the trajectories of each."""
SCALE_GRID: dict[str, tuple[str, ...]] = {
    "lr_factor": ("0.5", "1", "2", "4"),
    **{name: values for name, values in GRID.items() if name != "optim.lr"},
}
"""The same for the model of a scale: learning rates that differ with its size, so `lr_factor`
multiplies the arm's own."""
SUCCESS_MEASUREMENT = Measurement(0.5, 512, split="validation")
COVERAGE = Metric("coverage@128", "T=1", "coverage_at_k", 128)
"""What decides where many answers succeed: success is highest if one of them is always given."""
COVERAGE_MEASUREMENT = Measurement(1.0, 4, num_samples=128, ks=(128,), split="validation")
MAX_BONUS = max(map(float, GRID["loss.entropy_coef"]))
MIN_TRAJECTORIES = 2
"""A group of one trajectory teaches nothing."""


@dataclass(frozen=True)
class Rung:
    """A round of successive halving."""

    budget_share: float
    num_seeds: int


RUNGS = (Rung(0.5, 1), Rung(1.0, 2))
"""After each but the last, the best third goes on."""


@dataclass(frozen=True)
class Trial:
    """A combination of the grid's values; empty for the arm as it is."""

    values: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The combination in one line."""
        short = ((name.rpartition(".")[2], value) for name, value in self.values)
        return " ".join(f"{name}={value}" for name, value in short) or "as it is"

    def words(self, cfg: Config) -> tuple[str, ...]:
        """The settings that it changes in an arm, as `group.key=value`.

        What makes an arm is left as it is: a filter of its own, an entropy bonus above the grid's.

        Args:
            cfg: the arm's resolved settings.
        """
        found, loss, sampling = [], cfg.loss, cfg.sampling
        for name, value in self.values:
            if name == "loss.filter_ratio" and loss.filter_top_p:
                continue
            if name == "loss.entropy_coef" and loss.entropy_coef > MAX_BONUS:
                continue
            if name == "lr_factor":
                found.append(f"optim.lr={cfg.optim.lr * float(value):g}")
                continue
            if name != "shape":
                found.append(f"{name}={value}")
                continue
            most = max(MIN_TRAJECTORIES, round(sampling.max_trajectories / float(value)))
            found.append(f"sampling.num_tasks={max(1, round(sampling.num_tasks * float(value)))}")
            found.append(f"sampling.max_trajectories={most}")
            if sampling.num_proposals > most:
                found.append(f"sampling.num_proposals={most}")
        return tuple(found)


def trials(
    count: int, dimensions: Sequence[str] = (), grid: Mapping[str, Sequence[str]] = GRID
) -> list[Trial]:
    """Return the trials of every arm: first the arm as it is, then combinations of the grid.

    The combinations are drawn without replacement with fixed seeds, so fewer trials are the first
    of more, and every value of a dimension comes as often as the others, give or take one.

    Args:
        count: at least 1; at most one more than there are combinations are returned.
        dimensions: names in the grid; empty for all.
        grid: the values of each dimension.

    >>> [trial.name for trial in trials(2, ["optim.lr"], {"optim.lr": ["1e-4", "3e-4"]})]
    ['as it is', 'lr=1e-4']
    """
    names = [name for name in grid if name in (dimensions or grid)]
    streams = [_shuffled(grid[name], seed) for seed, name in enumerate(names)]
    num_combinations = math.prod(len(grid[name]) for name in names)
    found: dict[Trial, None] = {Trial(): None}
    while len(found) < min(count, num_combinations + 1):
        found[Trial(tuple(zip(names, map(next, streams), strict=True)))] = None
    return list(found)


def _shuffled(values: Sequence[str], seed: int) -> Iterator[str]:
    """Yield all values in random order, then all in another order, and so on."""
    rng = np.random.default_rng(seed)
    while True:
        yield from (values[int(place)] for place in rng.permutation(len(values)))


def best_third(success: Mapping[Trial, float]) -> list[Trial]:
    """Return the best third of the trials, rounded up, best first; of equals the earlier one.

    >>> trials = [Trial((("optim.lr", rate),)) for rate in "1234"]
    >>> [trial.name for trial in best_third(dict(zip(trials, (0.1, 0.3, 0.3, 0.2))))]
    ['lr=2', 'lr=3']
    """
    ranking = sorted(success, key=lambda trial: -success[trial])
    return ranking[: math.ceil(len(ranking) / 3)]


def limit(word: str, share: float) -> str:
    """Return a budget's setting with a share of its amount.

    >>> limit("optim.max_policy_calls=1000", 0.25)
    'optim.max_policy_calls=250'
    """
    name, _, amount = word.partition("=")
    return (
        f"{name}={float(amount) * share:g}"
        if "." in amount
        else (f"{name}={max(1, round(int(amount) * share))}")
    )


@dataclass(frozen=True)
class Tuning:
    """The trials of several arms.

    Args:
        arms: one for each label, with the tuning's model and common settings.
        budget: the setting of the whole budget, such as "optim.max_policy_calls=80000".
        trials: of every arm.
        measurement: of validation puzzles.
        metric: what decides.
    """

    arms: tuple[Arm, ...]
    budget: str
    trials: tuple[Trial, ...]
    measurement: Measurement = SUCCESS_MEASUREMENT
    metric: Metric = SUCCESS

    def rung_arms(
        self, rung: Rung, survivors: Mapping[str, Sequence[Trial]]
    ) -> dict[Arm, list[Trial]]:
        """The runs of a rung, with the trials of each: those that change nothing share a run."""
        found: dict[Arm, list[Trial]] = {}
        twins: dict[str, Arm] = {}
        for arm in self.arms:
            for trial in survivors[arm.label]:
                words = trial.words(resolve_arm(arm))
                common = (*arm.common, limit(self.budget, rung.budget_share), *words)
                for seed in TUNING_SEEDS[: rung.num_seeds]:
                    run = replace(arm, seed=seed, measurements=(self.measurement,), common=common)
                    run = twins.setdefault(f"{arm.label} {resolve_arm(run)}", run)
                    found.setdefault(run, []).append(trial)
        return found

    def run(
        self, run_rung: Callable[[Mapping[Arm, Config]], Mapping[Arm, Result]]
    ) -> Iterator[list[dict[str, Any]]]:
        """Run the rungs one after another; yields the rows of the ledger of each.

        Args:
            run_rung: trains and measures arms, or reuses their results; leaves some out if it was
                stopped, and the tuning then ends.
        """
        survivors: dict[str, Sequence[Trial]] = {arm.label: self.trials for arm in self.arms}
        for number, rung in enumerate(RUNGS):
            runs = self.rung_arms(rung, survivors)
            results = run_rung({run: resolve_arm(run) for run in runs})
            if len(results) < len(runs):
                return
            success: dict[str, dict[Trial, list[float]]] = {}
            for run, shared in runs.items():
                rate = float(self.metric.value(results[run]) or 0.0)
                for trial in shared:
                    success.setdefault(run.label, {}).setdefault(trial, []).append(rate)
            yield [
                {
                    "arm": arm.label,
                    "rung": number,
                    "trial": trial.name,
                    "settings": list(trial.words(resolve_arm(arm))),
                    "budget": limit(self.budget, rung.budget_share),
                    "seeds": list(TUNING_SEEDS[: rung.num_seeds]),
                    "success": rates,
                }
                for arm in self.arms
                for trial, rates in success[arm.label].items()
            ]
            survivors = {
                label: best_third({trial: fmean(rates) for trial, rates in found.items()})
                for label, found in success.items()
            }


def best_settings(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the settings of each arm's best trial in the last rung of a finished ledger.

    Args:
        rows: of the ledger.
    """
    last = max(row["rung"] for row in rows)
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        best = found.get(row["arm"])
        if row["rung"] == last and (not best or fmean(row["success"]) > fmean(best["success"])):
            found[row["arm"]] = row
    return {label: tuple(row["settings"]) for label, row in found.items()}


def trial_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many trials each arm had."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["arm"]] = counts.get(row["arm"], 0) + (row["rung"] == 0)
    return counts


def read_ledger(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Read a ledger: each arm's best settings, and how many trials it had.

    Raises:
        SettingError: if it is none, or of a tuning that did not end.
    """
    with _reading(path):
        values = read_json_file(path)
        is_finished, rows = values["is_finished"], values["rows"]
        found = best_settings(rows), trial_counts(rows)
    check(bool(is_finished), "--tuned", str(path), "of a tuning that ended", "Run it again.")
    return found


def ledger_env(path: Path) -> str:
    """Return the environment of a ledger.

    Raises:
        SettingError: if it is none.
    """
    with _reading(path):
        return str(read_json_file(path)["env"])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one line that a file is no ledger."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(
            f"--tuned must be a file that sesa-agent tune wrote, got {str(path)!r}."
        ) from error
