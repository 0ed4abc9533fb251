"""Who has the last word on a setting, and what is refused."""

import pytest
import yaml
from omegaconf import OmegaConf

from sesa_agent.configs import load
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import (
    config_from_dict,
    config_to_dict,
    env_names,
    load_config,
    method_names,
    parse_overrides,
)
from sesa_agent.configs.schema import NUM_PUZZLES, Config, LossConfig, SamplingConfig
from sesa_agent.environments import ENVIRONMENTS
from sesa_agent.environments.splits import SPLITS
from sesa_agent.sampling import SAMPLERS
from sesa_agent.training.advantages import ADVANTAGES
from sesa_agent.training.setup import resolve_auto


@pytest.fixture
def files(monkeypatch):
    """Configuration files by name, in place of the shipped ones."""
    texts = {"methods/sesa.yaml": "", "methods/ragen.yaml": "", "game.yaml": "env: {id: A/B-v0}"}
    monkeypatch.setattr(load, "_read", lambda name: OmegaConf.create(texts[name]))
    monkeypatch.setattr(load, "env_names", lambda: ["game"])
    return texts


def test_each_layer_has_the_word_over_the_one_before(files):
    assert load_config("game").optim.lr == Config().optim.lr
    files["methods/sesa.yaml"] = "optim: {lr: 1, steps: 1}\nseed: 1"
    assert load_config("game").optim.lr == 1
    files["game.yaml"] += "\noptim: {lr: 2}"
    assert load_config("game").optim.lr == 2
    files["game.yaml"] += "\nmethods: {sesa: {optim: {lr: 3}}}"
    assert load_config("game").optim.lr == 3
    config = load_config("game", "sesa", ["optim.lr=4"])
    assert (config.optim.lr, config.optim.steps, config.seed) == (4, 1, 1)
    assert load_config("game", "ragen").optim.lr == 2  # not the section of another method


def test_another_method_takes_its_own_settings_and_keeps_the_users(files):
    """A preset must not be laid over a resolved run: what the old one set would stay for ever."""
    files["methods/ragen.yaml"] = "loss: {filter_ratio: 0.25}\nsampling: {name: parallel}"
    files["game.yaml"] += "\nmethods: {ragen: {optim: {lr: 3}}}"
    old = config_to_dict(load_config("game", "ragen", ["seed=5", "env.options.size=6"]))
    old["sampling"]["merge_states"] = "off"  # what `auto` was resolved to
    new = config_from_dict(old, "sesa", ["optim.steps=9"])
    assert new == load_config("game", "sesa", ["seed=5", "env.options.size=6", "optim.steps=9"])
    assert new.loss.filter_ratio == 1
    assert config_from_dict(old, "ragen").sampling.merge_states == "off"


SLOW = pytest.mark.slow
PAIRS = [
    pytest.param(env, method, marks=[] if env == "sokoban" or method == "sesa" else SLOW)
    for env in env_names()
    for method in method_names()
]


@pytest.mark.parametrize(("env", "method"), PAIRS)
def test_every_file_loads_and_every_auto_is_decided(env, method):
    config = load_config(env, method)
    assert config.method == method and config.env.id in ENVIRONMENTS
    if config.sampling.name == "two_stage" and config.env.max_turns > 1:
        with pytest.raises(SettingError, match="sampling.name must be tree or parallel"):
            resolve_auto(config)
        return
    config = resolve_auto(config)
    values = config_to_dict(config)
    assert "auto" not in yaml.safe_dump(values)
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(values))) == config


def test_an_id_needs_no_file():
    for env_id in ("sesa/Sokoban-v0", "my_pkg:Game-v3", "Game-v12"):
        assert load_config(env_id).env.id == env_id
        assert load_config(env_id).env.options == {}


def test_a_text_is_taken_as_it_stands():
    """YAML 1.1 makes a truth value of `on`, so `merge_states=on` was refused as 'True'."""
    words = ["sampling.merge_states=on", "model.path=0123", "output=a: b=c {", "loss.discount=1"]
    config = load_config("sokoban", "sesa", words)
    assert config.sampling.merge_states == "on"
    assert (config.model.path, config.output, config.loss.discount) == ("0123", "a: b=c {", 1.0)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("optim.lr=3e-4", {"optim": {"lr": 3e-4}}),
        ("loss.normalize_std=false", {"loss": {"normalize_std": False}}),
        ("env.options.max_steps=4", {"env": {"options": {"max_steps": 4}}}),
        ("env.options={size: 6}", {"env": {"options": {"size": 6}}}),
        ("env.options.operators=[+, -]", {"env": {"options": {"operators": ["+", "-"]}}}),
        ("seed=07", {"seed": 7}),
    ],
)
def test_words_are_read(word, value):
    assert OmegaConf.to_container(parse_overrides([word])) == value


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("optim.lr", "Settings are written group.key=value, got 'optim.lr'"),
        ("=3", "Settings are written group.key=value"),
        ("optim=3", "optim is a group of settings"),
        ("optim.lr=[1", "optim.lr could not be read"),
        ("optim.lr=fast", "optim.lr: Value 'fast'"),
        ("optim.lr=", "optim.lr: Incompatible value"),
        ("optim.lr=inf", "optim.lr must be above 0 and finite"),
        ("optim.lr.x=3", "optim.lr"),
        ("sampling.num_proposals=2.5", "sampling.num_proposals"),
        ("lr=3", "Did you mean optim.lr?"),
        ("xyz.abc=1", "xyz.abc is not a setting. See docs/settings.md."),
        ("model.path=${nothing}", "model.path"),
        ("method=ragen", "method is set by --method"),
        ("env.id=Game-v0", "env.id is set by --env"),
        ("env.options=3", "env.options"),
        ("seed=-1", "seed must be from 0 to 9999"),
        ("sampling.max_redraws=-1", "sampling.max_redraws must be at least 0, got -1"),
        ("loss.overlong_buffer=-1", "loss.overlong_buffer must be at least 0, got -1"),
        ("loss.overlong_buffer=33", "loss.overlong_buffer must be at most engine.max_new_tokens"),
        ("loss.exploration=magic", "loss.exploration must be one of none, adaptive_entropy"),
        ("loss.exploration_share=1.5", "loss.exploration_share must be from 0 to 1, got 1.5"),
        ("loss.entropy_target=0", "loss.entropy_target must be above 0, got 0"),
        ("loss.pass_k=0", "loss.pass_k must be at least 1, got 0"),
        ("sampling.name=forest", "sampling.name must be one of parallel, tree"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(word, hint):
    with pytest.raises(SettingError) as error:
        load_config("sokoban", "sesa", [word])
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_are_told_with_the_nearest_one():
    with pytest.raises(SettingError, match="Did you mean 'frozen_lake'"):
        load_config("frozenlake")
    with pytest.raises(SettingError, match="--method must be one of .* Did you mean 'ragen'"):
        load_config("sokoban", "ragenn")


def test_the_names_in_the_schema_are_those_that_exist():
    """The configuration may not import what it names, so it names it twice."""
    for name in SAMPLERS:
        SamplingConfig(name=name)
    for name in ADVANTAGES:
        LossConfig(credit=name)
    assert NUM_PUZZLES == len(SPLITS["validation"]) == len(SPLITS["test"])
