"""What a comparison shows, in sentences: one per pair, and whether the budgets are equal."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..significance import ALPHA
from .compare import Comparison, Pair, Row
from .results import SPENT

EQUAL_WITHIN = 1.1
"""Budgets count as equal up to this ratio: an arm finishes the step in which it reaches its own."""


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Plain values for `json.dump`: what is compared, a sentence per pair, and `notes`."""
    return {
        "rows": [_row_to_json(row) for row in comparison.rows],
        "pairs": [asdict(pair) | {"difference": pair.difference} for pair in comparison.pairs],
        "overall": [asdict(arm) for arm in comparison.overall],
        "sentences": sentences(comparison),
        "notes": notes(comparison.rows),
    }


def _row_to_json(row: Row) -> dict[str, Any]:
    """A row; without a mean return if its results are older than that."""
    values = asdict(row)
    if row.mean_return.mean is None:
        del values["mean_return"]
    return values


def sentences(comparison: Comparison) -> list[str]:
    """A sentence for every pair; it begins with the environment if there are several."""
    has_envs = len({row.env for row in comparison.rows}) > 1
    prefixes = [f"{pair.env}: " if has_envs else "" for pair in comparison.pairs]
    return [
        prefix + sentence(pair) for prefix, pair in zip(prefixes, comparison.pairs, strict=True)
    ]


def sentence(pair: Pair) -> str:
    """Say what a pair shows, and how many runs or episodes would show what it does not."""
    first, second = pair.rates
    words = f"{pair.reference} {first:.3f}, {pair.other} {second:.3f}"
    if pair.methods_interval:
        words += f" (difference {pair.difference:+.3f}, {_ends(pair.methods_interval)})"
    if pair.gain_ratio is not None:
        words += f", {pair.gain_ratio:.1f} times its gain over base"
    elif pair.other_gain:
        words += f", no ratio of gains: {pair.other}'s own has the {_ends(pair.other_gain)}"
    return f"{words}. {_claim_of_methods(pair)} {_claim_of_runs(pair)}".strip()


def notes(rows: Sequence[Row]) -> list[str]:
    """Explain the intervals, and say whether the arms had equal budgets."""
    counts = [len(row.seeds) for row in rows]
    lines = []
    if max(counts) > 1:
        lines.append("Means over seeds with 95 % t intervals; IQM with a bootstrap over seeds.")
    if 1 < max(counts) < 10:
        lines.append("With so few seeds a bootstrap interval is too narrow; a t interval is not.")
    if min(counts) == 1:
        lines.append("An arm with one seed has the 95 % Wilson interval over puzzles.")
    return [*lines, *map(budget_line, _trained_by_env(rows))]


def budget_line(rows: Sequence[Row]) -> str:
    """Say which budgets are equal for the trained arms of one environment."""
    words = {name: name.replace("_", " ") for name in SPENT}
    ends = {name: sorted(rows, key=lambda row: row.spent[name]) for name in SPENT}
    equal = [
        words[name]
        for name, (first, *_, last) in ends.items()
        if 0 < last.spent[name] <= EQUAL_WITHIN * first.spent[name]
    ]
    if equal:
        return f"{rows[0].env}: equal budgets, within 10 %, of {', '.join(equal)}."
    low, *_, high = ends["policy_calls"]
    return (
        f"{rows[0].env}: UNEQUAL budgets, from {low.spent['policy_calls']:.0f} policy calls "
        f"({low.label}) to {high.spent['policy_calls']:.0f} ({high.label})."
    )


def _trained_by_env(rows: Sequence[Row]) -> list[list[Row]]:
    """The trained arms of each environment that has at least two."""
    envs: dict[str, list[Row]] = {}
    for row in rows:
        if row.spent["policy_calls"]:
            envs.setdefault(row.env, []).append(row)
    return [trained for trained in envs.values() if len(trained) > 1]


def _claim_of_methods(pair: Pair) -> str:
    counts = f"{pair.num_seeds[0]} and {pair.num_seeds[1]} seeds"
    if min(pair.num_seeds) < 2:
        return "The methods cannot be tested: that needs at least two seeds of each."
    if pair.methods_p is None:
        return f"The methods cannot be tested: all seeds have the same success ({counts})."
    size = ""
    if pair.seeds_needed:
        size = f"a difference of this size would need {pair.seeds_needed:,} seeds per arm"
    tests = [f"{_show_p(pair.methods_p)}, Welch, {counts}"]
    corrected = pair.methods_p if pair.methods_p_corrected is None else pair.methods_p_corrected
    if corrected != pair.methods_p:
        tests.append(f"{_show_p(corrected)} after Holm's correction for the pairs shown")
    if pair.permutation_p is not None:
        tests.append(f"{_show_p(pair.permutation_p)}, permutation test")
    return _claim("The methods", corrected, "; ".join(tests), size)


def _claim_of_runs(pair: Pair) -> str:
    if pair.runs_p is None:
        return ""
    name = "McNemar" if pair.num_common_seeds == 1 else "sign-flip test over puzzles"
    num = pair.episodes_needed
    size = f"that would need {num:,} episodes per arm" if num else ""
    test = f"{_show_p(pair.runs_p)}, {name}, {pair.num_pairs:,} pairs of episodes"
    return _claim("These runs", pair.runs_p, test, size)


def _claim(what: str, p: float, test: str, size_needed: str) -> str:
    """Say whether a test shows a difference, and what would be needed if not."""
    if p < ALPHA:
        return f"{what} differ ({test})."
    return f"{what} do not differ significantly ({test}){size_needed and f': {size_needed}'}."


def _show_p(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.3f}"


def _ends(interval: tuple[float, float]) -> str:
    return f"95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}"
