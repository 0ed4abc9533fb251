"""`sesa-agent serve`: mistakes are one line; what vLLM is started with."""

from importlib.util import find_spec

import pytest
import torch
from transformers import AutoConfig

from sesa_agent.agents.engines.vllm_head_padding import head_dim
from sesa_agent.agents.model_folder import bundled_model_folder
from sesa_agent.agents.policy import Policy
from sesa_agent.commands.serve import ServeOptions, server_words, widened

MISTAKES = {
    "no model": ((), "--model must be given, got ''. Try --model sesa-tiny."),
    "no GPU to split over": (("--model", "sesa-tiny", "--tp", "0"), "--tp must be at least 1"),
    "a port that is none": (("--model", "sesa-tiny", "--port", "70000"), "--port must be from 1"),
    "all of the memory": (
        ("--model", "sesa-tiny", "--memory-fraction", "1"),
        "--memory-fraction must be above 0 and below 1",
    ),
    "a folder that is not there": (("--model", "./nowhere"), "'./nowhere', which does not exist"),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(sesa_agent, here, words, hint):
    code, out, err = sesa_agent("serve", *words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert hint in err


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_one_line_says_how_to_get_it(sesa_agent, here):
    code, _, err = sesa_agent("serve", "--model", "sesa-tiny")
    assert (code, err.count("\n")) == (2, 1)
    assert "Install it: make vllm" in err


def test_the_server_has_the_options_that_the_engine_counts_on():
    options = ServeOptions("m", num_gpus=4, port=9, max_tokens=77, memory_fraction=0.5)
    words = server_words(options, "folder", on_gpu=True)
    pairs = dict(zip(words, words[1:], strict=False))
    assert pairs["--model"] == "folder" and pairs["--served-model-name"] == "sesa"
    assert pairs["--host"] == "127.0.0.1" and pairs["--port"] == "9"
    assert pairs["--tensor-parallel-size"] == "4" and pairs["--max-model-len"] == "77"
    assert pairs["--logprobs-mode"] == "processed_logprobs"  # of what is sampled from
    assert pairs["--gpu-memory-utilization"] == "0.5" and "--enforce-eager" not in words
    assert "--enforce-eager" in server_words(options, "folder", on_gpu=False)


def test_narrow_heads_are_padded_in_a_copy_that_says_the_same(tmp_path):
    folder = widened(str(bundled_model_folder("sesa-tiny")), tmp_path)
    assert head_dim(AutoConfig.from_pretrained(folder)) == 32
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        narrow = Policy.load("sesa-tiny", device="cpu").model(ids).logits
        wide = Policy.load(folder, device="cpu").model(ids).logits
    torch.testing.assert_close(wide, narrow, atol=1e-4, rtol=0)
    assert widened(folder, tmp_path) == ""
