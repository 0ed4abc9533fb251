"""`sesa-agent doctor`: what there is, what a run needs, and one line for what cannot be read."""

import pytest
import torch

from sesa_agent.commands.doctor import free_memory, installed_version

from ...helpers.qwen import write_qwen


def test_the_machine_alone_is_shown_without_a_model(sesa_agent):
    code, out, _ = sesa_agent("doctor")
    assert code == 0
    assert torch.__version__ in out
    assert "peft" in out and "pyarrow" in out and "vllm" in out
    assert "peak" not in out


def test_a_model_that_fits(sesa_agent, model):
    for words in (("--model", model), ("--env", "countdown"), ("--method", "ragen")):
        code, out, _ = sesa_agent("doctor", *words, "model.device=cpu")
        assert code == 0
        assert "peak while learning" in out
        assert out.endswith("It fits.\n")


def test_a_run_that_does_not_fit_gets_advice(sesa_agent, model):
    """On a GPU that is not here: how much of this machine is free changes."""
    settings = ("optim.max_batch_tokens=100000000", "--gpu-gb", 24)
    code, out, _ = sesa_agent("doctor", "--model", model, *settings)
    assert code == 0
    assert "It does not fit." in out
    assert "optim.max_batch_tokens=" in out and "model.gradient_checkpointing=true" in out


def test_a_scale_can_be_checked_for_a_gpu_of_another_machine(sesa_agent, tmp_path):
    words = ("doctor", "--scale", "3b-1gpu", "--model", write_qwen(tmp_path, "3b"))
    code, out, _ = sesa_agent(*words, "--gpu-gb", 80)
    assert code == 0
    assert "59.4 GiB at the peak, while generating; 74.5 GiB free (a GPU of 80 GB)." in out
    assert "vLLM has room for about 338 thousand tokens" in out
    assert out.endswith("It fits.\n")
    _, out, _ = sesa_agent(*words, "--gpu-gb", 80, "engine.memory_fraction=0.1")
    assert "56.2 GiB at the peak, while learning" in out
    _, out, _ = sesa_agent(*words, "--gpu-gb", 48)
    assert "It does not fit. With model.lora_rank=16" in out


def test_processes_share_a_model_that_is_too_large_for_one(sesa_agent, tmp_path):
    words = ("doctor", "--scale", "14b-8gpu", "--model", write_qwen(tmp_path, "14b"))
    _, out, _ = sesa_agent(*words, "--gpu-gb", 80)
    assert "It does not fit" in out
    code, out, _ = sesa_agent(*words, "--gpu-gb", 80, "--processes", 8)
    assert code == 0
    assert "Each of 8 processes: 62.1 GiB at the peak, while generating" in out
    assert out.endswith("It fits.\n")


def test_a_share_that_is_too_small_for_vllm_is_reported(sesa_agent, tmp_path):
    words = ("--scale", "3b-1gpu", "--model", write_qwen(tmp_path, "3b"), "--gpu-gb", 80)
    _, out, _ = sesa_agent("doctor", *words, "engine.memory_fraction=0.05")
    assert "engine.memory_fraction=0.05 gives vLLM 3.7 GiB, but it needs 7.2 GiB" in out


def test_a_mistake_is_one_line(sesa_agent, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "abacus"}')
    for words in (
        ("--model", tmp_path),
        ("--model", "./no-such-folder"),
        ("--env", "sokobann"),
        ("model.lora_rank=-1",),
        ("--scale", "1b-1gpu"),
        ("--gpu-gb", -1),
        ("--gpu-gb", 80, "model.device=cpu"),
        ("--processes", 0),
        ("--processes", 5),
        ("--processes", 4, "optim.shard=3"),
    ):
        code, _, err = sesa_agent("doctor", *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert err.startswith("sesa-agent: ")


@pytest.mark.parametrize("word", ["engine.name=vlm", "sampling.name=forest", "loss.credit=luck"])
def test_a_name_that_nothing_bears_is_not_said_to_fit(sesa_agent, word):
    """Names are checked against dicts, apart from the other settings; here it was forgotten."""
    code, _, errors = sesa_agent("doctor", "--env", "sokoban", word)
    assert code == 2
    assert f"{word.partition('=')[0]} must be one of" in errors


def test_a_missing_extra_says_how_to_install_it():
    assert installed_version("none", ("no-such-package",)).endswith("'sesa-agent[none]'")
    assert installed_version("test", ("no-such-package", "pytest")).startswith("pytest ")


def test_free_memory_is_that_of_a_machine():
    assert 2**26 < free_memory() < 2**46
