"""`sesa-agent tune`: mistakes are told first; a ledger whose best settings `compare` trains."""

import json
from pathlib import Path

import pytest

from sesa_agent.commands.tune import TuneOptions, make_tuning
from sesa_agent.evaluation.experiments.arms import resolve_arm
from sesa_agent.evaluation.experiments.tuning import RUNGS, TUNING_SEEDS

from ...helpers.tiny_models import SMALL_GROUPS

LAKE = ("--env", "frozen_lake")
SMALL = ("env.max_turns=2", *SMALL_GROUPS, "engine.max_new_tokens=2", "eval.episodes=2")
"""Settings of a trial that takes a second."""
MISTAKES = {
    "nothing": ((), "--env must be given"),
    "no trials": ((*LAKE, "--trials", "0"), "--trials must be at least 1"),
    "fewer than no lessons": ((*LAKE, "--lessons", "-1"), "--lessons must be 0, for none, or more"),
    "a learning rate of another size": (
        (*LAKE, "--scale", "135m-cpu", "--budget", "calls=9", "--grid", "optim.lr"),
        "--grid must be one of lr_factor",
    ),
    "an unknown dimension": ((*LAKE, "--grid", "optim.rl"), "Did you mean 'optim.lr'?"),
    "one method": ((*LAKE, "--methods", "sesa"), "--methods must be two or more methods"),
    "an unknown budget": ((*LAKE, "--budget", "call=3"), "--budget must be one of calls=N"),
    "no jobs": ((*LAKE, "--jobs", "0"), "--jobs must be at least 1"),
    "a seed as a setting": ((*LAKE, "seed=3"), "seed is set by --seeds"),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(sesa_agent, here, words, hint):
    code, out, err = sesa_agent("tune", *words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert hint in err
    assert list(Path.cwd().rglob("*")) == []


def test_a_file_that_is_no_ledger_is_refused_in_one_line(sesa_agent, here):
    Path("other.json").write_text("{}")
    code, _, err = sesa_agent("compare", *LAKE, "--tuned", "other.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "--tuned must be a file that sesa-agent tune wrote, got 'other.json'" in err


def test_with_a_scale_every_seed_has_its_own_warm_start_and_weights_do_not_stay():
    options = TuneOptions(
        "countries",
        "ragen,sesa",
        num_trials=2,
        grid="lr_factor",
        budget="calls=100",
        scale="135m-cpu",
        lessons=4,
    )
    tuning = make_tuning(options)
    last = tuning.rung_arms(RUNGS[-1], {"ragen": tuning.trials[:1], "sesa": tuning.trials[1:]})
    assert [arm.seed for arm in last] == [*TUNING_SEEDS] * 2
    starts = {arm.warm_start for arm in last}
    assert {start.seed for start in starts if start} == {*TUNING_SEEDS} and len(starts) == 2
    assert {arm.left_over for arm in last} == {"nothing"}
    rates = {resolve_arm(arm).optim.lr for arm in last if arm.label == "sesa"}
    assert len(rates) == 1 and rates != {2e-5}


def test_where_many_answers_succeed_coverage_decides_and_elsewhere_success():
    tuning = make_tuning(TuneOptions("countries", num_puzzles=7, budget="calls=9"))
    (how,) = {
        how for arm in tuning.rung_arms(RUNGS[0], survivors(tuning)) for how in arm.measurements
    }
    assert (how.temperature, how.num_samples, how.ks, how.split) == (1, 128, (128,), "validation")
    measured = {"T=1": {"coverage_at_k": {"128": 0.4}, "success_rate": 0.9}}
    assert tuning.metric.value({"measured": measured}) == 0.4
    tuning = make_tuning(TuneOptions("countdown", num_puzzles=7))
    (how,) = {
        how for arm in tuning.rung_arms(RUNGS[0], survivors(tuning)) for how in arm.measurements
    }
    assert (how.temperature, how.num_puzzles, how.split) == (0.5, 7, "validation")


def survivors(tuning):
    return {arm.label: tuning.trials[:1] for arm in tuning.arms}


@pytest.mark.slow
def test_the_best_settings_are_compared_and_their_trials_are_shown(sesa_agent, here, llama):
    methods = ("--methods", "ragen,sesa", f"model.path={llama}", *SMALL)
    words = ("tune", *LAKE, *methods, "--trials", 3, "--grid", "optim.lr", "--episodes", 4)
    words = (*words, "--budget", "calls=40", "env.max_turns=2")
    code, out, err = sesa_agent(*words)
    assert (code, err) == (0, "")
    assert "rung 2 of 2" in out
    ledger = Path("results/frozen_lake-tuning.json")
    assert f"sesa-agent compare --env frozen_lake --tuned {ledger}" in out
    values = json.loads(ledger.read_text())
    assert values["is_finished"] and values["split"] == "validation"
    assert (values["env"], values["decided_by"]) == ("frozen_lake", "success, T = .5")
    assert [row["rung"] for row in values["rows"]] == [0] * 6 + [1] * 2
    assert "sesa-agent tune --env frozen_lake" in ledger.with_suffix(".md").read_text()

    methods = ("--methods", "ragen,gigpo,sesa", *methods[2:])
    words = ("compare", *LAKE, *methods, "--tuned", ledger, "--budget", "calls=40")
    code, out, err = sesa_agent(*words, "--seeds", 1, "--episodes", 4)
    assert (code, err) == (0, "")
    assert f"Not tuned by {ledger}, so with the settings of their presets: gigpo." in out
    code, _, err = sesa_agent("compare", "--env", "sokoban", "--tuned", ledger)
    assert (code, err.count("\n")) == (2, 1) and "--tuned must be a tuning of sokoban" in err
    compared = json.loads(Path("results/frozen_lake.json").read_text())
    assert compared["trials"] == {"ragen": 3, "sesa": 3}
    best = next(row for row in values["rows"] if (row["rung"], row["arm"]) == (1, "sesa"))
    sesa = next(arm for arm in compared["arms"] if arm["label"] == "sesa")
    assert set(best["settings"]) <= set(sesa["settings"])
    assert "| tuning trials |" in Path("results/frozen_lake.md").read_text()
