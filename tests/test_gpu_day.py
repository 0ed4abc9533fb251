"""`benchmarks/gpu_day.py`, at toy size and without a GPU."""

import json
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from benchmarks.gpu_day import (
    Day,
    describe_run,
    gpu_tests,
    read_record,
    write_page,
)
from benchmarks.speed.device_updates import compare_split

ROOT = Path(__file__).parents[1]


def make_day(tmp_path):
    return Day(tmp_path, "cpu", "hf", tmp_path / "runs", tmp_path / "out", 0.0, True)


def test_the_tests_of_devices_are_found_by_their_mark():
    assert gpu_tests() == ["tests/training/test_devices.py"]


def line(step, **metrics):
    names = ("signal_groups", "distinct_answers", "readable_rate")
    rollout = {f"rollout/{name}": 0.5 for name in names}
    times = {"time/rollout_s": 1.0 + step, "time/learn_s": 2.0}
    return {"step": step, "progress/policy_calls": 8 * step, **rollout, **times, **metrics}


def test_a_run_is_described_from_its_first_to_its_last_evaluation(tmp_path):
    first = {"eval/success_rate": 0.25, "eval/pass_at_4": 0.5}
    lines = [line(0, **first), line(1), line(2, **{"eval/success_rate": 0.5}), line(3)]
    assert describe_run(tmp_path / "none", "eval/pass_at_4") == {}
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = describe_run(tmp_path, "eval/pass_at_4")
    assert (found["steps"], found["measured_at"], found["policy_calls"]) == (4, 2, 24)
    assert (found["success"], found["found"]) == ([0.25, 0.5], [0.5, None])
    assert (found["rollout_s"], found["learn_s"], found["signal_groups"]) == (2.5, 2.0, 0.5)


def test_the_page_has_what_there_is_and_is_read_back_on_the_same_machine(tmp_path):
    day = make_day(tmp_path)
    record = read_record(day)
    assert set(record) == {"machine"}
    record["tests"] = {"summary": "3 passed in 2.00s", "failures": ["FAILED tests/x.py"]}
    write_page(day, record, "python -m benchmarks.gpu_day")
    page = (tmp_path / "out" / "gpu.md").read_text()
    assert "3 passed in 2.00s" in page and "- FAILED tests/x.py" in page and "##" not in page
    assert read_record(day) == record
    record["machine"] = {"device": "another"}
    (tmp_path / "out" / "gpu.json").write_text(json.dumps(record))
    assert set(read_record(day)) == {"machine"}


def test_split_weights_learn_as_whole_ones(llama):
    with get_context("spawn").Pool(1) as pool:  # vLLM's tests may have joined a group in this one
        found = pool.apply(compare_split, (llama, "cpu", True))
    assert found["logprobs"] <= 1e-6 and found["gradient"] <= 1e-6
    assert found["split_s"] > 0 and found["whole_s"] > 0


def run_day(llama, tmp_path):
    words = ["--model", llama, "--device", "cpu", "--toy", "--minutes", 5]
    words += ["--output", tmp_path / "out", "--runs", tmp_path / "runs"]
    command = [sys.executable, "-m", "benchmarks.gpu_day", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_whole_day_in_small_and_once(llama, tmp_path):
    done = run_day(llama, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert record["tests"]["failures"] == []
    (update,) = record["updates"]
    assert 0 < update["packed_tokens"] < update["row_tokens"]
    assert min(update["packed_s"], update["padded_s"]) > 0 == update["packed_gib"]
    assert record["split"]["gradient"] <= 1e-6
    assert set(record["runs"]) == {"sokoban, ragen", "sokoban, sesa"}
    for found in record["runs"].values():
        assert found["steps"] == 1 and found["policy_calls"] > 0 and found["name"] == "pass@4"
    page = (tmp_path / "out" / "gpu.md").read_text()
    assert "| sokoban, sesa (pass@4) | 1 |" in page and "--device cpu --toy" in page
    assert str(tmp_path) not in page

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.jsonl")}
    assert run_day(llama, tmp_path).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((tmp_path / "out" / "gpu.json").read_text()) == record
