import json
import math

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree
from sesa_agent.training import run_log
from sesa_agent.training.run_log import RunLog

from ..helpers.runs import read_metrics
from ..helpers.strategies import make_tree, make_turn


def without_time(lines):
    return [{key: value for key, value in line.items() if key != "time_s"} for line in lines]


def test_a_line_holds_step_time_and_metrics(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.write(3, {"success": 0.25, "calls": 7, "grad_norm": math.nan, "ratio": math.inf})
        lines = read_metrics(tmp_path / "run")  # before the log is closed
    assert without_time(lines) == [
        {"step": 3, "success": 0.25, "calls": 7, "grad_norm": None, "ratio": None}
    ]
    assert 0 <= lines[0]["time_s"] < 60


def test_numbers_of_numpy_and_torch_are_plain_numbers(tmp_path):
    with RunLog(tmp_path) as log:
        log.write(0, {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": np.int64(3)})  # pyright: ignore[reportArgumentType]
    assert without_time(read_metrics(tmp_path)) == [{"step": 0, "a": 0.5, "b": 2.0, "c": 3.0}]


def test_a_resumed_log_is_that_of_an_uninterrupted_run(tmp_path):
    def write(log, steps):
        for step in steps:
            log.write(step, {"success": step / 10})
            if step % 2 == 0:
                log.write(step, {"eval": step / 100})

    with RunLog(tmp_path / "whole") as log:
        write(log, range(6))
    with RunLog(tmp_path / "killed") as log:
        write(log, range(5))
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "succ')  # killed while it wrote
    with RunLog(tmp_path / "killed", resume_step=3) as log:
        write(log, range(3, 6))
    lines = read_metrics(tmp_path / "killed")
    assert without_time(lines) == without_time(read_metrics(tmp_path / "whole"))
    times = [line["time_s"] for line in lines]
    assert times == sorted(times)


def test_a_new_log_replaces_an_old_one_and_resuming_needs_no_log(tmp_path):
    for _ in range(2):
        with RunLog(tmp_path) as log:
            log.write(0, {"success": 0.5})
    assert len(read_metrics(tmp_path)) == 1
    with RunLog(tmp_path / "empty", resume_step=4) as log:
        log.write(4, {"success": 0.5})
    assert len(read_metrics(tmp_path / "empty")) == 1


def test_tensorboard_reads_the_same_numbers(tmp_path):
    with RunLog(tmp_path) as log:
        for step in range(3):
            log.write(step, {"eval/success": step / 4, "nothing": math.nan})
    with RunLog(tmp_path, resume_step=1) as log:
        log.write(1, {"eval/success": 0.75})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["eval/success"]
    assert [(e.step, e.value) for e in events.Scalars("eval/success")] == [(0, 0.0), (1, 0.75)]


def test_sample_trees_can_be_read_back(tmp_path):
    tree = make_tree([ROOT, 0], [make_turn(observation="√"), make_turn(success=True)])
    with RunLog(tmp_path) as log:
        log.write_trees(10, [tree])
    content = json.loads((tmp_path / "trees" / "step-000010.json").read_text(encoding="utf-8"))
    assert [TrajectoryTree.from_json(item) for item in content] == [tree]


def read_events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_events_of_steps_that_run_again_are_dropped(tmp_path):
    with RunLog(tmp_path) as log:
        for step in (2, 4):
            log.write(step, {})
            log.write_event(step, "entropy", f"Entropie fällt in {step}.")
    with RunLog(tmp_path, resume_step=4) as log:
        assert read_events(tmp_path) == [
            {"step": 2, "kind": "entropy", "text": "Entropie fällt in 2."}
        ]
        log.write_event(5, "rescue", "Rescue.")
    assert [event["step"] for event in read_events(tmp_path)] == [2, 5]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["tensors"] == ["event/entropy/text_summary", "event/rescue/text_summary"]


def test_without_events_there_is_no_file_of_them(tmp_path):
    with RunLog(tmp_path) as log:
        log.write(0, {"success": 0.5})
    assert not (tmp_path / "events.jsonl").exists()


METRICS = ('{"step": 0, "a": 1}', '{"step": 1, "a": null}', '{"step": 2, "a": 3.5}')
EVENTS = tuple(f'{{"step": {step}, "kind": "entropy", "text": "é"}}' for step in range(3))
BROKEN = (
    b"null",
    b"{}",
    b"[1]",
    b'{"step": "1"}',
    b'{"step": -1}',
    b'{"step": 1',
    b"\xff\xfe",
    b"",
)


def write_log(path, lines, broken, place):
    """Write a log with a broken line before the one of this place."""
    texts = [line.encode() for line in lines]
    content = b"\n".join([*texts[:place], broken, *texts[place:]]) + b"\n"
    path.write_bytes(content)
    return content


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize(
    ("name", "lines", "read"),
    [
        ("metrics.jsonl", METRICS, run_log.read_metrics),
        ("events.jsonl", EVENTS, run_log.read_events),
    ],
)
def test_a_damaged_line_costs_no_other_and_is_kept_in_a_copy(
    tmp_path, caplog, name, lines, read, place, broken
):
    """All lines after it used to be deleted at the next resume, without a word."""
    content = write_log(tmp_path / name, lines, broken, place)
    expected = [json.loads(line) for line in lines]
    assert read(tmp_path) == expected
    assert caplog.messages == [f"{tmp_path / name} has damaged lines, which are left out: 1."]
    caplog.clear()
    RunLog(tmp_path, resume_step=2).close()
    assert read(tmp_path) == expected[:2]
    assert (tmp_path / f"{name}.bak").read_bytes() == content
    (message,) = caplog.messages
    assert f"{name}.bak" in message

    write_log(tmp_path / name, lines, broken, place)
    RunLog(tmp_path, resume_step=2).close()
    assert (tmp_path / f"{name}.bak-2").exists()


def test_a_log_that_no_checkpoint_is_left_of_is_kept_in_a_copy(tmp_path, caplog):
    """Without checkpoints a run begins again; it used to delete its log without a word."""
    with RunLog(tmp_path) as log:
        log.write(0, {"success": 0.5})
    content = (tmp_path / "metrics.jsonl").read_bytes()
    with RunLog(tmp_path, resume_step=0) as log:
        log.write(0, {"success": 0.25})
    assert (tmp_path / "metrics.jsonl.bak").read_bytes() == content
    assert len(read_metrics(tmp_path)) == 1
    (message,) = caplog.messages
    assert "metrics.jsonl.bak" in message


def test_a_half_written_last_line_is_no_damage(tmp_path, caplog):
    with RunLog(tmp_path) as log:
        log.write(0, {"success": 0.5})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 1, "succ\xc3')
    assert len(run_log.read_metrics(tmp_path)) == 1
    RunLog(tmp_path, resume_step=1).close()
    assert len(read_metrics(tmp_path)) == 1
    assert caplog.messages == []
    assert not (tmp_path / "metrics.jsonl.bak").exists()
