"""W&B and trackio, the real packages: neither needs a network for what is tested here."""

import json
import struct
import subprocess
import sys

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.loggers import GuardedLogger, check_loggers, open_loggers
from sesa_agent.training.run_log import RunLog

from ..helpers.runs import read_metrics, run
from ..helpers.toy_game import ENV_ID


@pytest.fixture
def wandb(monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield wandb
    wandb.teardown()


@pytest.fixture
def trackio(monkeypatch, tmp_path):
    """The package, with a database of its own; it reads the place of it when imported."""
    pytest.importorskip("trackio", reason="trackio is not installed: the extra trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "database"))
    forget_trackio()
    yield pytest.importorskip("trackio")
    forget_trackio()


def forget_trackio():
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
        del sys.modules[name]


def make_config(to, *settings):
    return load_config(ENV_ID, "sesa", [f"log.to={to}", "log.project=tests", *settings])


def write(cfg, folder, steps, resume_step=0, told=None):
    tell = [].append if told is None else told.append
    loggers = open_loggers(cfg, folder, tell)
    with RunLog(folder, resume_step=resume_step, loggers=loggers) as log:
        for step in steps:
            log.write(step, {"eval/success_rate": step / 10, "train/loss": float("nan")})


def wandb_rows(folder):
    """What the files of W&B hold, a list of rows for each time that the run was opened."""
    import wandb  # pyright: ignore[reportMissingImports]
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore

    wandb.teardown()  # its process writes the last of it when it ends
    sittings = []
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        rows = []
        for message in messages(file.read_bytes()):
            record = Record()
            record.ParseFromString(message)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                row = {item.key or "/".join(item.nested_key): item.value_json for item in items}
                rows.append({key: json.loads(value) for key, value in row.items()})
        sittings.append(rows)
    return sittings


def messages(content):
    """The messages in a file of W&B: 7 bytes of its own, then a log as LevelDB writes it."""
    place, message = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # a block ends with zeros if no head has room in it
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield message
            message = b""


def trackio_rows(trackio, project="tests"):
    from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

    runs = list(trackio.Api().runs(project))
    return {run.name: SQLiteStorage.get_logs(project, run.name) for run in runs}


def test_wandb_gets_the_numbers_of_every_step_once_also_when_a_run_goes_on(wandb, tmp_path):
    folder, cfg, told = tmp_path / "run", make_config("wandb"), []
    write(cfg, folder, range(5), told=told)
    write(cfg, folder, range(3, 7), resume_step=3)
    first, second = wandb_rows(folder)
    assert [row["_step"] for row in first] == [0, 1, 2, 3, 4]
    assert [row["_step"] for row in second] == [5, 6]
    assert second[0]["eval/success_rate"] == 0.5
    assert "train/loss" not in second[0]
    (run_id,) = {path.stem for path in folder.glob("wandb/offline-run-*/run-*.wandb")}
    assert run_id == "run-" + json.loads((folder / "loggers.json").read_text())["wandb"]
    assert told[0].startswith("W&B is offline. Send the run later with: wandb sync ")


def test_trackio_gets_the_numbers_of_every_step_once_also_when_a_run_goes_on(
    trackio, tmp_path, capsys
):
    folder, cfg = tmp_path / "run", make_config("trackio")
    write(cfg, folder, range(5))
    write(cfg, folder, range(3, 7), resume_step=3)
    ((name, rows),) = trackio_rows(trackio).items()
    assert name.startswith("run-")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    assert rows[6]["eval/success_rate"] == 0.6
    assert capsys.readouterr().out == ""


def test_a_logger_that_is_added_later_gets_what_is_computed_then(trackio, tmp_path):
    write(make_config(""), tmp_path / "run", range(5))
    write(make_config("trackio"), tmp_path / "run", range(3, 7), resume_step=3)
    (rows,) = trackio_rows(trackio).values()
    assert [row["step"] for row in rows] == [3, 4, 5, 6]


def test_a_training_run_is_shown_in_both(wandb, trackio, llama, tmp_path):
    small = ["optim.steps=2", "sampling.num_tasks=2", "engine.max_new_tokens=2", "eval.episodes=2"]
    cfg = make_config("wandb,trackio", f"model.path={llama}", *small)
    run(cfg, tmp_path / "run")
    (rows,) = trackio_rows(trackio).values()
    assert [row["step"] for row in rows] == [0, 1]
    assert [row["_step"] for row in wandb_rows(tmp_path / "run")[0]] == [0, 1]
    lines = read_metrics(tmp_path / "run")
    assert rows[1]["train/tokens"] == lines[1]["train/tokens"]


def test_wandb_that_ends_in_the_middle_is_told_once_and_the_run_goes_on(wandb, tmp_path):
    """Somebody ends the run of W&B from outside, say in another cell of a notebook."""
    told = []
    loggers = open_loggers(make_config("wandb"), tmp_path, told.append)
    told.clear()
    with RunLog(tmp_path, loggers=loggers) as log:
        log.write(0, {"success": 0.0})
        wandb.teardown()
        for step in range(1, 4):
            log.write(step, {"success": 0.5})
    assert len(read_metrics(tmp_path)) == 4
    assert len(told) == 1
    assert told[0].startswith(
        "Warning: wandb failed and gets no more metrics until the run is resumed"
    )


class BrokenLogger:
    """Loses its connection at a step, or when it is closed."""

    def __init__(self, step):
        self.step = step
        self.num_writes = 0

    def write(self, step, metrics):
        self.num_writes += 1
        if step == self.step:
            raise ConnectionError("the network is gone.\nTraceback ...")

    def close(self):
        if self.step is None:
            raise TimeoutError


def test_a_logger_that_fails_is_told_once_and_left_alone(tmp_path):
    told, broken, at_end = [], BrokenLogger(step=1), BrokenLogger(step=None)
    loggers = [GuardedLogger(*named, 0, told.append) for named in (("a", broken), ("b", at_end))]
    with RunLog(tmp_path, loggers=loggers) as log:
        for step in range(4):
            log.write(step, {"success": 0.5})
    assert (broken.num_writes, at_end.num_writes) == (2, 4)
    assert told == [
        f"Warning: {name} failed and gets no more metrics until the run is resumed: {reason}. "
        "The run folder has all metrics."
        for name, reason in (("a", "the network is gone"), ("b", "TimeoutError()"))
    ]


def test_a_logger_that_cannot_start_is_told_and_the_run_goes_on(trackio, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_SERVER_URL", "not a url")
    told = []
    write(make_config("trackio"), tmp_path, range(2), told=told)
    assert len(read_metrics(tmp_path)) == 2
    assert len(told) == 1
    assert "trackio failed" in told[0]
    assert not (tmp_path / "loggers.json").exists()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_package_that_is_not_there_is_one_line(name):
    """In a process that finds no package of that name, installed here or not."""
    code = (
        "import sys\n"
        f"sys.modules[{name!r}] = None\n"
        "from sesa_agent.configs.schema import LogConfig\n"
        "from sesa_agent.training.loggers import check_loggers\n"
        f"check_loggers(LogConfig(to={name!r}))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = answer.stderr.splitlines()[-1]
    assert line.endswith(f"log.to={name} needs a package: pip install 'sesa-agent[{name}]'.")


def test_nobody_logged_in_is_one_line(wandb, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(SettingError, match="run wandb login, or set WANDB_MODE=offline"):
        check_loggers(make_config("wandb").log)
    monkeypatch.setenv("WANDB_MODE", "ofline")
    wandb.teardown()
    with pytest.raises(SettingError, match="Check WANDB_MODE"):
        check_loggers(make_config("wandb").log)


@pytest.mark.parametrize("to", ["tensorboard", "wandb,mlflow"])
def test_an_unknown_logger_is_refused(to):
    with pytest.raises(SettingError, match="log.to must be wandb, trackio or wandb,trackio"):
        make_config(to)


@pytest.mark.parametrize("text", ["{", "null", "[1]"])
def test_a_damaged_file_of_ids_does_not_stop_a_run(tmp_path, text):
    """A run without loggers ended with a traceback, too; the ids are replaced by new ones."""
    (tmp_path / "loggers.json").write_text(text)
    write(load_config(ENV_ID, "sesa"), tmp_path, [0])
    assert len(read_metrics(tmp_path)) == 1
