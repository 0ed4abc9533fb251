"""`sesa-agent tune`: mistakes are told first; a ledger whose best settings `compare` trains."""

import json
from pathlib import Path

import pytest

from ...helpers.tiny_models import SMALL_GROUPS

LAKE = ("--env", "frozen_lake")
SMALL = ("env.max_turns=2", *SMALL_GROUPS, "engine.max_new_tokens=2", "eval.episodes=2")
"""Settings of a trial that takes a second."""
MISTAKES = {
    "nothing": ((), "--env must be given"),
    "no trials": ((*LAKE, "--trials", "0"), "--trials must be at least 1"),
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


@pytest.mark.slow
def test_the_best_settings_are_compared_and_their_trials_are_shown(sesa_agent, here, llama):
    methods = ("--methods", "ragen,sesa", f"model.path={llama}", *SMALL)
    words = ("tune", *LAKE, *methods, "--trials", 3, "--grid", "optim.lr", "--episodes", 4)
    words = (*words, "--budget", "calls=40", "env.max_turns=2")
    code, out, err = sesa_agent(*words)
    assert (code, err) == (0, "")
    assert "rung 3 of 3" in out
    ledger = Path("results/frozen_lake-tuning.json")
    assert f"sesa-agent compare --env frozen_lake --tuned {ledger}" in out
    values = json.loads(ledger.read_text())
    assert values["is_finished"] and values["split"] == "validation"
    assert [row["rung"] for row in values["rows"]] == [0] * 6 + [1] * 4 + [2] * 2
    assert "sesa-agent tune --env frozen_lake" in ledger.with_suffix(".md").read_text()

    words = ("compare", *LAKE, *methods, "--tuned", ledger, "--budget", "calls=40")
    code, _, err = sesa_agent(*words, "--seeds", 1, "--episodes", 4)
    assert (code, err) == (0, "")
    compared = json.loads(Path("results/frozen_lake.json").read_text())
    assert compared["trials"] == {"ragen": 3, "sesa": 3}
    best = next(row for row in values["rows"] if (row["rung"], row["arm"]) == (2, "sesa"))
    sesa = next(arm for arm in compared["arms"] if arm["label"] == "sesa")
    assert set(best["settings"]) <= set(sesa["settings"])
    assert "| tuning trials |" in Path("results/frozen_lake.md").read_text()
