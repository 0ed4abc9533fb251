"""The command line: a user error is one line on stderr and exit code 2, without a traceback."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sesa_agent.commands import evaluate as evaluate_command
from sesa_agent.commands import pretrain as pretrain_command
from sesa_agent.configs.load import config_to_dict, env_names, load_config
from sesa_agent.runs import new_run, resumed_run
from sesa_agent.training import setup
from sesa_agent.training.setup import resolve_auto

from ..helpers.runs import SMALL_COMMAND
from ..helpers.tiny_models import CHATML, FORGETFUL, save_qwen2


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model fails: the mistake must be found before."""

    def refuse(*args):
        raise AssertionError("a model was loaded")

    for place in (setup, evaluate_command, pretrain_command):
        monkeypatch.setattr(place, "build_policy", refuse)


@pytest.fixture
def mistake(call, tmp_path):
    """Runs a command that must fail in one line; returns that line."""

    def run(*words):
        before = snapshot(tmp_path)
        code, out, err = call(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("sesa-agent: ")
        assert snapshot(tmp_path) == before
        return err

    return run


def snapshot(folder):
    """Every path below a folder with the time that it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} | {
        path: None for path in folder.rglob("*") if path.is_dir()
    }


TRAIN = ("train", "--env", "sokoban")
MISTAKES = {
    "a sampler of whole answers in a game of many turns": (
        ("train", "--env", "sokoban", "--method", "sesa-two-stage"),
        "sampling.name must be tree or parallel while env.max_turns is 10, got 'two_stage'",
    ),
    "a file of problems that is not there": (
        ("train", "--env", "math", "env.options.path=none.jsonl"),
        "none.jsonl does not exist",
    ),
    "a file of Sudokus that is not there": (
        ("train", "--env", "sudoku", "env.options.path=none.csv"),
        "none.csv does not exist",
    ),
    "a file name that is no text": (
        ("train", "--env", "math", "env.options.path=5"),
        "env.options.path must be text, got 5",
    ),
    "unknown environment": (("train", "--env", "sokobann"), "Did you mean 'sokoban'?"),
    "no environment": (("train",), "--env must be given"),
    "unknown id": (("train", "--env", "sesa/Sokobn-v0"), "is not an environment"),
    "unknown module": (("train", "--env", "no_such_pkg:Game-v0"), "no_such_pkg"),
    "a game without words": (("train", "--env", "Pendulum-v1"), "has continuous actions"),
    "unknown method": ((*TRAIN, "--method", "sessa"), "Did you mean 'sesa'?"),
    "unknown key": ((*TRAIN, "optim.learnrate=1"), "optim.learnrate is not a setting"),
    "key of another group": ((*TRAIN, "optim.num_proposals=3"), "sampling.num_proposals"),
    "misspelt key": ((*TRAIN, "sampling.num_proposal=3"), "Did you mean sampling.num_proposals?"),
    "no equals sign": ((*TRAIN, "optim.lr"), "group.key=value"),
    "U < G": (
        (*TRAIN, "sampling.max_trajectories=2", "sampling.num_proposals=4"),
        "sampling.max_trajectories must be at least sampling.num_proposals (4), got 2.",
    ),
    "negative learning rate": ((*TRAIN, "optim.lr=-1e-3"), "optim.lr must be above 0"),
    "a word for a number": ((*TRAIN, "optim.lr=fast"), "optim.lr"),
    "no steps": ((*TRAIN, "--steps", "0"), "optim.steps must be at least 1"),
    "a mistake that a later word replaces": (
        (*TRAIN, "optim.steps=-1", "optim.steps=1"),
        "optim.steps must be at least 1, got -1.",
    ),
    "half a character": ((*TRAIN, "optim.\udc80=3"), r"must be UTF-8 text, got 'optim.\udc80=3'"),
    "a long word": ((*TRAIN, "optim." + "a" * 10**6), "group.key=value, got 'optim.aaa"),
    "an option of the wrong type": (
        ("train", "--env", "frozen_lake", "env.options.slippery=flase"),
        "env.options.slippery must be true or false, got 'flase'.",
    ),
    "unknown engine": ((*TRAIN, "engine.name=vlm"), "engine.name must be one of"),
    "unknown knob": ((*TRAIN, "env.options.boxes=2"), "boxes"),
    "bad knob": ((*TRAIN, "env.options.max_steps=0"), "max_steps must be at least 1"),
    "best credit in a slippery world": (
        ("train", "--env", "frozen_lake", "loss.credit=best"),
        "loss.credit must be auto, expected, tree or trajectory",
    ),
    "expected credit without merged states": (
        ("train", "--env", "frozen_lake", "loss.credit=expected", "sampling.merge_states=off"),
        "loss.credit must be auto, tree or trajectory without merged states",
    ),
    "resuming elsewhere": (
        ("train", "--resume", "run", "--output", "other"),
        "--output must be left out with --resume",
    ),
    "another scale": (
        ("train", "--resume", "run", "--scale", "3b-1gpu"),
        "--scale must be left out with --resume, got '3b-1gpu'. A run keeps its own.",
    ),
    "an unknown scale": ((*TRAIN, "--scale", "3b"), "--scale must be one of 0.5b-1gpu, "),
    "a rescue of what is sequential": (
        (*TRAIN, "monitor.rescue=auto"),
        "monitor.rescue must be off with sampling.name=tree, got 'auto'.",
    ),
    "a rescue that does not fit": (
        (*TRAIN, "--method", "ragen", "monitor.rescue=auto", "sampling.max_trajectories=2"),
        "sampling.max_trajectories must be at least sampling.num_proposals (3), got 2.",
    ),
    "no attempts": ((*TRAIN, "eval.samples=0"), "eval.samples must be at least 1"),
    "more than all attempts": (
        ("evaluate", "sesa-tiny", "--env", "sokoban", "--samples", "4", "--k", "1,5"),
        "--k must be whole numbers from 1 to --samples (4), as in 1,5,10, got '1,5'. Raise",
    ),
    "pass@0": (
        ("evaluate", "sesa-tiny", "--env", "sokoban", "--k", "0"),
        "from 1 to --samples (1)",
    ),
    "a word for k": (
        ("evaluate", "sesa-tiny", "--env", "sokoban", "--samples", "4", "--k", "1,,two"),
        "--k must be whole numbers",
    ),
    "too many puzzles": ((*TRAIN, "eval.final_episodes=100001"), "from 1 to 100000"),
    "too many episodes": (
        ("evaluate", "sesa-tiny", "--env", "sokoban", "--episodes", "100001"),
        "at most 100000",
    ),
    "no pre-training": (("pretrain", "--steps", "0"), "--steps must be at least 1"),
    "no model card": (("pretrain", "--episodes", "0"), "--episodes must be at least 1"),
    "resumed folder is missing": (("train", "--resume", "nothing"), "is not a run folder"),
    "a run or a model, but no environment": (("evaluate", "sesa-tiny"), "--env must be given"),
    "no episodes": (
        ("evaluate", "sesa-tiny", "--env", "sokoban", "--episodes", "0"),
        "--episodes must be at least 1",
    ),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.usefixtures("no_model")
def test_a_mistake_is_one_line_before_any_model_is_loaded(mistake, words, hint):
    assert hint in mistake(*words)


@pytest.mark.parametrize("option", [(), ("evaluate",)])
@pytest.mark.usefixtures("no_model")
def test_a_place_that_cannot_be_written_is_found_first(mistake, tmp_path, option):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "below" / "run"
    if option:
        words = ("evaluate", "sesa-tiny", "--env", "sokoban", "--json", place / "x.json")
    else:
        words = (*TRAIN, "--output", place)
    assert "is not writable" in mistake(*words)


@pytest.mark.usefixtures("no_model")
def test_a_new_run_does_not_overwrite_an_old_one(mistake, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("{}")
    assert "--resume" in mistake(*TRAIN, "--output", tmp_path / "run")


@pytest.fixture
def old_run(tmp_path):
    """A run folder that was stopped before its first checkpoint."""
    cfg = resolve_auto(load_config("sokoban", "sesa", SMALL_COMMAND))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)))
    return tmp_path / "run"


def test_a_run_with_a_method_file_is_named_after_it_and_resumes_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("extends: ragen\nloss: {kl_coef: 0.01}\n")
    cfg, folder = new_run("sokoban", "mine.yaml", [], None)
    assert folder == Path("runs/sokoban-mine-0")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)))
    Path("mine.yaml").unlink()
    assert resumed_run(folder, "", "", []) == (cfg, folder)


@pytest.mark.usefixtures("no_model")
def test_a_run_resumes_only_in_its_own_environment(mistake, old_run):
    assert "sesa/Sokoban-v0" in mistake("train", "--resume", old_run, "--env", "countdown")
    assert "--env" in mistake("train", "--resume", old_run, "env.id=sesa/Sudoku-v0")


@pytest.mark.usefixtures("no_model")
def test_a_damaged_run_is_rejected(mistake, old_run):
    assert "no checkpoint yet" in mistake("evaluate", old_run)
    wrong = {
        "[": "could not be read",
        "3": "mapping of settings",
        "optim: {speed: 3}": "optim.speed",
    }
    for text, hint in wrong.items():
        (old_run / "config.yaml").write_text(text)
        assert hint in mistake("train", "--resume", old_run)


def test_a_folder_that_is_not_a_model_is_reported_in_one_line(mistake, model, tmp_path):
    words = (*TRAIN, "--output", tmp_path / "run", "--model")
    assert "does not exist" in mistake(*words, tmp_path / "nothing")
    Path("models").mkdir()
    assert "does not exist" in mistake(*words, "models/nothing")  # not a name on the hub
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in mistake(*words, tmp_path / "empty")


@pytest.mark.parametrize(
    ("file", "size", "hint"),
    [
        ("config.json", 20, "config.json is not JSON"),
        ("model.safetensors", 2000, "could not be loaded"),
        ("model.safetensors", 3, "could not be loaded"),
        ("tokenizer.json", 500, "could not be loaded"),
        ("chat_template.jinja", None, "without a chat template"),
    ],
)
def test_a_damaged_model_is_reported_in_one_line(mistake, model, tmp_path, file, size, hint):
    folder = shutil.copytree(model, tmp_path / "model")
    if size is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:size])
    line = mistake(*TRAIN, "--output", tmp_path / "run", "--model", folder)
    assert hint in line
    assert "model" in line


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("vocab_size", 999, "is damaged"),
        ("num_hidden_layers", 3, "is damaged"),
        ("model_type", "nothing", "could not be loaded"),
        ("model_type", None, "could not be loaded"),
    ],
)
def test_a_config_that_does_not_fit_is_reported_in_one_line(
    mistake, model, tmp_path, key, value, hint
):
    """transformers prints a report of its own in many lines, and fills gaps with random weights."""
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(config))
    assert hint in mistake(*TRAIN, "--output", tmp_path / "run", "--model", folder)
    (folder / "config.json").write_text("[]")
    assert "is damaged" in mistake(*TRAIN, "--output", tmp_path / "run", "--model", folder)


def test_a_template_that_rewrites_the_past_cannot_hold_a_conversation(mistake, tmp_path):
    folder = save_qwen2(tmp_path / "model", FORGETFUL)
    words = (*TRAIN, "--output", tmp_path / "run", "--model", folder, "model.context=full")
    assert "Set model.context=state" in mistake(*words)
    assert FORGETFUL != CHATML


@pytest.mark.parametrize(
    "words", [("trian",), ("train", "--evn", "sokoban"), ("train", "--steps", "x"), ("evaluate",)]
)
def test_usage_errors_exit_with_2(call, words):
    code, _, err = call(*words)
    assert code == 2
    assert "Usage" in err


def test_envs_lists_every_environment(call):
    code, out, _ = call("envs")
    assert code == 0
    for name in env_names():
        assert name in out


@pytest.mark.parametrize("command", [(), ("train",), ("evaluate",), ("envs",), ("pretrain",)])
def test_help_is_quick_and_imports_no_model_code(command):
    code = (
        "import sys, atexit\n"
        f"sys.argv = ['sesa-agent', *{command!r}, '--help']\n"
        "heavy = {'torch', 'transformers', 'vllm', 'scipy', 'matplotlib'}\n"
        "atexit.register(lambda: print(heavy & set(sys.modules), file=sys.stderr))\n"
        "from sesa_agent.cli import main\n"
        "main()\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "set()\n")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3  # s of CPU
