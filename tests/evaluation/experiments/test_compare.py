"""Arms compared with each other: what the table holds, and what the sentences claim."""

import json
from pathlib import Path

import pytest

from sesa_agent.evaluation.experiments.compare import compare, gain_ratio
from sesa_agent.evaluation.experiments.sentences import comparison_to_json, notes, sentence
from sesa_agent.evaluation.significance import episodes_needed, seeds_needed, welch_test


def result(label, seed, wins, calls=100, env="sokoban", ratio: float | None = 2.0):
    """A run that solved or failed each puzzle, "1 0 1"."""
    rate = sum(map(int, wins.split())) / len(wins.split())
    cold = {"success_rate": rate, "low": rate / 2, "high": (1 + rate) / 2, "wins": wins}
    return {
        "label": label,
        "env": env,
        "seed": seed,
        "policy_calls": 0 if label == "base" else calls + seed,
        "response_tokens": 10 * calls,
        "env_steps": 50,
        "seconds": 1.5,
        "measured": {"T=0.5": cold, "T=1": {"pass_ratio": ratio}},
    }


def wins(count: int, of: int = 10) -> str:
    return " ".join(["1"] * count + ["0"] * (of - count))


RESULTS = Path(__file__).parents[3] / "results"
THREE = [
    *(result("base", seed, wins(2)) for seed in (0, 1, 2)),
    *(result("ragen", seed, wins(count)) for seed, count in enumerate((3, 4, 2))),
    *(result("sesa", seed, wins(count)) for seed, count in enumerate((7, 8, 6))),
]
SURE = [result("ragen", seed, wins(count, 100)) for seed, count in enumerate((29, 30, 31))]
SURE += [result("base", seed, wins(20, 100)) for seed in range(3)]
SURE += [result("sesa", seed, wins(count, 100)) for seed, count in enumerate((70, 80, 60))]


def test_the_table_joins_seeds_and_has_gains_over_the_base():
    base, ragen, sesa = compare(THREE, "sesa").rows
    assert [row.label for row in (base, ragen, sesa)] == ["base", "ragen", "sesa"]
    assert sesa.success.each == [0.7, 0.8, 0.6]
    # mean .7, s = .1, t = 4.302653 with 2 degrees of freedom
    half = 4.302653 * 0.1 / 3**0.5
    found = (sesa.success.mean, sesa.success.low, sesa.success.high)
    assert found == pytest.approx((0.7, 0.7 - half, 0.7 + half))
    assert sesa.iqm.mean == pytest.approx(0.7)
    assert (sesa.gain, sesa.relative_gain) == (pytest.approx(0.5), pytest.approx(2.5))
    assert (base.gain, base.relative_gain) == (None, None)
    assert (base.success.low, base.success.high) == pytest.approx((0.2, 0.2))
    assert sesa.spent == {
        "policy_calls": 101,
        "response_tokens": 1000,
        "env_steps": 50,
        "seconds": 1.5,
    }
    assert sesa.pass_ratio.mean == 2


def test_a_pair_has_both_tests():
    pairs = compare(THREE, "sesa").pairs
    assert [(pair.reference, pair.other) for pair in pairs] == [("sesa", "base"), ("sesa", "ragen")]
    pair = pairs[1]
    assert pair.difference == pytest.approx(0.4)
    # At 6 of the 10 puzzles sesa wins with more seeds, and nowhere with fewer: p = 2 / 2^6
    assert (pair.num_pairs, pair.only_reference, pair.only_other) == (30, 12, 0)
    assert pair.runs_p == pytest.approx(2 / 64)
    low, high, p = welch_test([0.7, 0.8, 0.6], [0.3, 0.4, 0.2]) or (0, 0, 0)
    assert (pair.methods_interval, pair.methods_p) == ((low, high), p)
    # Two pairs: the smaller p value is doubled, and the larger one is at least that.
    assert p < (pairs[0].methods_p or 0) < 2 * p
    assert [one.methods_p_corrected for one in pairs] == pytest.approx([2 * p, 2 * p])
    assert pair.permutation_p == pytest.approx(2 / 20)  # 3 of 6 seeds: 20 ways
    assert pair.improvement == (1.0, 1.0, 1.0)
    assert (pair.episodes_needed, pair.seeds_needed) == (None, None)
    words = sentence(pair)
    assert words.startswith("sesa 0.700, ragen 0.300 (difference +0.400, 95 % interval +0.173 to")
    for part in (
        "The methods differ (p = 0.008, Welch, 3 and 3 seeds; "
        "p = 0.016 after Holm's correction for the pairs shown; p = 0.100, permutation test)",
        "These runs differ (p = 0.031, sign-flip test over puzzles, 30 pairs of episodes)",
    ):
        assert part in words


def test_there_is_a_ratio_of_gains_only_where_the_other_gain_is_shown():
    """A gain of .001 within +-.03 was the divisor of a page that said "321.0 times"."""
    assert gain_ratio(0.7, 0.3, 0.2, (0.01, 0.19)) == pytest.approx(5)
    assert gain_ratio(0.7, 0.3, 0.2, (0.0, 0.2)) is None
    assert gain_ratio(0.7, 0.1, 0.2, (-0.15, -0.05)) is None  # no gain at all
    # ragen .3, .4, .2 against three times .2: .1 +- 4.302653 * .1 / sqrt(3)
    pair = compare(THREE, "sesa").pairs[1]
    assert pair.other_gain == pytest.approx((0.1 - 0.248414, 0.1 + 0.248414), abs=1e-6)
    assert pair.gain_ratio is None
    assert "no ratio of gains: ragen's own has the 95 % interval -0.148 to +0.348" in sentence(pair)
    # .29, .3, .31: .1 +- .024841
    pair = compare(SURE, "sesa").pairs[0]
    assert pair.other_gain == pytest.approx((0.1 - 0.0248414, 0.1 + 0.0248414), abs=1e-6)
    assert pair.gain_ratio == pytest.approx(5)
    assert "5.0 times its gain over base" in sentence(pair)


@pytest.mark.parametrize(("count", "ratio"), [(2, None), (9, 8 / 7)])
def test_with_one_seed_the_gain_is_tested_over_puzzles(count, ratio):
    arms = zip(("base", "ragen", "sesa"), (2, count, 10), strict=True)
    pair = compare([result(arm, 0, wins(num)) for arm, num in arms], "sesa").pairs[1]
    assert pair.gain_ratio == (ratio and pytest.approx(ratio))
    other_wins = [
        result("base", 0, wins(2)),
        result("ragen", 1, wins(9)),
        result("sesa", 1, "1 " * 10),
    ]
    pair = compare(other_wins, "sesa").pairs[1]  # no common seed
    assert (pair.other_gain, pair.gain_ratio) == (None, None)
    assert "ratio" not in sentence(pair)


def test_stored_pages_say_what_their_runs_show():
    """`scripts/rewrite_comparisons.py` makes a page again from the runs in its JSON file."""
    stored = {path: json.loads(path.read_text()) for path in sorted(RESULTS.rglob("*.json"))}
    stored = {path: v for path, v in stored.items() if isinstance(v, dict) and "comparison" in v}
    assert len(stored) >= 6
    for path, values in stored.items():
        lines = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
        told = [line[2:] for line in lines if line.startswith("- ")]
        assert told == values["comparison"]["sentences"], path
    values = stored[RESULTS / "frozen_lake.json"]
    found = comparison_to_json(compare(values["arms"], values["comparison"]["reference"]))
    assert {"reference": "sesa", **json.loads(json.dumps(found))} == values["comparison"]


def test_a_difference_that_is_not_shown_says_what_would_show_it():
    results = [result("a", n, wins(count)) for n, count in enumerate((3, 5))]
    results += [result("b", n, wins(count)) for n, count in enumerate((4, 2))]
    (pair,) = compare(results, "a").pairs
    assert pair.episodes_needed == episodes_needed(0.4, 0.3)
    assert pair.seeds_needed == seeds_needed([0.3, 0.5], [0.4, 0.2])
    words = sentence(pair)
    assert "The methods do not differ significantly" in words
    assert f"would need {pair.seeds_needed} seeds per arm" in words
    assert f"would need {pair.episodes_needed} episodes per arm" in words
    assert pair.gain_ratio is None


def test_one_seed_cannot_test_the_methods():
    results = [result("ragen", 0, wins(1)), result("sesa", 0, wins(9))]
    comparison = compare(results, "sesa")
    (pair,) = comparison.pairs
    assert (pair.methods_p, pair.methods_interval, pair.seeds_needed) == (None, None, None)
    assert pair.runs_p == pytest.approx(2 / 2**8)
    assert "The methods cannot be tested: that needs at least two seeds" in sentence(pair)
    row = comparison.rows[0]
    assert (row.success.low, row.success.high, row.success.over) == (0.05, 0.55, "puzzles")
    assert "An arm with one seed has the 95 % Wilson interval over puzzles." in notes(
        comparison.rows
    )


def test_runs_without_a_common_seed_are_not_paired():
    results = [result("a", seed, wins(2 + seed)) for seed in (0, 1)]
    results += [result("b", seed, wins(2 + seed)) for seed in (2, 3)]
    (pair,) = compare(results, "a").pairs
    assert (pair.num_pairs, pair.runs_p, pair.runs_interval) == (0, None, None)
    assert pair.methods_p is not None
    assert "McNemar" not in sentence(pair)


def test_seeds_without_variance_cannot_test_the_methods():
    results = [result(label, seed, wins(3)) for label in "ab" for seed in (0, 1)]
    (pair,) = compare(results, "a").pairs
    assert (pair.methods_p, pair.runs_p, pair.episodes_needed) == (None, 1, None)
    assert "all seeds have the same success" in sentence(pair)


def test_arms_that_played_different_puzzles_are_rejected():
    with pytest.raises(ValueError, match="same seeds and puzzles"):
        compare([result("a", 0, wins(3)), result("b", 0, wins(3, of=12))], "a")


def test_unequal_budgets_are_reported():
    def budget_of(**calls):
        arms = [result(label, 0, wins(1), calls=count) for label, count in calls.items()]
        base = result("base", 0, wins(1), calls=0)
        return notes(compare([base, *arms], "a").rows)[-1]

    words = "sokoban: equal budgets, within 10 %, of policy calls, response tokens, env steps, "
    assert budget_of(a=1000, b=1050) == f"{words}seconds."
    same_steps = budget_of(a=1000, b=2000)
    assert "policy calls" not in same_steps
    assert "env steps" in same_steps
    arms = [result(label, 0, wins(1), calls) for label, calls in (("a", 4000), ("b", 9000))]
    for arm, share in zip(arms, (1, 3), strict=True):
        arm.update(env_steps=share, seconds=share)
    line = notes(compare(arms, "a").rows)[-1]
    assert line == "sokoban: UNEQUAL budgets, from 4000 policy calls (a) to 9000 (b)."


def test_environments_are_compared_apart():
    results = [*THREE, *(result(arm, 0, wins(5), env="lake") for arm in ("ragen", "sesa"))]
    values = comparison_to_json(compare(results, "sesa"))
    json.dumps(values, allow_nan=False)  # raises if there is anything that JSON lacks
    found = [(pair["env"], pair["other"]) for pair in values["pairs"]]
    assert found == [("sokoban", "base"), ("sokoban", "ragen"), ("lake", "ragen")]
    assert [line.split(":")[0] for line in values["sentences"]] == ["sokoban", "sokoban", "lake"]
    assert values["rows"][-1]["gain"] is None
    assert values["pairs"][1]["difference"] == pytest.approx(0.4)


def test_an_attempt_that_never_succeeds_leaves_ratios_out():
    results = [result("base", 0, wins(0), ratio=None), result("sesa", 0, wins(1), ratio=None)]
    base, sesa = compare(results, "sesa").rows
    assert (base.pass_ratio.mean, base.pass_ratio.each) == (None, [None])
    assert (sesa.gain, sesa.relative_gain) == (0.1, None)


def test_games_are_summarized_together():
    games = [result("sesa", n, wins(count), env="a") for n, count in enumerate((5, 7))]
    games += [result("ragen", n, wins(count), env="a") for n, count in enumerate((5, 3))]
    games += [result("sesa", n, wins(count), env="b") for n, count in enumerate((2, 2))]
    games += [result("ragen", n, wins(count), env="b") for n, count in enumerate((1, 9))]
    games += [result("only in a", n, wins(1), env="a") for n in range(2)]
    sesa, ragen = compare(games, "sesa").overall
    assert (sesa.label, ragen.label, sesa.improvement) == ("sesa", "ragen", None)
    assert sesa.iqm[0] == pytest.approx((0.2 + 0.5) / 2)  # of .2, .2, .5, .7
    # In a: 5 > 3, 7 > 5, 7 > 3 and 5 = 5; in b: 2 > 1 twice, 2 < 9 twice
    assert ragen.improvement is not None
    assert ragen.improvement[0] == pytest.approx((3.5 / 4 + 2 / 4) / 2)
    assert compare(games[:4], "sesa").overall == []
