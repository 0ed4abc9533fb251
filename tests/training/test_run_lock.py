"""One training at a time in a run folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.training.run_lock import LOCK_FILE, locked

HOLDER = """
import pathlib, sys, time
from sesa_agent.training.run_lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_until_its_process_is_killed(tmp_path, holder):
    """Two trainings of one folder used to write into one log, and to delete each other's drafts."""
    with pytest.raises(SettingError, match="another process trains in this run folder"):
        with locked(tmp_path / "run"):
            raise AssertionError
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "run"):
        pass


def test_a_child_that_outlives_a_killed_process_does_not_keep_its_lock(tmp_path):
    """A worker of an engine may live on for a while."""
    child = os.fork()
    if child == 0:
        with locked(tmp_path):
            if os.fork():
                os._exit(0)
            signal.alarm(60)
            signal.pause()
    os.waitpid(child, 0)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("name", ["run", "a/b/run"])
def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path, name):
    with pytest.raises(ValueError), locked(tmp_path / name):
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / name):
        (tmp_path / name / "config.yaml").touch()
    assert (tmp_path / name / "config.yaml").exists()


def test_a_folder_that_was_there_stays(tmp_path):
    with locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_without_locks_training_is_possible_and_one_line_says_so(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", fail)
    with locked(tmp_path / "run"):
        assert Path(tmp_path / "run").is_dir()
    (message,) = caplog.messages
    assert "cannot be locked" in message
