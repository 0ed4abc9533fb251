"""`sesa-agent compare`: mistakes are reported first, and a second call has nothing left to do."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sesa_agent.commands import compare as compare_command
from sesa_agent.commands import compare_finished
from sesa_agent.commands.compare import CompareOptions, comparison_arms, read_budget
from sesa_agent.evaluation.experiments import results as run_results

from ...helpers.tiny_models import SMALL_GROUPS

SMALL = (
    "env.max_turns=2",
    *SMALL_GROUPS,
    "engine.max_new_tokens=2",
    "eval.episodes=2",
)
"""Settings of an arm that takes a second."""


@pytest.fixture
def call(sesa_agent, here):
    """Runs a command in an empty working folder."""
    return lambda *words, command="compare": sesa_agent(command, *words)


def train(call, model, folder, *words, method="sesa", env="frozen_lake", seed=0):
    words = ("--env", env, "--method", method, "--seed", seed, "--output", folder, *words)
    words = (*words, f"model.path={model}", *SMALL, "optim.steps=1", "eval.final_episodes=1")
    assert call(*words, command="train")[0] == 0


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


LAKE = ("--env", "frozen_lake")
MISTAKES = {
    "nothing": ((), "--env must be given, or two run folders or more"),
    "an unknown environment": (("--env", "frozen_lak"), "Did you mean 'frozen_lake'?"),
    "an unknown method": ((*LAKE, "--methods", "sesa,rage"), "Did you mean 'ragen'?"),
    "one method": ((*LAKE, "--methods", "sesa"), "--methods must be two or more methods"),
    "a method twice": (
        (*LAKE, "--methods", "sesa,base,sesa"),
        "two or more methods of different names",
    ),
    "methods to ablate": ((*LAKE, "--ablate", "--methods", "a,b"), "left out with --ablate"),
    "no seeds": ((*LAKE, "--seeds", "0"), "--seeds must be a number of seeds from 1"),
    "no episodes": ((*LAKE, "--episodes", "0"), "--episodes must be at least 2"),
    "too many episodes": ((*LAKE, "--episodes", "100001"), "at most 100000 of the test"),
    "no jobs": ((*LAKE, "--jobs", "0"), "--jobs must be at least 1"),
    "an unknown budget": ((*LAKE, "--budget", "call=3"), "--budget must be one of calls=N"),
    "a budget of nothing": ((*LAKE, "--budget", "calls=0"), "N is a number above 0"),
    "a budget below nothing": ((*LAKE, "--budget", "calls=-3"), "N is a number above 0"),
    "half a call": ((*LAKE, "--budget", "calls=.5"), "N is a number above 0"),
    "an endless budget": ((*LAKE, "--budget", "seconds=inf"), "N is a number above 0"),
    "no budget of its own": (("--env", "a:B-v0"), "--budget must be given with --env a:B-v0"),
    "an unknown reference": ((*LAKE, "--reference", "dapo"), "--reference must be one of base"),
    "a seed as a setting": ((*LAKE, "seed=3"), "seed is set by --seeds"),
    "a method as a setting": ((*LAKE, "method=ragen"), "method is set by --methods"),
    "a budget as a setting": ((*LAKE, "optim.max_env_steps=3"), "is set by --budget"),
    "a scale without a budget": (
        (*LAKE[:2], "--scale", "7b-1gpu"),
        "--budget must be given with --scale, got ''.",
    ),
    "a scale as a setting": ((*LAKE, "scale=7b-1gpu"), "scale is set by --scale"),
    "runs and a scale": (("run", "--scale", "7b-1gpu"), "--scale must be left out with run"),
    "an unknown key": ((*LAKE, "optim.learnrate=1"), "optim.learnrate is not a setting"),
    "a missing model": ((*LAKE, "model.path=./none"), "'./none', which does not"),
    "no run": (("nowhere", "elsewhere"), "nowhere is not a run folder: it has no config.yaml"),
    "runs and an environment": (("run", *LAKE), "--env must be left out with run folders"),
    "runs and an ablation": (("run", "--ablate"), "--ablate must be left out with run folders"),
    "runs and lessons": (("run", "--lessons", "3"), "--lessons must be left out with run folders"),
    "runs and a setting": (("run", "a=b"), "KEY=VALUE must be left out with run folders"),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(call, monkeypatch, tmp_path, words, hint):
    for module, work in ((compare_command, "run_with_bar"), (compare_finished, "measure_run")):
        monkeypatch.setattr(module, work, lambda *_: pytest.fail("work was begun"))
    code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert hint in err
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "optim.max_policy_calls=80000"),
        ("tokens=5", "optim.max_response_tokens=5"),
        ("env_steps=5", "optim.max_env_steps=5"),
        ("seconds=2.5", "optim.max_seconds=2.5"),
    ],
)
def test_a_budget_is_a_setting_of_every_arm(text, word):
    assert read_budget("sokoban", text) == word
    arms = comparison_arms(CompareOptions("sokoban", "ragen,sesa", num_seeds=2, budget=text))
    assert {arm.common[1] for arm in arms} == {word}
    key, _, amount = word.removeprefix("optim.").partition("=")
    assert {getattr(cfg.optim, key) for cfg in arms.values()} == {float(amount)}


def test_every_arm_has_every_seed_and_the_same_puzzles():
    arms = comparison_arms(CompareOptions("sokoban", overrides=["optim.lr=0.5"]))
    labels = ["base", "ragen", "ragen-entropy", "sesa-paper", "sesa"]
    assert [(arm.label, arm.seed) for arm in arms] == [(a, s) for a in labels for s in range(5)]
    assert len({arm.measurements for arm in arms}) == 1
    assert {(cfg.eval.final_episodes, cfg.optim.lr) for cfg in arms.values()} == {(1024, 0.5)}


def test_a_scale_is_that_of_every_arm():
    options = CompareOptions("sokoban", "base,ragen", num_seeds=1, budget="calls=9")
    arms = comparison_arms(replace(options, scale="7b-1gpu"))
    assert {arm.scale for arm in arms} == {"7b-1gpu"}
    assert {(cfg.model.lora_rank, cfg.optim.lr) for cfg in arms.values()} == {(16, 1e-5)}


def test_an_ablation_changes_one_thing_at_a_time():
    options = CompareOptions("sokoban", ablate=True, num_seeds=1)
    arms = {arm.label: cfg for arm, cfg in comparison_arms(options).items()}
    whole = arms.pop("sesa")
    assert arms.pop("base") == whole
    assert len(arms) == 6
    for label, cfg in arms.items():
        before, after = (vars(c.sampling) | vars(c.loss) for c in (whole, cfg))
        num_changes = 2 if label == "- distinct, - merging" else 1
        assert sum(before[key] != after[key] for key in before) == num_changes
        assert (cfg.env, cfg.model, cfg.engine, cfg.optim) == (
            whole.env,
            whole.model,
            whole.engine,
            whole.optim,
        )


def test_an_ablation_leaves_out_what_changes_nothing(capsys):
    options = CompareOptions("sokoban", ablate=True, num_seeds=1)
    options = replace(options, overrides=["sampling.merge_states=off"])
    labels = {arm.label for arm in comparison_arms(options)}
    assert "- merging" not in labels
    assert "trajectory credit" in labels
    assert "'- merging' is left out: it changes nothing" in capsys.readouterr().out


@pytest.mark.slow
def test_methods_are_compared_once_at_one_budget(call, model, tmp_path):
    words = (*LAKE, "--methods", "base,ragen,sesa", "--budget", "env_steps=9", "--episodes", 8)
    words = (*words, "--seeds", 2, f"model.path={model}", *SMALL)
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    for part in ("sesa 0.", "pairs of episodes", "results/frozen_lake.md"):
        assert part in out
    values = json.loads(Path("results/frozen_lake.json").read_text())
    arms = values["arms"]
    assert [(arm["label"], arm["seed"]) for arm in arms] == [
        (label, seed) for label in ("base", "ragen", "sesa") for seed in (0, 1)
    ]
    assert all(arm["env_steps"] >= 9 for arm in arms[2:])
    assert all(len(arm["measured"]["T=0.5"]["wins"].split()) == 8 for arm in arms)
    assert [arm["measured"]["T=1"]["num_samples"] for arm in arms] == [16] * 6
    assert (values["budget"], values["seeds"]) == ("optim.max_env_steps=9", [0, 1])
    comparison = values["comparison"]
    assert comparison["reference"] == "sesa"
    assert [pair["other"] for pair in comparison["pairs"]] == ["base", "ragen"]
    page = Path("results/frozen_lake.md").read_text()
    sets = values["out_of_distribution"]["frozen_lake"]
    assert list(sets) == ["base", "ragen", "sesa"]
    assert list(sets["sesa"]) == ["large", "holes", "symbols"]
    assert "| arm | large | holes | symbols |" in page
    assert all(len(arm["measured"]["T=0.5 large"]["wins"].split()) == 2 for arm in arms)
    assert "sesa-agent compare --env frozen_lake --methods base,ragen,sesa" in page
    assert all(line in page for line in comparison["sentences"])
    assert str(tmp_path) not in page
    assert Path("results/frozen_lake.png").read_bytes().startswith(b"\x89PNG")

    runs, written = times(Path("runs")), Path("results/frozen_lake.json").read_bytes()
    assert call(*words)[0] == 0
    assert times(Path("runs")) == runs
    assert Path("results/frozen_lake.json").read_bytes() == written


@pytest.mark.slow
def test_finished_runs_are_measured_once(call, model, monkeypatch):
    for method, seed in (("sesa", 0), ("sesa", 1), ("ragen", 0)):
        train(call, model, f"{method}{seed}", method=method, seed=seed)
    words = ("sesa0", "sesa1", "ragen0", "--episodes", 4)
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    values = json.loads(Path("results/frozen_lake-runs.json").read_text())
    assert [arm["label"] for arm in values["arms"]] == ["sesa", "sesa", "ragen"]
    assert values["arms"][0]["steps"] == 1
    assert values["arms"][0]["policy_calls"] > 0
    assert [len(arm["curve"]) for arm in values["arms"]] == [1, 1, 1]
    assert values["command"] == "sesa-agent compare sesa0 sesa1 ragen0 --episodes 4"
    assert "McNemar, 4 pairs" in out

    measured = json.loads(Path("sesa0/measured.json").read_text())["measured"]
    assert measured == values["arms"][0]["measured"]
    with monkeypatch.context() as context:
        context.setattr(run_results, "evaluate", lambda *_: pytest.fail("played again"))
        assert call(*words)[0] == 0
    before = Path("sesa0/measured.json").read_bytes()
    assert call(*words[:-1], 5)[0] == 0  # another measurement
    assert Path("sesa0/measured.json").read_bytes() != before
    before = Path("sesa0/measured.json").read_bytes()
    assert call("--resume", "sesa0", "--steps", 2, command="train")[0] == 0
    assert call(*words[:-1], 5)[0] == 0  # another checkpoint
    assert Path("sesa0/measured.json").read_bytes() != before


def test_runs_are_named_after_what_tells_them_apart(call, model):
    train(call, model, "first")
    folders = {"first": (), "other": ("seed", 1), "fast": ("optim.lr", 0.5)}
    for name, change in folders.items():
        if change:
            change_run("first", name, *change)
    change_run("first", "ragen", "method", "ragen")
    code, out, err = call("first", "other", "fast", "ragen", "--episodes", 2)
    assert (code, err) == (0, "")
    values = json.loads(Path("results/frozen_lake-runs.json").read_text())
    assert [arm["label"] for arm in values["arms"]] == ["first", "first", "fast", "ragen"]
    assert values["comparison"]["reference"] == "first"

    change_run("first", "base", "optim.lr", 0.1)  # names that would be taken for other arms
    change_run("first", "elsewhere/fast", "optim.lr", 0.2)
    assert call("first", "base", "fast", "elsewhere/fast", "--episodes", 2)[0] == 0
    values = json.loads(Path("results/frozen_lake-runs.json").read_text())
    labels = [arm["label"] for arm in values["arms"]]
    assert labels == ["first", "base", "fast", "elsewhere/fast"]

    change_run("first", "twin", "output", "twin")
    assert "must have different seeds" in call("first", "twin", "ragen")[2]
    change_run("first", "abroad", "env.max_turns", 5)
    _, _, err = call("first", "abroad")
    assert "abroad has another environment than first" in err
    assert "compare needs at least two arms, got 2 run(s) of sesa" in call("first", "other")[2]
    shutil.rmtree("other/checkpoints")
    assert "other has no checkpoint yet" in call("other", "ragen")[2]


def change_run(source: str, target: str, key: str, value):
    """Copy a run folder as if it had had another setting."""
    shutil.copytree(source, target)
    path = Path(target, "config.yaml")
    values = yaml.safe_load(path.read_text())
    *groups, name = key.split(".")
    place = values
    for group in groups:
        place = place[group]
    place[name] = value
    path.write_text(yaml.safe_dump(values))


def test_a_method_file_is_an_arm_named_after_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: ragen\nloss: {kl_coef: 0.01}\n")
    options = CompareOptions("sokoban", f"base,ragen,{path}", num_seeds=1)
    arms = {arm.label: cfg for arm, cfg in comparison_arms(options).items()}
    assert list(arms) == ["base", "ragen", "mine"]
    assert arms["mine"].loss == replace(arms["ragen"].loss, kl_coef=0.01)
    assert arms["mine"].sampling == arms["ragen"].sampling


@pytest.mark.parametrize(
    ("methods", "hint"),
    [
        ("ragen,none/mine.yaml", "method none/mine.yaml is not a file"),
        ("ragen,mine/ragen.yaml", "--methods must be two or more methods of different names"),
        ("ragen,mine/base.yaml", "--methods must be a file of another name"),
    ],
)
def test_a_wrong_method_file_is_one_line(call, methods, hint):
    code, _, err = call(*LAKE, "--methods", methods)
    assert code == 2 and hint in err


def test_all_arms_of_a_seed_have_the_same_lessons():
    options = CompareOptions("frozen_lake", "base,ragen,sesa", num_seeds=2, lessons=3)
    arms = comparison_arms(options)
    starts = {seed: {a.warm_start for a in arms if a.seed == seed} for seed in (0, 1)}
    assert all(len(found) == 1 for found in starts.values()) and starts[0] != starts[1]
    assert {start.lessons for found in starts.values() for start in found if start} == {3}
    assert {a.warm_start for a in comparison_arms(replace(options, lessons=0))} == {None}
