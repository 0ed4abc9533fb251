"""What the processes of a run must have in common, and what they say where they do not."""

import json

import pytest
import torch

from sesa_agent.training.agreement import bit_sums

from ..helpers.runs import REPOSITORY, SMALL, TORCHRUN, run_python
from ..helpers.toy_game import ENV_ID

MODULE = "tests.helpers.agreeing"


@pytest.fixture(scope="module")
def told(llama, tmp_path_factory):
    """What each of two processes was told."""
    folder = tmp_path_factory.mktemp("agreeing")
    done = run_python(*TORCHRUN, "-m", MODULE, folder, llama, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(2)]


def test_a_folder_that_all_see_is_accepted_and_no_mark_stays(told):
    for each in told:
        assert (each["same folder"], each["left"]) == ("", [])


def test_a_folder_that_one_does_not_see_is_refused_by_all_in_one_line(told):
    assert told[0]["other folder"] == told[1]["other folder"]
    assert told[0]["other folder"].startswith("SettingError: Process 1 on ")
    assert "of-1 of process 0" in told[0]["other folder"]
    assert "\n" not in told[0]["other folder"]


def test_rank_zero_names_the_checkpoint(told):
    """One process resumed, the other began anew, and the run ended with two sets of weights."""
    assert [each["no checkpoint"] for each in told] == ["None", "None"]
    assert told[0]["checkpoint"] == told[1]["checkpoint"]
    assert told[0]["checkpoint"].endswith("step-000002")
    assert told[0]["unseen"] == told[1]["unseen"]
    assert told[0]["unseen"].startswith("SettingError: Process 1 on ")
    assert "of-1/checkpoints/step-000002 as process 0" in told[0]["unseen"]


def test_replicas_that_differ_are_named(told):
    assert [each["equal"] for each in told] == ["", ""]
    assert told[0]["different"] == told[1]["different"]
    found = told[0]["different"]
    assert found.startswith(
        "RuntimeError: After step 4 the weights of processes 1 are not those of processes 0 "
    )
    assert "model.layers.0.self_attn.q_proj.weight among others" in found


def test_a_stalled_process_is_named(told):
    """Two processes waited four hours for a third, and were then told of a socket."""
    assert told[0]["stalled"].startswith("StalledError: Process 1 on ")
    assert "within 3 s (optim.patience)" in told[0]["stalled"]
    assert "\n" not in told[0]["stalled"]


@pytest.mark.slow
def test_the_command_line_refuses_a_folder_that_not_all_see(llama, tmp_path):
    words = ("train", "--env", ENV_ID, *SMALL, f"model.path={llama}", "--output", tmp_path / "run")
    done = run_python(*TORCHRUN, "-m", MODULE, *words, cwd=REPOSITORY)
    said = [line for line in done.stderr.splitlines() if line.startswith("sesa-agent: ")]
    assert len(said) == 1
    assert "Process 1 on " in said[0] and f"{tmp_path / 'run1'} of process 0" in said[0]
    assert "exitcode  : 2" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_sums_of_bits_tell_the_smallest_change():
    weights = torch.tensor([1.0, -2.0, 3.0])
    assert bit_sums([weights]) == bit_sums([weights.flip(0)])
    assert bit_sums([weights]) != bit_sums([weights.nextafter(torch.tensor(9.0))])
    # Read as integers, float16 has 15360 for 1 and -16384 for -2 (sign, 5 bits, 10 bits).
    assert bit_sums([torch.tensor([1.0, -2.0], dtype=torch.float16)]) == [15360 - 16384]
