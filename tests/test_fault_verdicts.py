"""The campaign of `make faults` sees a fault when there is one, or its table says nothing."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def process():
    with pytest.MonkeyPatch.context() as patch:
        # The import sets them for the commands that it starts; here they are restored.
        for name in ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "COLUMNS"):
            patch.setenv(name, "1")
        from benchmarks.faults import process
    return process


def end(process: Any, code: int, err: str = "", seconds: float = 1.0, **case: Any) -> str:
    return process.Outcome(process.Case("a case", (), **case), code, "", err, seconds).fault


MESSAGE = "sesa-agent: env.id must be an environment, got 'x'."


@pytest.mark.parametrize(("code", "err"), [(0, ""), (0, "a warning"), (2, MESSAGE)])
def test_a_good_end_is_no_fault(process, code, err):
    assert end(process, code, err) == ""


@pytest.mark.parametrize(
    ("code", "err", "seconds", "fault"),
    [
        (0, "", 60.0, "hang"),
        (-11, "", 1.0, "killed by SIGSEGV"),
        (2, f"Traceback (most recent call last):\nKeyError: 1\n{MESSAGE}", 1.0, "traceback"),
        (1, "odd", 1.0, "exit code 1: odd"),
        (2, "", 1.0, "0 messages"),
        (2, f"{MESSAGE}\n{MESSAGE}", 1.0, "2 messages"),
        (2, f"sesa-agent: {'x' * 1000}", 1.0, "a message of 1012 characters"),
    ],
)
def test_a_bad_end_is_a_fault(process, code, err, seconds, fault):
    assert end(process, code, err, seconds).startswith(fault)


def test_a_kill_that_was_wanted_is_no_fault(process):
    assert end(process, -9, codes=(-9,)) == ""


def test_an_answer_to_wrong_usage_may_be_framed(process):
    assert end(process, 2, "Usage: sesa-agent train\n| Error | No such option. |") == ""


def test_the_table_names_every_fault(tmp_path: Path):
    from benchmarks.faults.table import Row, write_table

    rows = [Row("kills", 20), Row("files", 3, ("one is lost",), "a note")]
    write_table(tmp_path / "faults.md", json.loads(json.dumps({"part": [asdict(r) for r in rows]})))
    text = (tmp_path / "faults.md").read_text("utf-8")
    assert "| kills | 20 | all well |  |" in text
    assert "| files | 3 | **1 broken** | a note |" in text
    assert "| all together | 23 | **1 broken** |" in text
    assert text.endswith("## Broken\n\n* files: one is lost\n")
