"""The functions of a notebook, and that they do what the commands do."""

import ast
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest

import sesa_agent
from sesa_agent import SettingError, evaluate, make_env, train

from ..helpers.runs import SMALL_COMMAND
from ..helpers.toy_game import ENV_ID

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
LISTED = {key: value for key, _, value in (word.partition("=") for word in SMALL_COMMAND)}


def typed_names():
    """The modules of the names that the package imports for type checkers alone, by name."""
    tree = ast.parse(Path(sesa_agent.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


NAMES_OF_THE_GUIDE = {"train", "evaluate", "make_env", "TextAdapter", "TextSpec", "TextEnv"}
NAMES_OF_THE_GUIDE |= {"TextGame", "fork", "state_key", "ScriptedEngine"}


def test_every_public_name_can_be_imported_and_is_completed():
    assert set(sesa_agent.__all__) >= NAMES_OF_THE_GUIDE
    assert set(sesa_agent.__all__) <= set(dir(sesa_agent))
    for name in sesa_agent.__all__:
        assert getattr(sesa_agent, name) is not None


def test_names_imported_on_first_use_are_typed_and_listed():
    assert set(typed_names()) == set(sesa_agent._MODULES) <= set(sesa_agent.__all__)
    for name, module in typed_names().items():
        assert getattr(sesa_agent, name) is getattr(import_module(module), name)


def test_a_run_from_python_is_that_of_the_command(sesa_agent, model, here, capsys):
    run = train("sokoban", model=model, steps=2, output="python", settings=LISTED)
    assert capsys.readouterr().out == ""
    words = ("--model", model, "--steps", "2", "--output", "shell", *SMALL_COMMAND)
    assert sesa_agent("train", "--env", "sokoban", *words)[0] == 0
    results = [
        json.loads((here / name / "result.json").read_text()) for name in ("python", "shell")
    ]
    assert results[0] == results[1]
    returned = {name: result.to_json() for name, result in run.results.items()}
    assert results[0] == json.loads(json.dumps(returned))
    assert run.folder == Path("python")
    assert [line["step"] for line in run.history()] == [0, 1]
    assert run.metrics["train/tokens"] == run.history()[1]["train/tokens"]
    assert "policy" not in repr(run)


def test_a_run_can_be_measured_and_gone_on_with(model, here):
    run = train(ENV_ID, "ragen", model=model, steps=1, output="run", settings=SMALL_COMMAND)
    measured = [evaluate(what, episodes=4, samples=2) for what in (run, "run", here / "run")]
    assert measured[0] == measured[1] == measured[2]
    assert list(measured[0].pass_at_k) == [1, 2]
    assert measured[0].wins == run.results["trained"].wins
    more = train(resume="run", steps=2)
    assert [line["step"] for line in more.history()] == [0, 1]
    assert more.config.method == "ragen"


def test_a_model_is_measured_as_by_the_command(sesa_agent, here, model):
    result = evaluate(model, ENV_ID, episodes=6, samples=3, ks=[1, 3], temperature=1.0, seed=2)
    words = ("--env", ENV_ID, "--episodes", "6", "--samples", "3", "--k", "1,3", "--seed", "2")
    words = (*words, "--temperature", "1.0", "--json", "shell.json")
    assert sesa_agent("evaluate", model, *words)[0] == 0
    shell = json.loads((here / "shell.json").read_text())
    assert {key: shell[key] for key in result.to_json()} == json.loads(json.dumps(result.to_json()))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: train(), "--env must be given"),
        (lambda: train("sokobann"), "Did you mean 'sokoban'?"),
        (lambda: train("sokoban", "sessa"), "Did you mean 'sesa'?"),
        (lambda: train("sokoban", settings={"optim.lrr": 1}), "Did you mean optim.lr?"),
        (lambda: train("sokoban", settings={"optim": {"lr": 1}}), "optim is a group of settings"),
        (lambda: train("sokoban", settings="optim.lr=1"), "settings must be a dict or a list"),
        (lambda: train("sokoban", steps=0), "optim.steps must be at least 1, got 0"),
        (lambda: train(resume="none"), "none is not a run folder"),
        (lambda: train(resume="a", output="b"), "output must be left out with resume"),
        (lambda: evaluate("sesa-tiny"), "--env must be given with a model"),
        (lambda: evaluate("sesa-tiny", "sokoban", episodes=0), "episodes must be at least 1"),
        (lambda: evaluate("sesa-tiny", "sokoban", ks=[2]), "ks must be from 1 to samples (1)"),
        (lambda: evaluate("api:gpt", "sokoban"), "sesa-agent evaluate api:gpt"),
        (lambda: make_env("sokobann"), "Did you mean 'sokoban'?"),
    ],
)
def test_a_mistake_is_a_setting_error_of_one_line_and_leaves_nothing_behind(call, line, here):
    with pytest.raises(SettingError, match=re.escape(line)) as error:
        call()
    assert "\n" not in str(error.value)
    assert list(here.iterdir()) == []


def test_progress_is_shown_if_it_is_wanted(model, here, capsys):
    train(ENV_ID, model=model, steps=1, output="run", settings=SMALL_COMMAND, progress=True)
    assert "held-out puzzles" in capsys.readouterr().out
    evaluate("run", episodes=2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_returns(model, here, caplog, signum):
    """Job schedulers send SIGTERM some time before they kill: it used to lose the step."""

    def press_stop():
        # The guard of an environment, too, installs a handler for a while.
        while "stop_on_interrupt" not in getattr(signal.getsignal(signum), "__qualname__", ""):
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=press_stop)
    thread.start()
    with caplog.at_level(logging.WARNING, logger="sesa_agent"):
        run = train(ENV_ID, model=model, steps=100000, output="run", settings=SMALL_COMMAND)
    thread.join()
    assert run.was_stopped
    assert "Stopping after this step, then saving." in caplog.text
    steps = len(run.history())
    again = train(resume=run.folder, steps=steps + 1)
    assert not again.was_stopped
    assert len(again.history()) == steps + 1


def test_a_run_can_be_made_beside_the_main_thread(model, here):
    runs = []

    def work():
        runs.append(train(ENV_ID, model=model, steps=1, output="run", settings=SMALL_COMMAND))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [run.was_stopped for run in runs] == [False]


def test_a_short_name_brings_its_options_along():
    env = make_env("sudoku", num_blanks=3)
    board = env.reset(seed=0)[0]
    assert board.count("_") == 3
    assert env.unwrapped.text_spec == make_env("sesa/Sudoku-v0", answer="fill").unwrapped.text_spec  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path, model):
    """In a process of its own, whose `__main__` registers the game, with a smaller model."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    code, num_new = re.subn(
        r"(?<!folder, )steps=\d+", f"steps=2, model={str(model)!r}", "\n".join(blocks)
    )
    code, num_resumed = re.subn(r"(?<=folder, )steps=\d+", "steps=3", code)
    code, num_small = re.subn(r"settings=\{(.*?)\}", rf"settings={{\1, **{LISTED!r}}}", code)
    assert (num_new, num_resumed, num_small) == (2, 1, 2)
    code = re.sub(r"episodes=\d+", "episodes=4", code)
    (tmp_path / "notebook.py").write_text(code, encoding="utf-8")
    answer = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"sokoban-sesa-0", "corridor"}
    assert (tmp_path / "success.png").exists()
