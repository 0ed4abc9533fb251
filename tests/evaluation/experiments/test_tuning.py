"""Tuning: the same trials for every arm, the best once more, decided on validation puzzles."""

import json
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.evaluation.experiments.arms import Arm
from sesa_agent.evaluation.experiments.tuning import (
    GRID,
    RUNGS,
    SCALE_GRID,
    TUNING_SEEDS,
    Trial,
    Tuning,
    best_settings,
    best_third,
    read_ledger,
    trial_counts,
    trials,
)

METHODS = ("ragen", "ragen-2", "ragen-entropy")
BUDGET = "optim.max_policy_calls=8000"
ARMS = tuple(
    Arm(method, "frozen_lake", method, (), 0, (), ("optim.steps=1000000",))
    for method in ("ragen", "sesa")
)


def tuning(count=4, dimensions=("optim.lr",)):
    return Tuning(ARMS, BUDGET, tuple(trials(count, dimensions)))


def outcome(run):
    """A high learning rate is good at first, and bad with the whole budget."""
    words = dict(word.split("=") for word in run.common)
    rate = float(words.get("optim.lr", "5e-5"))
    rate = -rate if words["optim.max_policy_calls"] == "8000" else rate
    return {"measured": {"T=0.5": {"success_rate": rate + (run.seed == 101) / 1000}}}


def test_fewer_trials_are_the_first_of_more_and_begin_with_the_arm_itself():
    many = trials(1000)
    assert len(many) == len({*many}) == 1 + 4 * 3 * 3 * 2 * 2
    assert trials(1) == [Trial()] and trials(9) == many[:9]
    assert all({name for name, _ in trial.values} == {*GRID} for trial in many[1:])


def test_every_arm_gets_the_same_trials_in_every_rung():
    seen = []

    def run_rung(configs):
        seen.append([(run.label, run.seed, run.common[1]) for run in configs])
        assert all(how.split == "validation" for run in configs for how in run.measurements)
        assert all(cfg.optim.max_policy_calls for cfg in configs.values())
        return {run: outcome(run) for run in configs}

    rows = [row for found in tuning().run(run_rung) for row in found]
    for number, count in enumerate((4, 2)):
        labels = [row["arm"] for row in rows if row["rung"] == number]
        assert labels == ["ragen"] * count + ["sesa"] * count
    # One of ragen's trials is the learning rate that it has anyway; the last rung has two seeds.
    assert [len(runs) for runs in seen] == [7, 8]
    assert {budget for _, _, budget in seen[0]} == {"optim.max_policy_calls=4000"}
    assert {seed for _, seed, _ in seen[1]} == {*TUNING_SEEDS}
    assert trial_counts(rows) == {"ragen": 4, "sesa": 4}
    for label in ("ragen", "sesa"):  # the last ones were the best of the rung before
        before, last = (
            {
                row["trial"]: fmean(row["success"])
                for row in rows
                if (row["arm"], row["rung"]) == key
            }
            for key in ((label, 0), (label, 1))
        )
        assert [*last] == sorted(before, key=lambda trial: -before[trial])[:2]


def test_a_trial_that_changes_nothing_shares_the_run_of_the_arm_itself():
    as_it_is = f"{load_config('frozen_lake', 'sesa').optim.lr}"
    twins = Tuning(ARMS[1:], BUDGET, (Trial(), Trial((("optim.lr", as_it_is),))))
    runs = twins.rung_arms(RUNGS[0], {"sesa": twins.trials})
    assert list(runs.values()) == [[*twins.trials]]
    first = next(twins.run(lambda configs: {run: outcome(run) for run in configs}))
    assert len(first) == 2 and first[0]["success"] == first[1]["success"]


def test_a_stopped_tuning_has_the_rungs_that_ended():
    calls = iter((True, False))

    def run_rung(configs):
        done = list(configs) if next(calls) else list(configs)[:1]
        return {run: outcome(run) for run in done}

    found = list(tuning().run(run_rung))
    assert [rows[0]["rung"] for rows in found] == [0]


@pytest.mark.parametrize("method", ["ragen", "sesa"])
@pytest.mark.parametrize("factor", GRID["shape"])
def test_the_shape_keeps_the_trajectories_of_a_step(method, factor):
    cfg = load_config("sokoban", method)
    words = dict(word.split("=") for word in Trial((("shape", factor),)).words(cfg))
    num_tasks, most = (int(words[f"sampling.{n}"]) for n in ("num_tasks", "max_trajectories"))
    before = cfg.sampling.num_tasks * cfg.sampling.max_trajectories
    assert num_tasks * most == before
    load_config("sokoban", method, [f"{key}={value}" for key, value in words.items()])


def test_the_learning_rates_of_a_scale_are_multiples_of_the_arm_s_own():
    assert list(SCALE_GRID) == ["lr_factor", *list(GRID)[1:]]
    cfg = load_config("countdown", "ragen", scale="135m-cpu")
    assert cfg.optim.lr == 2e-5
    assert Trial((("lr_factor", "0.5"),)).words(cfg) == ("optim.lr=1e-05",)
    assert [*trials(3, grid=SCALE_GRID)[1].values][0][0] == "lr_factor"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_none_of_those_left_out_is_better_than_one_that_goes_on(rates):
    success = {Trial((("optim.lr", str(n)),)): rate for n, rate in enumerate(rates)}
    kept = best_third(success)
    assert len(kept) == (len(rates) + 2) // 3
    left_out = [rate for trial, rate in success.items() if trial not in kept]
    assert all(rate <= success[trial] for rate in left_out for trial in kept)


def test_a_ledger_is_read_back_and_one_that_did_not_end_is_refused(tmp_path):
    path = tmp_path / "ledger.json"
    rows = [row for found in tuning().run(lambda c: {r: outcome(r) for r in c}) for row in found]
    path.write_text(json.dumps({"is_finished": True, "rows": rows}))
    best, counts = read_ledger(path)
    assert (best, counts) == (best_settings(rows), {"ragen": 4, "sesa": 4})
    last = [row for row in rows if row["rung"] == len(RUNGS) - 1 and row["arm"] == "sesa"]
    assert best["sesa"] == tuple(max(last, key=lambda row: fmean(row["success"]))["settings"])
    path.write_text(json.dumps({"is_finished": False, "rows": rows}))
    with pytest.raises(SettingError, match="a tuning that ended"):
        read_ledger(path)
    path.write_text("[]")
    with pytest.raises(SettingError, match="a file that sesa-agent tune wrote"):
        read_ledger(path)


def test_every_value_comes_as_often_as_the_others():
    some = trials(9)[1:]
    for place, (name, values) in enumerate(GRID.items()):
        drawn = [trial.values[place] for trial in some]
        counts = [drawn.count((name, value)) for value in values]
        assert max(counts) - min(counts) <= 1


def test_what_makes_an_arm_is_left_as_it_is():
    trial = Trial((("loss.filter_ratio", "0.25"), ("loss.entropy_coef", "0")))
    words = {method: trial.words(load_config("sokoban", method)) for method in METHODS}
    assert words == {
        "ragen": ("loss.filter_ratio=0.25", "loss.entropy_coef=0"),
        "ragen-2": ("loss.entropy_coef=0",),
        "ragen-entropy": ("loss.filter_ratio=0.25",),
    }
