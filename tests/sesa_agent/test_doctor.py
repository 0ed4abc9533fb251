"""`sesa-agent doctor`: what there is, what a run needs, and one line for what cannot be read."""

import torch

from sesa_agent.doctor_command import free_memory, installed_version


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


def test_a_run_that_does_not_fit_is_told_what_to_change(sesa_agent, model, monkeypatch):
    monkeypatch.setattr("sesa_agent.doctor_command.free_memory", lambda: 2 * 2**30)
    settings = ("optim.max_batch_tokens=100000000", "model.device=cpu")
    code, out, _ = sesa_agent("doctor", "--model", model, *settings)
    assert code == 0
    assert "It does not fit." in out
    assert "optim.max_batch_tokens=" in out and "model.gradient_checkpointing=true" in out


def test_a_mistake_is_one_line(sesa_agent, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "abacus"}')
    for words in (
        ("--model", tmp_path),
        ("--model", "./no-such-folder"),
        ("--env", "sokobann"),
        ("model.lora_rank=-1",),
    ):
        code, _, err = sesa_agent("doctor", *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert err.startswith("sesa-agent: ")


def test_a_missing_extra_says_how_to_install_it():
    assert installed_version("none", ("no-such-package",)).endswith("'sesa-agent[none]'")
    assert installed_version("test", ("no-such-package", "pytest")).startswith("pytest ")


def test_free_memory_is_that_of_a_machine():
    assert 2**26 < free_memory() < 2**46
