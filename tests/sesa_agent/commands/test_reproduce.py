"""`sesa-agent reproduce`: mistakes are reported first, and a second call has nothing left to do."""

import json
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from sesa_agent.commands import reproduce as reproduce_command
from sesa_agent.commands.experiment_tables import result_head, summarise
from sesa_agent.commands.reproduce import write_experiment
from sesa_agent.evaluation.experiments.arms import resolve_arm
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS, Metric, experiment_arms
from sesa_agent.evaluation.experiments.results import SPENT
from sesa_agent.plots import mean_line, save_bars, save_curves

from ...helpers.tiny_models import SMALL_GROUPS

SMALL = (
    *SMALL_GROUPS,
    "engine.max_new_tokens=5",
    "optim.max_policy_calls=8",
    "eval.every=1",
    "eval.episodes=1",
    "eval.samples=32",
    "eval.final_episodes=1",
)
"""Settings of an arm that takes a few seconds."""


@pytest.fixture
def call(sesa_agent, here):
    """Runs the command in an empty working folder."""
    return partial(sesa_agent, "reproduce")


MISTAKES = {
    "unknown experiment": (("path-explorations",), "Did you mean 'path-exploration'?"),
    "a word for a seed": (("sudoku", "--seeds", "0,one"), "--seeds must be different whole"),
    "no seed": (("sudoku", "--seeds", ","), "--seeds must be different whole numbers"),
    "a seed twice": (("sudoku", "--seeds", "1,2,1"), "got '1,2,1'"),
    "a seed too large": (("sudoku", "--seeds", "10000"), "from 0 to 9999"),
    "a missing model": (("sudoku", "--model", "models/none"), "'models/none', which does not"),
    "no model for diversity": (("diversity", "--model", "./none"), "'./none', which does not"),
    "several turns": (
        ("diversity", "--env", "sokoban"),
        "--env must be an environment with single",
    ),
    "an environment elsewhere": (("sudoku", "--env", "math"), "--env must be left out with sudoku"),
    "no such environment": (("diversity", "--env", "maths"), "Did you mean 'math'?"),
    "no jobs": (("math", "--jobs", "0"), "--jobs must be at least 1"),
    "unknown key": (("agents", "optim.learnrate=1"), "optim.learnrate is not a setting"),
    "a seed as a setting": (("agents", "seed=1"), "seed is set by --seeds"),
    "a method": (("agents", "method=sesa"), "method is set by --method"),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(call, monkeypatch, tmp_path, words, hint):
    for work in ("run_with_bar", "build_policy"):
        monkeypatch.setattr(reproduce_command, work, lambda *_: pytest.fail("work was begun"))
    (tmp_path / "models").mkdir()
    code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert hint in err
    assert list(tmp_path.rglob("*")) == [tmp_path / "models"]


def test_a_place_that_cannot_be_written_is_found_first(call, tmp_path):
    (tmp_path / "file").touch()
    for option in ("--output", "--runs"):
        code, out, err = call("sudoku", option, tmp_path / "file" / "below")
        assert (code, out) == (2, "")
        assert f"{option} " in err
        assert "is not writable" in err


@pytest.mark.slow
def test_path_exploration_is_run_once_with_its_rescue(call, model, tmp_path):
    words = ("path-exploration", "--model", model, "--quick", "--jobs", 2, *SMALL)
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    for name in ("Figure 3", "coverage@32", "dapo, then sesa", "results/path-exploration.md"):
        assert name in out
    values = json.loads(Path("results/path-exploration.json").read_text())
    assert [(arm["label"], arm["start_from"]) for arm in values["arms"]] == [
        ("dapo", ""),
        ("sesa-single-pass", ""),
        ("sesa", ""),
        ("dapo, then sesa", "dapo"),
    ]
    assert all(0 < arm["policy_calls"] <= 8 for arm in values["arms"])
    dapo, rescue = values["arms"][0], values["arms"][3]
    own = [row["policy_calls"] for row in rescue["curve"][1:]]
    assert min(own) == dapo["policy_calls"]
    assert "eval/coverage_at_32" in rescue["curve"][0]
    assert (values["seeds"], values["policy_calls"]) == ([0], {"path_exploration": 8})
    assert set(values["versions"]) == {"sesa-agent", "torch", "transformers"}
    page = Path("results/path-exploration.md").read_text()
    assert f"sesa-agent reproduce path-exploration --quick --model {model.name} {SMALL[0]}" in page
    assert Path("results/path-exploration.png").read_bytes().startswith(b"\x89PNG")
    for file in ("results/path-exploration.json", "results/path-exploration.md"):
        assert not re.search(r"(?<![\w.]) ?/\w+/", Path(file).read_text())
        assert str(tmp_path) not in Path(file).read_text()

    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    written = {path: path.read_bytes() for path in Path("results").iterdir()}
    assert call(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")} == before
    assert {path: path.read_bytes() for path in Path("results").iterdir()} == written


@pytest.fixture
def ten_answers(monkeypatch):
    monkeypatch.setattr(reproduce_command, "NUM_ANSWERS", 40)  # of which --quick takes a quarter


def test_diversity_samples_as_often_in_every_regime(call, ten_answers):
    code, out, err = call("diversity", "--quick", "--output", "out")
    assert (code, err) == (0, "")
    assert "sequential-10" in out
    values = json.loads(Path("out/diversity.json").read_text())
    assert values["answers"] == 10
    for regime in ("parallel", "sequential-5", "sequential-10"):
        assert [len(counts) for counts in values["distinct"][regime]] == [10]
    assert sorted(path.suffix for path in Path("out").iterdir()) == [".json", ".md", ".png"]


def test_diversity_gives_up_a_model_that_reads_nothing(call, model):
    code, out, err = call("diversity", "--quick", "--model", model, "engine.max_new_tokens=1")
    assert (code, err.count("\n")) == (2, 1) and "answers can be read" in err
    assert not Path("results").exists()


def test_diversity_of_another_environment_has_its_own_file(call, ten_answers):
    code, out, err = call("diversity", "--env", "math", "--quick", "--output", "out")
    assert (code, err) == (0, "")
    values = json.loads(Path("out/diversity-math.json").read_text())
    assert (values["env"], values["answers"]) == ("math", 10)
    assert "reproduce diversity --quick --env math --output out" in values["command"]


# ---- tables and pictures ----


def result(label, seed, success, env="sokoban", calls=100):
    measured = {"success_rate": success, "low": 0.0, "high": 0.9, "pass_ratio": None}
    measured |= {"pass_at_k": {"8": success}, "pass_at_k_interval": {"8": [0.1, 0.8]}}
    return {
        "label": label,
        "env": env,
        "seed": seed,
        "policy_calls": calls + seed,
        "measured": {"T=1": measured},
        "curve": [
            {"step": step, "policy_calls": step * (10 + seed), "eval/success_rate": success}
            for step in range(3)
        ],
    }


METRICS = (Metric("pass@8", "T=1", "pass_at_k", 8), Metric("hits", "T=1", "success_rate"))


def test_a_table_joins_seeds_and_leaves_one_seed_its_puzzles():
    results = [result("base", 0, 0.2), *(result("sesa", n, 0.1 * n) for n in (1, 2, 3))]
    base, sesa = summarise(results, METRICS)
    assert base["values"]["pass@8"] == {
        "mean": 0.2,
        "low": 0.1,
        "high": 0.8,
        "over": "puzzles",
        "each": [0.2],
    }
    assert (base["values"]["hits"]["low"], base["values"]["hits"]["high"]) == (0.0, 0.9)
    found = sesa["values"]["hits"]
    # mean .2, s = .1, t = 4.302653 with 2 degrees of freedom: .2 +- 4.302653 * .1 / sqrt(3)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (found["mean"], found["over"]) == (pytest.approx(0.2), "seeds")
    assert (found["low"], found["high"]) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    assert sesa["policy_calls"] == 102
    (row,) = summarise(results[:1], METRICS, has_one_puzzle=True)
    assert (row["values"]["hits"]["low"], row["values"]["hits"]["over"]) == (None, None)


def test_a_number_that_does_not_exist_is_none():
    (row,) = summarise([result("sesa", 0, 0.0)], [Metric("ratio", "T=1", "pass_ratio")])
    assert row["values"]["ratio"]["mean"] is None
    assert row["values"]["ratio"]["each"] == [None]


def test_agents_are_compared_game_by_game(tmp_path, monkeypatch, capsys):
    """With results that were made up: what is tested is what is written of them."""
    monkeypatch.chdir(tmp_path)
    arms = experiment_arms("agents", is_quick=True)
    success = {"base": 0.25, "ragen": 0.25, "ragen-entropy": 0.25, "sesa-paper": 0.5, "sesa": 0.75}
    results = [made_up(arm, success[arm.label]) for arm in arms]
    head = result_head("agents", ["sesa-agent", "reproduce", "agents", "--quick"], [0])
    write_experiment(head, {arm: resolve_arm(arm) for arm in arms}, results, Path("out"))
    assert "countdown: sesa 0.750, ragen 0.250" in capsys.readouterr().out
    values = json.loads(Path("out/agents.json").read_text())
    assert (values["source"], values["comparison"]["reference"]) == ("Table 1", "sesa")
    games = ["sokoban", "countdown", "frozen_lake"]
    assert [pair["env"] for pair in values["comparison"]["pairs"]] == [
        g for g in games for _ in "1234"
    ]
    assert Path("out/agents.png").read_bytes().startswith(b"\x89PNG")


def made_up(arm, success):
    cold = {"success_rate": success, "low": 0, "high": 1}
    cold["wins"] = " ".join("1" if place / 8 < success else "0" for place in range(8))
    spent = dict.fromkeys(SPENT, 10 if arm.is_trained else 0)
    measured = {"T=0.5": cold, "T=1": {"pass_ratio": 2.0}}
    return {"label": arm.label, "env": arm.env, "seed": arm.seed, **spent, "measured": measured}


def test_table_1_has_five_seeds_of_sokoban_and_three_of_the_others():
    found = {(arm.env, arm.label, arm.seed) for arm in experiment_arms("agents")}
    for env, num_seeds in (("sokoban", 5), ("countdown", 3), ("frozen_lake", 3)):
        for label in ("base", "sesa"):
            assert {seed for e, name, seed in found if (e, name) == (env, label)} == {
                *range(num_seeds)
            }
    assert {arm.seed for arm in experiment_arms("agents", (7,))} == {7}
    assert {arm.seed for arm in experiment_arms("agents", is_quick=True)} == {0}


@pytest.mark.parametrize("envs", [("sokoban",), ("sokoban", "countdown")])
def test_plots_leave_out_what_does_not_exist(tmp_path, envs):
    results = [result(label, n, 0.2, env) for env in envs for label in "ab" for n in (0, 1)]
    metrics = (*METRICS, Metric("ratio", "T=1", "pass_ratio"))
    save_bars(summarise(results, metrics), "title", tmp_path / "bars.png")
    panels = (("eval/success_rate", "hits"), ("eval/nothing", "nothing"))
    save_curves(results, panels, "title", tmp_path / "curves.png")
    for name in ("bars.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_mean_line_covers_what_all_lines_cover():
    places, values = mean_line([[(0, 1.0), (10, 2.0)], [(5, 0.0), (8, 3.0), (20, 3.0)]])
    assert places == [5, 8, 10]
    assert values == pytest.approx([0.75, 2.4, 2.5])


def test_help_answers_without_torch_and_matplotlib():
    code = (
        "import sys\n"
        "sys.argv = ['sesa-agent', 'reproduce', '--help']\n"
        "from sesa_agent.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print({'torch', 'matplotlib'} & set(sys.modules), file=sys.stderr)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "set()\n")
    for name in (*EXPERIMENTS, "diversity"):
        assert name in answer.stdout


@pytest.mark.parametrize("name", [*EXPERIMENTS, "diversity"])
def test_the_page_describes_every_experiment(name):
    page = (Path(__file__).parents[3] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    assert f"sesa-agent reproduce {name}" in page
