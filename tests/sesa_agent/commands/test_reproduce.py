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
from sesa_agent.commands import reproduce_diversity
from sesa_agent.commands.experiment_tables import result_head, summarise
from sesa_agent.commands.reproduce import write_experiment
from sesa_agent.evaluation.experiments.arms import resolve_arm
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS, Metric, experiment_arms
from sesa_agent.evaluation.experiments.real_llm import GAMES
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
    "a scale elsewhere": (
        ("sudoku", "--scale", "135m-cpu"),
        "Use it with diversity or real-llm.",
    ),
    "a tuning elsewhere": (("sudoku", "--tuned", "a.json"), "--tuned must be left out with sudoku"),
    "no ledger": (
        ("real-llm", "--tuned", "a.json"),
        "--tuned must be a file that sesa-agent tune wrote",
    ),
    "none of its games": (("real-llm", "--env", "sodoku"), "--env must be one of countries"),
    "a missing real model": (("real-llm", "--model", "./none"), "'./none', which does not"),
    "no such environment": (("diversity", "--env", "maths"), "Did you mean 'math'?"),
    "no jobs": (("math", "--jobs", "0"), "--jobs must be at least 1"),
    "unknown key": (("agents", "optim.learnrate=1"), "optim.learnrate is not a setting"),
    "a seed as a setting": (("agents", "seed=1"), "seed is set by --seeds"),
    "a method": (("agents", "method=sesa"), "method is set by --method"),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(call, monkeypatch, tmp_path, words, hint):
    for module, work in (
        (reproduce_command, "run_with_bar"),
        (reproduce_diversity, "build_policy"),
    ):
        monkeypatch.setattr(module, work, lambda *_: pytest.fail("work was begun"))
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
    monkeypatch.setattr(reproduce_diversity, "NUM_ANSWERS", 40)  # of which --quick takes a quarter


def test_diversity_samples_as_often_in_every_regime(call, ten_answers):
    code, out, err = call("diversity", "--quick", "--output", "out")
    assert (code, err) == (0, "")
    values = json.loads(Path("out/diversity.json").read_text())
    assert values["answers"] == 10
    assert list(values["distinct"])[:3] == ["parallel", "sequential-5", "sequential-10"]
    for regime, lines in values["distinct"].items():
        assert [len(counts) for counts in lines] == [10]
        assert 0 < values["readable"][regime][0] <= 1 and values["cpu_seconds"][regime][0] > 0
    (within,) = values["distinct"]["without-replacement-10"]  # of one set of ten
    assert within[-1] >= 10 * values["readable"]["without-replacement-10"][0]
    page = Path("out/diversity.md").read_text()
    assert "| readable | CPU seconds |" in page and "| sequential-10 |" in page
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
    configs = {arm: resolve_arm(arm) for arm in arms}
    write_experiment(head, EXPERIMENTS["agents"], configs, results, Path("out"))
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
    for name in (*EXPERIMENTS, "diversity", "real-llm"):
        assert name in answer.stdout


@pytest.mark.parametrize("name", [*EXPERIMENTS, "diversity", "real-llm"])
def test_the_page_describes_every_experiment(name):
    page = (Path(__file__).parents[3] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    assert f"sesa-agent reproduce {name}" in page


# ---- a pre-trained model ----


def made_up_of_a_real_model(arm):
    numbers = {"success_rate": 0.25, "low": 0.1, "high": 0.5, "readable_rate": 0.9}
    numbers |= {"pass_at_k": {"4": 0.5, "8": 0.5}, "coverage_at_k": {"128": 0.3}}
    spent = dict.fromkeys(SPENT, 64 if arm.is_trained else 0)
    rollout = {"distinct_answers": 3.5, "signal_groups": 0.75} if arm.is_trained else {}
    row = {"step": 0, "policy_calls": 0, "eval/success_rate": 0.25}
    row |= {"eval/pass_at_8": 0.5, "eval/coverage_at_128": 0.3}
    curve = [row, row | {"policy_calls": 64}] if arm.is_trained else []
    return {
        **{"label": arm.label, "env": arm.env, "seed": arm.seed, **spent},
        **{"measured": {"T=1": numbers}, "rollout": rollout, "curve": curve},
    }


@pytest.fixture
def made_up_runs(monkeypatch):
    """Results that were made up, of all arms but those of a label."""
    left_out = []

    def run_with_bar(configs, metrics, runs, jobs):
        return {a: made_up_of_a_real_model(a) for a in configs if (a.env, a.label) not in left_out}

    monkeypatch.setattr(reproduce_command, "run_with_bar", run_with_bar)
    return left_out


@pytest.fixture
def ledger(here):
    """A tuning of countdown that ended."""
    rows = [
        {"arm": name, "rung": 0, "settings": ["optim.lr=3e-05"], "success": [0.5]}
        for name in ("ragen", "ragen-entropy", "dapo", "maxrl", "sesa")
    ]
    path = Path("ledger.json")
    path.write_text(json.dumps({"env": "countdown", "is_finished": True, "rows": rows}))
    return path


def test_a_real_model_has_a_table_for_each_game(call, model, made_up_runs, ledger):
    words = ("real-llm", "--model", model, "--seeds", "0,1", "--tuned", ledger)
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    pages = {name: Path(f"results/real-llm-{name}.md").read_text() for name in GAMES}
    assert "| coverage@128 |" in pages["countries"] and "| hit rate, T = 1 |" in pages["countries"]
    assert "| pass@8 |" in pages["countdown"] and "| pass@4 |" in pages["sokoban"]
    for name, page in pages.items():
        assert "| policy calls | response tokens | seconds |" in page and "| warm start |" in page
        assert "| groups with signal |" in page and "| readable |" in page
        assert ("ragen 1, ragen-entropy 1" in page) == (name == "countdown")
        assert Path(f"results/real-llm-{name}.png").read_bytes().startswith(b"\x89PNG")
    values = json.loads(Path("results/real-llm-countdown.json").read_text())
    assert (values["trials"]["sesa"], values["policy_calls"]) == (1, {"countdown": 1280})
    assert f"real-llm --model {model.name} --seeds 0,1 --tuned ledger.json" in values["command"]


def test_a_game_that_is_not_finished_has_no_table_yet(call, model, made_up_runs):
    made_up_runs.append(("sokoban", "sesa"))
    code, out, err = call("real-llm", "--model", model, "--quick")
    assert (code, err) == (0, "") and "Resume with: sesa-agent reproduce real-llm --quick" in out
    assert {path.stem for path in Path("results").glob("*.md")} == {
        "real-llm-countries",
        "real-llm-countdown",
    }


def test_a_tuning_of_another_game_or_without_a_method_is_refused(call, model, ledger):
    words = ("real-llm", "--model", model, "--tuned", ledger)
    code, _, err = call(*words, "--env", "sokoban")
    assert (code, err.count("\n")) == (2, 1) and "a tuning of one of sokoban" in err
    ledger.write_text(ledger.read_text().replace('"maxrl"', '"gigpo"'))
    code, _, err = call(*words, "--env", "countdown")
    assert (code, err.count("\n")) == (2, 1) and "a tuning that tried maxrl" in err


@pytest.mark.slow
def test_a_game_is_run_from_a_warm_start_to_its_table(call, model):
    words = ("real-llm", "--env", "sokoban", "--model", model, "--quick", *SMALL_GROUPS)
    words = (*words, "engine.max_new_tokens=3", "env.max_turns=4", "eval.episodes=1")
    words = (*words, "optim.max_policy_calls=16", "eval.every=9")
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    values = json.loads(Path("results/real-llm-sokoban.json").read_text())
    by_label = {arm["label"]: arm for arm in values["arms"]}
    assert "warm_start" not in by_label["base"] and by_label["base"]["policy_calls"] == 0
    assert by_label["warm start"]["warm_start"]["lessons"] >= 2
    assert all(0 < by_label[name]["policy_calls"] <= 16 for name in ("ragen", "gigpo", "sesa"))
    assert len(list(Path("runs/reproduce/real-llm").glob("sokoban-start-seed0-*"))) == 1
    assert not list(Path("runs").rglob("optimizer.safetensors"))
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    assert call(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")} == before
