"""`--env tasks.jsonl --reward module:function` on the command line, and what a run remembers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sesa_agent import api
from sesa_agent.commands.compare import CompareOptions, comparison_arms
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import config_to_dict, load_config
from sesa_agent.configs.writing import replace_text
from sesa_agent.configs.yaml_text import write_yaml
from sesa_agent.runs import new_run, read_run, resumed_run
from sesa_agent.training.monitor import rescued_config
from sesa_agent.training.setup import resolve_auto

from ..helpers.runs import SMALL_COMMAND

MODULE = """
from pathlib import Path

Path({marker!r}).touch()

def verify(answer, row):
    return answer.endswith(row["answer"])

def another(answer, row):
    return 0
"""
REWARD = "own_judge:verify"
TYPED = f"env.options.reward={REWARD}"


@pytest.fixture
def marker(tmp_path):
    """The file that the user's module writes when it is imported."""
    return tmp_path / "imported"


@pytest.fixture
def tasks(here, marker, monkeypatch):
    """A task file in the working folder, with the user's module beside it."""
    rows = [{"question": f"Compute {n} + {n}.", "answer": str(2 * n)} for n in range(12)]
    (here / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (here / "own_judge.py").write_text(MODULE.format(marker=str(marker)), encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield here / "tasks.jsonl"
    sys.modules.pop("own_judge", None)


@pytest.fixture
def run(tasks, monkeypatch):
    """The folder of a run with a reward, as somebody else gets it."""
    monkeypatch.syspath_prepend(tasks.parent)
    cfg, folder = new_run("tasks.jsonl", "sesa", [TYPED], None)
    folder.mkdir(parents=True)
    replace_text(folder / "config.yaml", write_yaml(config_to_dict(cfg)))
    return folder.absolute()


@pytest.mark.parametrize(
    "reward",
    [
        pytest.param((), id="comparison", marks=pytest.mark.slow),
        pytest.param(("--reward", REWARD), id="function"),
    ],
)
def test_two_steps_are_trained_on_a_task_file(tasks, reward):
    words = ["-m", "sesa_agent", "train", "--env", "tasks.jsonl", *reward, *SMALL_COMMAND]
    words += ["--steps", "2", "--output", "run", "sampling.num_proposals=2"]
    answer = subprocess.run(
        [sys.executable, *words], cwd=tasks.parent, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    assert " held-out puzzles, T = 0.5" in answer.stdout
    lines = (tasks.parent / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["rollout/env_errors"] for line in lines] == [0.0, 0.0]
    settings = yaml.safe_load((tasks.parent / "run" / "config.yaml").read_text())["env"]
    assert settings["id"] == "tasks.jsonl"
    assert settings["options"]["path"] == str(tasks)
    assert settings["options"].get("reward") == (REWARD if reward else None)


def test_only_a_function_that_was_typed_is_imported(run, marker):
    """A run's config.yaml may come from anyone, and any function of Python could be named there."""
    marker.unlink()
    sys.modules.pop("own_judge")
    for read in (
        lambda: read_run(run, "", "", []),
        lambda: read_run(run, "tasks.jsonl", "", []),
        lambda: resumed_run(run, "", "", []),
        lambda: resumed_run(run, "", "ragen", []),
        lambda: api.evaluate(run),
    ):
        with pytest.raises(SettingError, match=f"Type --reward {REWARD} in this command"):
            read()
    assert not marker.exists()
    assert read_run(run, "", "", [TYPED]).env.options["reward"] == REWARD
    assert marker.exists()


def test_a_method_file_names_no_function(tasks, marker):
    Path("mine.yaml").write_text(f"env: {{options: {{reward: '{REWARD}'}}}}", encoding="utf-8")
    with pytest.raises(SettingError, match="stands in a file"):
        load_config("tasks.jsonl", "mine.yaml")
    assert not marker.exists()


def test_a_run_is_read_from_another_folder_and_finds_a_file_that_moved(run, monkeypatch):
    elsewhere = run.parents[1] / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert run.name == "tasks-sesa-0"
    place = run.parents[1] / "tasks.jsonl"
    assert read_run(run, "", "", [TYPED]).env.options["path"] == str(place)
    place.rename(elsewhere / "tasks.jsonl")
    cfg, _ = resumed_run(run, "tasks.jsonl", "", [TYPED])
    assert cfg.env.options["path"] == str(elsewhere / "tasks.jsonl")
    with pytest.raises(SettingError, match="must be the environment of the run"):
        read_run(run, "other.jsonl", "", [TYPED])


def test_a_resumed_run_keeps_its_function_and_may_change_its_method(run):
    message = "reward cannot change in a resumed run, got 'own_judge:another'"
    with pytest.raises(SettingError, match=message):
        resumed_run(run, "", "", ["env.options.reward=own_judge:another"])
    cfg, _ = resumed_run(run, "", "ragen", [TYPED])
    assert (cfg.sampling.name, cfg.env.options["reward"]) == ("parallel", REWARD)
    assert rescued_config(cfg).sampling.name == "tree"


@pytest.mark.parametrize("sampler", ["two_stage", "single_pass"])
def test_samplers_of_whole_answers_fit_one_answer(tasks, sampler):
    cfg = load_config("tasks.jsonl", "sesa", [f"sampling.name={sampler}", "loss.credit=trajectory"])
    assert resolve_auto(cfg).env.max_turns == 1
    with pytest.raises(SettingError, match=r"sampling.name must be tree or parallel"):
        words = [f"sampling.name={sampler}", "env.max_turns=3"]
        resolve_auto(load_config("tasks.jsonl", "sesa", words))


def test_a_comparison_names_the_file_and_not_its_place(tasks, monkeypatch):
    monkeypatch.syspath_prepend(tasks.parent)
    options = CompareOptions(
        str(tasks), "base,sesa", num_seeds=1, budget="calls=9", overrides=[TYPED]
    )
    assert options.name == "tasks-jsonl"
    lines = tasks.read_text(encoding="utf-8").splitlines()
    tasks.write_text("\n".join(lines[:3]), encoding="utf-8")
    with pytest.raises(SettingError, match="must be a file with at least 2 tasks for testing"):
        comparison_arms(options)
    rows = [json.dumps({"question": f"{n}?", "answer": str(n)}) for n in range(100)]
    tasks.with_name("more.jsonl").write_text("\n".join(rows), encoding="utf-8")
    options = CompareOptions(
        str(tasks.with_name("more.jsonl")), "base,sesa", num_seeds=1, budget="calls=9"
    )
    assert {arm.env for arm in comparison_arms(options)} == {"more.jsonl"}


def test_check_env_judges_own_answers(tasks, call, monkeypatch):
    monkeypatch.chdir(tasks.parent)
    code, out, _ = call("check-env", tasks, "--reward", REWARD)
    assert code == 0
    assert f"--reward {REWARD}" in out and "own answers" in out
    (tasks.parent / "zero_judge.py").write_text("def verify(answer, row):\n    return 0\n")
    monkeypatch.chdir(tasks.parent)
    code, out, _ = call("check-env", tasks, "--reward", "zero_judge:verify")
    assert code == 0
    assert "1 warned" in " ".join(out.split())


def test_a_function_for_another_environment_is_refused(call):
    code, out, err = call("train", "--env", "sokoban", "--reward", REWARD)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--reward must be left out with 'sokoban'" in err


def judge(answer, row):
    """A function of this module."""
    return 1.0


def test_from_python_the_function_itself_can_be_given(tasks):
    assert api.reward_option(judge, "tasks.jsonl") == {
        "env.options.reward": ("--reward", f"{__name__}:judge")
    }
    with pytest.raises(SettingError, match="reward must be a function of a module"):
        api.reward_option(lambda answer, row: 1.0, "tasks.jsonl")
