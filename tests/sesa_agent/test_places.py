"""Places that cannot be read or written, and what a full disk leaves: one line and exit code 2."""

import json
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sesa_agent.cli import check_words
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.writing import DiskError, drafted, replace_text, writing
from sesa_agent.outputs import check_file_writable, check_writable

from ..helpers.report_files import write_run
from ..helpers.runs import SMALL_COMMAND, run_python

LONG = "n" * 300
PLACES = {
    "train --env sokoban --output ''": "--output must be not empty, got ''",
    "train --env sokoban --output=": "--output must be not empty, got ''",
    "train --env sokoban --output link": "--output link is not writable: No such file",
    "train --env sokoban --output link/run": "--output link/run is not writable",
    f"train --env sokoban --output {LONG}": "names have at most 255 bytes",
    f"train --env sokoban --output a/{LONG}/b": "names have at most 255 bytes",
    f"train --env sokoban output={LONG}": "names have at most 255 bytes",
    "train --env sokoban --output file": "--output file is not writable: Not a directory",
    f"train --env sokoban --method {LONG}.yaml": "File name too long",
    f"train --resume {LONG}": "File name too long",
    "train --resume ''": "--resume must be not empty",
    "train --env sokoban --steps 1 optim.steps=-1": "optim.steps is set by --steps",
    "train --env sokoban --seed 1 seed=-4": "seed is set by --seed, got 'seed=-4'. Give only one.",
    "train --env sokoban --output a output=b": "output is set by --output",
    "evaluate ''": "must be not empty",
    f"evaluate {LONG} --env sokoban": "File name too long",
    "evaluate sesa-tiny --env sokoban --seed -5": "--seed must be 0 or more, got -5",
    "evaluate sesa-tiny --env sokoban --samples 99999999": "--samples must be 1 to 10000",
    "evaluate sesa-tiny --env sokoban model.path=none": "model.path is set by the model",
    "evaluate sesa-tiny --env sokoban --temperature 1 eval.temperature=-1": "set by --temperature",
    f"evaluate sesa-tiny --env sokoban --json {LONG}": "--json",
    f"evaluate sesa-tiny --env sokoban --json {'n' * 253}": "File name too long",
    "evaluate sesa-tiny --env sokoban --json link": "--json must be a file, not a link to nowhere",
    "evaluate sesa-tiny --env sokoban --json .": "--json must be a file, not a folder",
    "evaluate sesa-tiny --env sokoban --json file/x": "--json file is not writable",
    "pretrain --output link": "--output link is not writable",
    "pretrain --seed -1": "--seed must be from 0 to",
    "pretrain --episodes 1000000": "episodes must be at most",
    "check-env sokoban --seed -1": "--seed must be 0 or more",
    "check-env sokoban --episodes 1000000": "--episodes must be from 1 to 100000",
    f"new-env {LONG}": "NAME must be at most 100 characters long",
    "new-env ''": "must be not empty",
    "new-env my_game --folder link": "--folder link is not writable",
    f"new-env my_game --folder {LONG}": "--folder",
    "play --env sokoban --seed -1": "--seed must be 0 or more",
    "play --policy x --delay inf": "--delay must be from 0 to 3600 seconds, got inf",
    f"report {LONG}": "File name too long",
    f"view {LONG}": "File name too long",
    f"compare {LONG} .": "File name too long",
}


@pytest.mark.parametrize(("line", "hint"), PLACES.items(), ids=[line[:70] for line in PLACES])
def test_a_place_or_number_that_cannot_be_used_is_one_line(call, line, hint):
    """Most of them were tracebacks; `--output ''` wrote the run into the working folder, a link to
    nowhere failed after the work, and an option hid a wrong setting.
    """
    Path("link").symlink_to("nowhere/deep")
    Path("file").touch()
    code, out, err = call(*shlex.split(line))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert hint in err


def test_words_that_are_no_text_are_refused():
    """Bytes that are not UTF-8 arrive as surrogates, which no file of ours can hold."""
    with pytest.raises(SettingError, match="--output must be UTF-8 text"):
        check_words(["train", "--output", "run\udcff"])
    check_words(["train", "--output", "Läufe", "log.to="])


def test_a_path_with_a_nul_character_is_refused(tmp_path):
    with pytest.raises(SettingError, match="NUL"):
        check_writable(tmp_path / "a\0b", "--output")


def test_a_device_is_written_as_it_is(tmp_path):
    check_file_writable(Path("/dev/full"), "--json")
    with pytest.raises(DiskError, match="/dev/full could not be written: No space left"):
        replace_text(Path("/dev/full"), "text\n")
    assert Path("/dev/full").is_char_device()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(KeyboardInterrupt), drafted(tmp_path / "link") as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "real").read_text() == "old"
    replace_text(tmp_path / "link", "new")
    assert (tmp_path / "real").read_text() == "new" and (tmp_path / "link").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_errors_of_libraries_in_rust_are_of_the_disk_too(tmp_path):
    with pytest.raises(DiskError, match="m could not be written: No space left on device."):
        with writing(Path("m")):
            raise Exception("Error while serializing: I/O error: x (os error 28)")  # noqa: TRY002
    with pytest.raises(KeyError), writing(Path("m")):
        raise KeyError("a bug")


def limited(num_bytes, *words):
    """Run the command line in a process that may write no file larger than this."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))

    return run_python("-m", "sesa_agent", *words, preexec_fn=limit)


@pytest.mark.parametrize("num_bytes", [900, 2500, 20_000], ids=["log", "trees", "checkpoint"])
def test_a_full_disk_ends_a_training_in_one_line_and_it_resumes(call, model, tmp_path, num_bytes):
    """A traceback; and TensorBoard's thread died, so that the next step waited for it forever."""
    run = tmp_path / "run"
    words = ("train", "--env", "sokoban", "--model", model, "--output", run, "--steps", 1)
    ended = limited(num_bytes, *words, *SMALL_COMMAND)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "could not be written: File too large." in ended.stderr
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]
    if (run / "config.yaml").exists():
        command = ended.stderr.strip().split("resume with: sesa-agent ")[1]
        assert call(*shlex.split(command))[0] == 0
        assert json.loads((run / "result.json").read_text())


@pytest.mark.parametrize("command", ["report", "view"])
def test_a_full_disk_leaves_the_old_page(tmp_path, command):
    run = tmp_path / "run"
    write_run(run)
    (tmp_path / "page.html").write_text("old")
    words = (command, run, "--output", tmp_path / "page.html")
    ended = limited(2000, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    again = shlex.join(["sesa-agent", *map(str, words)])
    assert ended.stderr.endswith(f"File too large. When that is mended, run again: {again}\n")
    assert (tmp_path / "page.html").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"run", "page.html"}


def test_a_table_is_printed_before_its_file_is_written(call, model):
    """The table of an evaluation of hours was lost with the file that did not fit on the disk."""
    words = ("--env", "sokoban", "--episodes", 2, "--json", "/dev/full", "engine.max_new_tokens=3")
    code, out, err = call("evaluate", model, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "/dev/full could not be written" in err and "success" in out


def test_a_closed_output_does_not_stop_a_training(model, tmp_path):
    """`train | head -1` ended the run with the next line: steps and checkpoint were lost."""
    words = ("train", "--env", "sokoban", "--model", model, "--output", tmp_path / "run")
    line = shlex.join(map(str, [sys.executable, "-m", "sesa_agent", *words, "--steps", 1]))
    line += " " + shlex.join(SMALL_COMMAND)
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} | true"], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "result.json").read_text())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("envs | true", 1),
        ("envs >&-", 0),
        ("envs >/dev/full", 2),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 COLUMNS=20 envs | cat", 0),
        ("play --env sokoban <&- >&-", 0),
    ],
)
def test_streams_that_are_closed_or_full_end_quietly(line, code):
    """None of them may be a traceback: closed streams are None, ASCII cannot show a dash."""
    command = line.replace("envs", f"{sys.executable} -m sesa_agent envs", 1)
    command = command.replace("play", f"{sys.executable} -m sesa_agent play", 1)
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr and ended.stderr.count("\n") == (code == 2)


def test_an_interrupt_is_quiet_and_exits_with_130(monkeypatch, call):
    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("sesa_agent.commands.envs.run_envs", interrupt)
    assert call("envs") == (130, "", "")


def damage(run, change):
    """Change the saved trees of a run."""
    file = next((run / "trees").glob("*.json"))
    trees = json.loads(file.read_text())
    change(trees[0])
    file.write_text(json.dumps(trees))


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(parents=[5] * len(tree["parents"])),
        lambda tree: tree.update(parents=tree["parents"][:-1]),
        lambda tree: tree["turns"][0].update(reward={"a": 1}, observation={"a": 1}),
    ],
    ids=["parents in a circle", "a parent is missing", "objects for texts"],
)
@pytest.mark.parametrize("command", ["report", "view"])
def test_damaged_trees_are_one_line(call, tmp_path, command, change):
    """They were tracebacks, and with a circle of parents the report never ended."""
    run = tmp_path / "run"
    write_run(run)
    damage(run, change)
    code, out, err = call(command, run)
    assert code in ((0, 2) if command == "report" else (2,))  # a report shows no observation of it
    assert "Traceback" not in err and (code == 0 or "is damaged" in err and err.count("\n") == 1)
