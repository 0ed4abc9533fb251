"""The command line: trainings that are really run, stopped and gone on with."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ..helpers.runs import SMALL_COMMAND


def start_training(*words):
    """Start a training in a process of its own; return at once."""
    command = [sys.executable, "-m", "sesa_agent", "train", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for_lines(run: Path, count: int):
    """Wait until a run has logged so many steps."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        log = run / "metrics.jsonl"
        if log.exists() and log.read_text().count("\n") >= count:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{run} logged fewer than {count} steps.")


@pytest.mark.slow
def test_ctrl_c_saves_and_the_printed_command_resumes(call, model, tmp_path):
    run = tmp_path / ("a long name with [brackets] " * 4).strip()
    process = start_training(
        *(
            "--env",
            "sokoban",
            "--model",
            model,
            "--output",
            run,
            "--steps",
            1000,
            *SMALL_COMMAND[:4],
        ),
        *("optim.checkpoint_every=900", *SMALL_COMMAND[5:]),
    )
    wait_for_lines(run, 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")
    command = next(line for line in out.splitlines() if "--resume" in line).split(": ", 1)[1]
    steps = len((run / "metrics.jsonl").read_text().splitlines())
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{steps:06d}"

    code, out, err = call(*shlex.split(command)[1:], "--steps", steps + 1)
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(steps + 1))
    results = json.loads((run / "result.json").read_text())
    assert {name: result["num_samples"] for name, result in results.items()} == {
        "base": 2,
        "trained": 2,
    }
    for word in ("base", "trained", "95 % interval", "pass@2", "tensorboard"):
        assert word in out

    words = ("evaluate", run, "--episodes", 3, "--samples", 3, "--json", "a/b.json")
    code, out, err = call(*words, "--k", "3, 1")
    assert (code, err) == (0, "")
    assert "pass@1" in out
    assert "pass@3" in out
    result = json.loads(Path("a/b.json").read_text())
    assert result["env"] == "sesa/Sokoban-v0"
    assert (result["num_episodes"], result["num_samples"]) == (3, 3)
    assert list(result["pass_at_k"]) == list(result["pass_at_k_interval"]) == ["1", "3"]


def test_a_model_can_be_evaluated_without_progress_bars_of_libraries(call, model):
    words = ("evaluate", model, "--env", "frozen_lake", "--episodes", 4, "engine.max_new_tokens=3")
    code, out, err = call(*words, "--temperature", 0.7)
    assert (code, err) == (0, "")
    assert "T = 0.7" in out
    assert "Loading weights" not in out


def test_problems_of_a_file_are_trained_on_and_counted_once(call, model, tmp_path, caplog):
    rows = [{"problem": f"What is {number} + 1?", "answer": number + 1} for number in range(30)]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, "broken"]))
    words = ("train", "--env", "math", "--model", model, "--steps", "1", "--output", "run")
    code, _, _ = call(*words, f"env.options.path={path}", *SMALL_COMMAND)
    assert code == 0
    assert "1 of 31 rows are broken" in caplog.text
    result = json.loads(Path("run/result.json").read_text())
    assert result["trained"]["num_episodes"] == 3  # a tenth is held out, though 4 were asked for
    code, _, _ = call("train", "--resume", "run", "--method", "ragen", "--steps", "2")
    assert code == 0
    code, _, err = call(
        *words[:-1], "other", f"env.options.path={path}", "env.options.broken_rows=refuse"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "row 31" in err


def test_a_scale_is_trained_with_another_model_and_resumes(call, model):
    words = ("train", "--env", "countdown", "--scale", "0.5b-1gpu", "--model", model, "--steps", 1)
    # Neither vLLM nor a GPU is here, and a byte is a token: the prompt has no room for many.
    code, _, _ = call(
        *words, *SMALL_COMMAND, "engine.name=hf", "model.device=cpu", "model.thinking=false"
    )
    assert code == 0
    run = Path("runs/countdown-sesa-0.5b-1gpu-0")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["scale"], config["model"]["dtype"]) == ("0.5b-1gpu", "bfloat16")
    assert (config["optim"]["lr"], config["loss"]["engine_importance_cap"]) == (1e-6, 2.0)
    code, _, _ = call("train", "--resume", run, "--method", "ragen", "--steps", 2)
    assert code == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["optim"]["lr"], config["loss"]["filter_ratio"]) == (1e-6, 0.25)


HOLD = """
import pathlib, sys, time
from sesa_agent.training.run_lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_with_damage_is_told_in_a_line_and_goes_on(call, model, caplog):
    """Damaged checkpoints were tracebacks, in `evaluate` and `--resume` alike."""
    words = ("--env", "frozen_lake", "--model", model, "--output", "run", "--steps", 2)
    assert call("train", *words, *SMALL_COMMAND)[0] == 0
    run = Path("run")
    newest = run / "checkpoints" / "step-000002"
    (newest / "model" / "model.safetensors").write_bytes(b"")
    before = content_of(run)
    for command in (("evaluate", run, "--episodes", 2), ("view", run, "--output", "trees.html")):
        assert call(*command)[0] == 0
    (message,) = caplog.messages  # `view` takes the tokenizer alone, which is whole
    assert "step-000002 is damaged" in message and "step-000001 is used" in message
    assert content_of(run) == before

    with subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        code, _, err = call("train", "--resume", run, "optim.lr=7")
        other.kill()
    assert (code, err.count("\n")) == (2, 1) and "another process trains" in err
    assert {**content_of(run), run / ".lock": b""} == {**before, run / ".lock": b""}

    assert call("train", "--resume", run)[0] == 0
    assert (run / "checkpoints" / "step-000002.damaged").is_dir()

    for checkpoint in (run / "checkpoints").glob("step-00000?"):
        (checkpoint / "state.json").write_text("{}")
    before = content_of(run)
    for command in (("evaluate", run), ("train", "--resume", run), ("play", "--policy", run)):
        code, _, err = call(*command)
        assert (code, err.count("\n")) == (2, 1) and "no whole checkpoint" in err
    assert content_of(run) == before
