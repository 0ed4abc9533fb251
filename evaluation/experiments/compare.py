"""Compares arms: the paper's Table 1 with intervals and tests. Pure functions of `run_arm` results.

Success is measured at T = .5, pass@16 / pass@1 at T = 1, on the same held-out puzzles for all arms.
One arm is the reference, against which every other arm is tested. Every pair has two tests of two
claims: that these runs differ (over puzzles) and that the methods differ (Welch's test, over
training seeds). The p values of the methods are also corrected for the number of pairs (Holm), and
an exact permutation test, which assumes no distribution, stands beside them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from ..significance import (
    ALPHA,
    episodes_needed,
    holm,
    mcnemar_test,
    paired_difference,
    permutation_test,
    runs_test,
    seeds_needed,
    welch_test,
)
from ..statistics import improvement_interval, iqm_interval, t_interval
from .arms import BASE
from .paper import PASS_RATIO, RETURN, SUCCESS
from .results import SPENT, Result

Triple = tuple[float, float | None, float | None]
"""A number and the ends of its 95 % bootstrap interval over seeds; None with one seed."""


@dataclass(frozen=True)
class Estimate:
    """A number over the seeds of an arm; what does not exist is None."""

    mean: float | None
    low: float | None
    """Ends of the 95 % interval."""
    high: float | None
    over: str | None
    """The unit of the interval: "seeds" (t or bootstrap) or, with one seed, "puzzles" (Wilson)."""
    each: list[float | None]
    """The number of each seed."""


@dataclass(frozen=True)
class Row:
    """An arm in one environment."""

    env: str
    label: str
    seeds: list[int]
    success: Estimate
    """Mean success rate with its t interval."""
    iqm: Estimate
    """Interquartile mean of the success rates with its bootstrap interval."""
    pass_ratio: Estimate
    gain: float | None
    """Success minus that of the base; None for the base itself or without one."""
    relative_gain: float | None
    """`gain` divided by the base's success, the paper's percentage; None if that is 0."""
    spent: dict[str, float]
    """What training spent, mean over seeds, by the names in `SPENT`."""
    mean_return: Estimate
    """Mean return with its t interval; unknown for results of older versions."""


@dataclass(frozen=True)
class Pair:
    """The reference arm against another arm in one environment."""

    env: str
    reference: str
    other: str
    rates: tuple[float, float]
    """Mean success of both, over their seeds."""
    num_seeds: tuple[int, int]
    methods_interval: tuple[float, float] | None
    """95 % interval of the difference of the means, over training seeds (Welch); None with one
    seed."""
    methods_p: float | None
    """p value for the claim that the methods differ."""
    methods_p_corrected: float | None
    """The same, corrected for the number of pairs that are shown together (Holm)."""
    permutation_p: float | None
    """p value of the permutation test of the same claim."""
    improvement: Triple
    """Probability that a run of the reference is better than one of the other arm."""
    num_common_seeds: int
    """Seeds that both have; without any, the test of these runs is impossible."""
    num_pairs: int
    """Pairs of runs with the same seed on the same puzzle."""
    only_reference: int
    """Pairs in which only the reference succeeded."""
    only_other: int
    runs_interval: tuple[float, float] | None
    """95 % interval of the difference, over the puzzles of these runs (paired bootstrap)."""
    runs_p: float | None
    """p value for the claim that these runs differ."""
    other_gain: tuple[float, float] | None
    """95 % interval of the other arm's gain over base (`_gain_interval`); None without a base."""
    gain_ratio: float | None
    """The reference's gain over base divided by the other arm's (`gain_ratio`)."""
    episodes_needed: int | None
    """Episodes per arm that would show the difference; None if these runs show it."""
    seeds_needed: int | None
    """Seeds per arm that would show the difference; None if it is shown, or with one seed, whose
    spread is unknown."""

    @property
    def difference(self) -> float:
        """Mean success of the reference minus that of the other arm."""
        return self.rates[0] - self.rates[1]


@dataclass(frozen=True)
class Overall:
    """An arm over all games."""

    label: str
    iqm: Triple
    """Interquartile mean of the success rates of all its runs."""
    improvement: Triple | None
    """Probability that a run of the reference is better than one of this arm, averaged over games;
    None for the reference itself."""


@dataclass(frozen=True)
class Comparison:
    """All arms, and the reference against each of the others."""

    rows: list[Row]
    pairs: list[Pair]
    overall: list[Overall]
    """The arms that were run in all games; empty with one game."""


def compare(results: Sequence[Result], reference: str) -> Comparison:
    """Compare arms, environment by environment.

    Args:
        results: results of `run_arm`, several seeds of each arm.
        reference: label of the arm against which the others are tested.

    Raises:
        ValueError: if arms of one environment played different puzzles.
    """
    envs: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        envs.setdefault(result["env"], {}).setdefault(result["label"], []).append(result)
    rows, pairs = [], []
    for env, arms in envs.items():
        base = arms.get(BASE)
        rows += [_row(env, label, arm, base) for label, arm in arms.items()]
        for label, arm in arms.items():
            if label != reference and reference in arms:
                pairs.append(_pair(env, (reference, label), (arms[reference], arm), base))
    corrected = holm([pair.methods_p for pair in pairs])
    pairs = [replace(pair, methods_p_corrected=p) for pair, p in zip(pairs, corrected, strict=True)]
    return Comparison(rows, pairs, overall(list(envs.values()), reference))


def overall(games: Sequence[Mapping[str, Sequence[Result]]], reference: str) -> list[Overall]:
    """Summarize each arm over several games; see `Comparison.overall`."""
    if len(games) < 2:
        return []
    labels = [label for label in games[0] if all(label in arms for arms in games)]
    rates = {label: [_rates(arms[label]) for arms in games] for label in labels}
    ours = rates.get(reference)
    return [
        Overall(
            label,
            _triple(iqm_interval(*each)),
            None
            if ours is None or label == reference
            else _triple(improvement_interval(list(zip(ours, each, strict=True)))),
        )
        for label, each in rates.items()
    ]


def gain_ratio(
    rate: float, other: float, base: float, other_gain: tuple[float, float]
) -> float | None:
    """Divide a method's gain over the base by another method's gain, if that is shown to be one.

    (rate - base) / (other - base). A divisor that may be 0 gives any number: a gain of +.001 within
    +-.03 once made "321 times". So there is a ratio only if the other's interval lies above 0. The
    paper's "211 % larger improvement" on Sokoban (section 4.1, Table 1) is a gain ratio of 4.2: its
    211 % are the difference of the relative gains of +277.8 % and +66.7 %, so (rate - other) /
    base.

    Args:
        rate: success of the method.
        other: success of the other method.
        base: success before training.
        other_gain: 95 % interval of `other` - `base`.

    Returns:
        The ratio, or None.

    >>> sesa, ragen_entropy, base = 0.34, 0.15, 0.09
    >>> round(gain_ratio(sesa, ragen_entropy, base, other_gain=(0.03, 0.09)), 2)
    4.17
    >>> gain_ratio(sesa, ragen_entropy, base, other_gain=(-0.01, 0.13)) is None
    True
    >>> round(relative_gain(sesa, base) - relative_gain(ragen_entropy, base), 2)
    2.11
    """
    return (rate - base) / (other - base) if other_gain[0] > 0 else None


def relative_gain(rate: float, base: float) -> float | None:
    """(rate - base) / base; None if the base never succeeds.

    >>> round(relative_gain(0.34, 0.09), 3)
    2.778
    """
    return (rate - base) / base if base else None


def estimate(
    each: Sequence[float | None],
    interval: Callable[[Sequence[float]], tuple[float, float, float]] = t_interval,
    puzzle_interval: tuple[float, float] | None = None,
) -> Estimate:
    """Summarize one number per seed.

    Args:
        each: the numbers; None where a seed has none, which the mean ignores.
        interval: returns mean, lower and upper end of several numbers.
        puzzle_interval: ends for a single seed, which has no spread.
    """
    found = [value for value in each if value is not None]
    if not found:
        return Estimate(None, None, None, None, list(each))
    centre, low, high = interval(found)
    if not math.isnan(low):
        return Estimate(centre, low, high, "seeds", list(each))
    if puzzle_interval is None or len(each) > 1:
        return Estimate(centre, None, None, None, list(each))
    return Estimate(centre, *puzzle_interval, "puzzles", list(each))


def _row(env: str, label: str, arm: Sequence[Result], base_arm: Sequence[Result] | None) -> Row:
    rates = [SUCCESS.value(result) for result in arm]
    rate = _mean_success(arm)
    base = None if label == BASE or base_arm is None else _mean_success(base_arm)
    return Row(
        env=env,
        label=label,
        seeds=[result["seed"] for result in arm],
        success=estimate(rates, t_interval, SUCCESS.puzzle_interval(arm[0])),
        iqm=estimate(rates, iqm_interval),
        pass_ratio=estimate([PASS_RATIO.value(result) for result in arm]),
        gain=None if base is None else rate - base,
        relative_gain=None if base is None else relative_gain(rate, base),
        spent={name: sum(result[name] for result in arm) / len(arm) for name in SPENT},
        mean_return=estimate(
            [RETURN.value(result) for result in arm], t_interval, RETURN.puzzle_interval(arm[0])
        ),
    )


def _pair(
    env: str,
    labels: tuple[str, str],
    arms: tuple[Sequence[Result], Sequence[Result]],
    base: Sequence[Result] | None,
) -> Pair:
    first, second = map(_rates, arms)
    rates = fmean(first), fmean(second)
    methods = welch_test(first, second)
    paired = _paired_outcomes(*arms)
    common = len(paired[0])
    only_reference, only_other, _ = mcnemar_test(*paired) if common else (0, 0, None)
    p = runs_test(*paired) if common else None
    other_gain = _gain_interval(arms[1], base) if base and BASE not in labels else None
    sees_runs = p is not None and p < ALPHA
    sees_methods = methods is not None and methods[2] < ALPHA
    return Pair(
        env=env,
        reference=labels[0],
        other=labels[1],
        rates=rates,
        num_seeds=(len(first), len(second)),
        methods_interval=methods[:2] if methods else None,
        methods_p=methods[2] if methods else None,
        methods_p_corrected=None,  # known with all pairs
        permutation_p=permutation_test(first, second),
        improvement=_triple(improvement_interval([(first, second)])),
        num_common_seeds=common,
        num_pairs=sum(map(len, paired[0])),
        only_reference=only_reference,
        only_other=only_other,
        runs_interval=paired_difference(*paired)[1:] if common else None,
        runs_p=p,
        other_gain=other_gain,
        gain_ratio=gain_ratio(*rates, _mean_success(base), other_gain)
        if base and other_gain
        else None,
        episodes_needed=None if sees_runs else episodes_needed(*rates),
        seeds_needed=None if sees_methods else seeds_needed(first, second),
    )


def _triple(found: tuple[float, float, float]) -> Triple:
    """None instead of NaN, which JSON does not have."""
    centre, low, high = found
    return (centre, None, None) if math.isnan(low) else (centre, low, high)


def _gain_interval(arm: Sequence[Result], base: Sequence[Result]) -> tuple[float, float] | None:
    """95 % interval of an arm's gain over base: over training seeds, or, with one, over puzzles."""
    methods = welch_test(_rates(arm), _rates(base))
    if methods:
        return methods[:2]
    paired = _paired_outcomes(arm, base)
    return paired_difference(*paired)[1:] if paired[0] else None


def _paired_outcomes(
    first: Sequence[Result], second: Sequence[Result]
) -> tuple[list[list[int]], list[list[int]]]:
    """Outcomes of both arms for their S common seeds, each (S, N)."""
    runs = [{result["seed"]: _outcomes(result) for result in arm} for arm in (first, second)]
    common = [seed for seed in runs[0] if seed in runs[1]]
    return [runs[0][seed] for seed in common], [runs[1][seed] for seed in common]


def _rates(arm: Sequence[Result]) -> list[float]:
    return [result["measured"][SUCCESS.measurement]["success_rate"] for result in arm]


def _mean_success(arm: Sequence[Result]) -> float:
    return fmean(_rates(arm))


def _outcomes(result: Mapping[str, Any]) -> list[int]:
    return [int(wins) for wins in result["measured"][SUCCESS.measurement]["wins"].split()]
