"""The presets of real models override the values of the bundled ones, and fit a GPU."""

from dataclasses import replace
from functools import cache

import pytest

from sesa_agent.agents.engines.api import MessagesChat
from sesa_agent.commands.memory import estimate_memory, least_vllm_share
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import (
    config_from_dict,
    config_to_dict,
    env_names,
    load_config,
    method_names,
    scale_names,
)
from sesa_agent.configs.schema import Config
from sesa_agent.configs.yaml_text import read_yaml, write_yaml
from sesa_agent.training.monitor import rescued_config
from sesa_agent.training.setup import resolve_auto, settle_prompts

from ..helpers.qwen import SIZES, num_processes, qwen_shape

GPU = 80 * 10**9
GPU_SCALES = [name for name in scale_names() if name.endswith("gpu")]
LAPTOP = "135m-cpu"
USABLE = 0.9
"""Temporary allocations are not in an estimate."""


def test_there_is_a_scale_for_every_model_and_machine():
    one = [f"{size}-1gpu" for size in ("0.5b", "3b", "7b")]
    eight = [f"{size}-8gpu" for size in ("0.5b", "3b", "7b", "14b")]
    assert scale_names() == sorted([*one, *eight, "32b-16gpu", "72b-64gpu", LAPTOP])
    assert {scale.split("-")[0] for scale in GPU_SCALES} == {*SIZES}


@cache
def plain_config(scale: str) -> Config:
    """What a scale makes of a game that has no file."""
    return load_config("sesa/Sokoban-v0", scale=scale)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[] if name in ("sesa", "ragen", "dapo") else pytest.mark.slow)
        for name in method_names()
    ],
)
def test_no_number_of_the_bundled_models_is_left(method):
    """The scale determines model, engine and optimizer, whatever a game's file says.

    A scale lies over all games alike, so one is tried with each and the others with one.
    """
    for scale in scale_names():
        expected = plain_config(scale)
        for env in env_names() if scale in (GPU_SCALES[0], LAPTOP) else ("countdown",):
            config = load_config(env, method, scale=scale)
            assert config.model == expected.model
            assert config.engine == expected.engine
            of_method = load_config(env, method).optim.beta2  # part of RAGEN's trainer
            assert config.optim == replace(expected.optim, beta2=of_method)
            assert config.sampling.num_tasks == expected.sampling.num_tasks
            assert (config.scale, config.method) == (scale, method)


@pytest.mark.parametrize("env", env_names())
def test_every_auto_is_resolved(env):
    method = "sesa" if load_config(env).env.max_turns > 1 else "sesa-two-stage"
    config = resolve_auto(load_config(env, method, scale="3b-8gpu"))
    config = settle_prompts(config, MessagesChat())
    assert "auto" not in write_yaml(config_to_dict(config))


@pytest.mark.parametrize("scale", GPU_SCALES)
def test_a_scale_sets_everything_that_a_model_needs(scale):
    """The defaults are for the bundled models, so a scale must set these."""
    config, default = load_config("sokoban", scale=scale), Config()
    assert config.model.path == f"Qwen/Qwen2.5-{scale.split('b-')[0]}B-Instruct"
    assert (config.model.dtype, config.model.thinking) == ("bfloat16", True)
    is_large = scale.startswith(("32b", "72b"))
    assert config.engine.name == ("server" if is_large else "vllm")
    assert config.engine.max_new_tokens == 400
    assert config.optim.lr == (1e-5 if config.model.lora_rank else 1e-6)
    assert bool(config.model.lora_rank) == (scale == "7b-1gpu")
    assert config.sampling.sketch_tokens > default.sampling.sketch_tokens
    assert config.sampling.num_tasks == (16 if scale.endswith("-1gpu") else 128)
    assert config.sampling.num_tasks % num_processes(scale) == 0


@pytest.mark.parametrize("method", ["sesa", "ragen", "dapo"])
def test_the_scale_of_a_laptop_is_small_and_without_thoughts(method):
    config = load_config("countdown", method, scale=LAPTOP)
    assert (config.model.path, config.model.dtype) == ("smollm2", "auto")
    assert (config.model.thinking, config.engine.name) == (False, "hf")
    sampling, optim = config.sampling, config.optim
    assert (sampling.num_tasks, sampling.max_trajectories, sampling.num_proposals) == (16, 4, 4)
    assert (optim.num_epochs, optim.num_minibatches, optim.lr) == (1, 1, 2e-5)
    assert config.loss.drop_flat_groups
    assert config.loss.overlong_buffer in (0, 6)  # a fifth of 32 tokens, for dapo


def test_methods_keep_what_makes_them_and_drop_what_suits_the_bundled_model():
    scale = "0.5b-1gpu"
    ragen = load_config("sokoban", "ragen", scale=scale).loss
    assert (ragen.filter_ratio, ragen.entropy_coef) == (0.25, 0.001)  # RAGEN's, not the game's
    assert load_config("countdown", "ragen-entropy", scale=scale).loss.entropy_coef == 0.02
    dapo = load_config("math", "dapo", scale=scale)
    assert dapo.loss.overlong_buffer == dapo.engine.max_new_tokens / 5
    assert load_config("sokoban", "sesa", scale=scale).sampling.proposer == "history"
    assert load_config("sudoku", "ragen-kl-cov", scale=scale).loss.exploration_share == 0.0002
    plain = load_config("countdown", "sesa-paper")
    sized = load_config("countdown", "sesa-paper", scale=scale)
    assert sized.sampling.num_proposals == plain.sampling.num_proposals
    assert load_config("path_exploration", scale=scale).eval == load_config("path_exploration").eval


def test_typed_settings_win():
    config = load_config("sokoban", "ragen", ["optim.lr=2e-6", "model.path=a/b"], "3b-1gpu")
    assert (config.optim.lr, config.model.path) == (2e-6, "a/b")


def test_a_resumed_run_keeps_its_scale_with_another_method_too():
    words = ["optim.steps=7", "env.options.max_steps=9"]
    old = resolve_auto(load_config("sokoban", "ragen", words, "7b-1gpu"))
    values = read_yaml(write_yaml(config_to_dict(old)), "config.yaml")
    assert config_from_dict(values) == old
    new = resolve_auto(load_config("sokoban", "sesa", words, "7b-1gpu"))
    assert resolve_auto(config_from_dict(values, "sesa")) == new
    rescued = rescued_config(resolve_auto(config_from_dict(values, "", ["monitor.rescue=auto"])))
    assert (rescued.sampling.proposer, rescued.optim) == ("history", old.optim)


def test_a_run_from_before_there_were_scales_has_none():
    values = config_to_dict(load_config("sokoban", "ragen"))
    values.pop("scale")
    assert config_from_dict(values, "sesa") == load_config("sokoban", "sesa")


def test_a_wrong_name_is_reported_with_the_nearest_one():
    with pytest.raises(SettingError, match="--scale must be one of .* Did you mean '7b-8gpu'?"):
        load_config("sokoban", scale="7b8gpu")
    with pytest.raises(SettingError, match="--scale must be one of"):
        load_config("sokoban", scale="common")
    with pytest.raises(SettingError, match="scale is set by --scale"):
        load_config("sokoban", "sesa", ["scale=3b-1gpu"])


@pytest.mark.parametrize("method", ["sesa", "ragen", "ragen-paper-grpo"])
@pytest.mark.parametrize("scale", GPU_SCALES)
def test_every_scale_fits_a_gpu_of_80_gb(scale, method):
    """The penalty of `ragen-paper-grpo` needs a second copy of the weights."""
    config, shape = load_config("countdown", method, scale=scale), qwen_shape(scale.split("-")[0])
    assert estimate_memory(shape, config, GPU, num_processes(scale)).total < USABLE * GPU
    if config.engine.name == "vllm":
        assert config.engine.memory_fraction * GPU > 1.3 * least_vllm_share(shape, config)


def test_half_a_billion_weights_fit_a_gpu_of_24_gb():
    config, gpu = load_config("sokoban", scale="0.5b-1gpu"), 24 * 10**9
    assert estimate_memory(qwen_shape("0.5b"), config, gpu).total < USABLE * gpu


def test_three_billion_weights_need_checkpointing():
    config = load_config("sokoban", "sesa", ["model.gradient_checkpointing=false"], "3b-1gpu")
    assert estimate_memory(qwen_shape("3b"), config, GPU).total > GPU
