"""Which layer wins for a setting, what a method can extend, and what is rejected."""

import logging

import pytest

from sesa_agent.configs import layers, load
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import (
    config_from_dict,
    config_to_dict,
    env_names,
    load_config,
    method_label,
    method_names,
    parse_overrides,
)
from sesa_agent.configs.schema import NUM_PUZZLES, Config, LossConfig, SamplingConfig
from sesa_agent.configs.yaml_text import read_yaml, write_yaml
from sesa_agent.environments import ENVIRONMENTS
from sesa_agent.environments.splits import SPLITS
from sesa_agent.sampling import SAMPLERS
from sesa_agent.training.advantages import ADVANTAGES
from sesa_agent.training.setup import resolve_auto


@pytest.fixture
def files(monkeypatch):
    """Configuration files by name, in place of the shipped ones."""
    texts = {"methods/sesa.yaml": "", "methods/ragen.yaml": "", "game.yaml": "env: {id: A/B-v0}"}
    monkeypatch.setattr(load, "_read", lambda name: read_yaml(texts[name], name) or {})
    monkeypatch.setattr(load, "env_names", lambda: ["game"])
    return texts


def test_each_layer_wins_over_the_one_before(files):
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


def test_another_method_brings_its_own_settings_and_keeps_the_users(files):
    """A preset must not be laid over a resolved run: what the old one set would stay."""
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
def test_every_file_loads_and_every_auto_is_resolved(env, method):
    config = load_config(env, method)
    assert config.method == method and config.env.id in ENVIRONMENTS
    if config.sampling.name == "two_stage" and config.env.max_turns > 1:
        with pytest.raises(SettingError, match="sampling.name must be tree or parallel"):
            resolve_auto(config)
        return
    config = resolve_auto(config)
    values = config_to_dict(config)
    assert "auto" not in write_yaml(values)
    assert config_from_dict(read_yaml(write_yaml(values), "config.yaml")) == config


def test_an_id_needs_no_file():
    for env_id in ("sesa/Sokoban-v0", "my_pkg:Game-v3", "Game-v12"):
        assert load_config(env_id).env.id == env_id
        assert load_config(env_id).env.options == {}


def test_a_text_is_taken_literally():
    """YAML 1.1 reads `on` as a truth value, so `merge_states=on` was rejected as 'True'."""
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
def test_words_are_parsed(word, value):
    assert parse_overrides([word]) == value


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("optim.lr", "Settings are written group.key=value, got 'optim.lr'"),
        ("=3", "Settings are written group.key=value"),
        ("optim=3", "optim is a group of settings"),
        ("optim.lr=[1", "optim.lr could not be read"),
        ("optim.lr=fast", "optim.lr must be a number, got 'fast'."),
        ("optim.lr=", "optim.lr must be a number, got ''."),
        ("optim.lr=inf", "optim.lr must be a number, got 'inf'."),
        ("optim.lr=.inf", "optim.lr must be finite, got inf."),
        ("optim.lr.x=3", "optim.lr"),
        ("sampling.num_proposals=2.5", "sampling.num_proposals"),
        ("lr=3", "Did you mean optim.lr?"),
        ("xyz.abc=1", "xyz.abc is not a setting. See docs/settings.md."),
        ("method=ragen", "method is set by --method"),
        ("env.id=Game-v0", "env.id is set by --env"),
        ("env.options=3", "env.options"),
        ("seed=-1", "seed must be from 0 to 9999"),
        ("sampling.max_redraws=-1", "sampling.max_redraws must be at least 0, got -1"),
        ("loss.overlong_buffer=-1", "loss.overlong_buffer must be at least 0, got -1"),
        ("loss.overlong_buffer=33", "loss.overlong_buffer must be at most engine.max_new_tokens"),
        ("loss.exploration_share=1.5", "loss.exploration_share must be from 0 to 1, got 1.5"),
        ("loss.entropy_target=0", "loss.entropy_target must be above 0, got 0"),
        ("loss.pass_k=0", "loss.pass_k must be at least 1, got 0"),
    ],
)
def test_a_wrong_word_is_reported_in_one_line(word, hint):
    with pytest.raises(SettingError) as error:
        load_config("sokoban", "sesa", [word])
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_are_reported_with_the_nearest_one():
    with pytest.raises(SettingError, match="Did you mean 'frozen_lake'"):
        load_config("frozenlake")
    with pytest.raises(SettingError, match="--method must be one of .* Did you mean 'ragen'"):
        load_config("sokoban", "ragenn")


def test_the_names_in_the_schema_are_those_that_exist():
    """The configuration must not import what it names, so the names stand twice."""
    for name in SAMPLERS:
        SamplingConfig(name=name)
    for name in ADVANTAGES:
        LossConfig(credit=name)
    assert NUM_PUZZLES == len(SPLITS["validation"]) == len(SPLITS["test"])


# ---- methods that extend others ----


def test_a_method_takes_what_it_extends_and_wins_over_it(files):
    files["methods/ragen.yaml"] = "optim: {lr: 1, steps: 1}"
    files["methods/sesa.yaml"] = "extends: ragen\noptim: {lr: 2}"
    config = load_config("game")
    assert (config.optim.lr, config.optim.steps, config.method) == (2, 1, "sesa")


def test_a_method_takes_the_sections_of_what_it_extends_except_its_own_settings(files):
    """A game's tuning of `ragen` must not undo what makes a method that extends it different."""
    files["methods/ragen.yaml"] = "loss: {entropy_coef: 0.1}"
    files["methods/sesa.yaml"] = "extends: ragen\nloss: {entropy_coef: 0.2}"
    files["game.yaml"] += "\nmethods: {ragen: {loss: {entropy_coef: 0, filter_ratio: 0.5}}}"
    assert load_config("game", "ragen").loss.entropy_coef == 0
    loss = load_config("game").loss
    assert (loss.entropy_coef, loss.filter_ratio) == (0.2, 0.5)
    files["game.yaml"] = files["game.yaml"].replace("}}}", "}}, sesa: {loss: {filter_ratio: 0.7}}}")
    assert load_config("game").loss.filter_ratio == 0.7  # its own section comes last


# ---- a method file of one's own ----


@pytest.fixture
def mine(tmp_path):
    """A method file outside the package."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: ragen\nloss: {kl_coef: 0.01}\n")
    return path


@pytest.mark.parametrize("env", env_names())
def test_a_file_works_like_a_name(env, mine):
    config, ragen = load_config(env, str(mine)), load_config(env, "ragen")
    assert config.method == str(mine) and method_label(config.method) == "mine"
    ragen.loss.kl_coef, ragen.method = 0.01, str(mine)
    assert config == ragen


def test_a_file_named_like_a_preset_gets_no_sections_of_that_preset(tmp_path):
    path = tmp_path / "sesa.yaml"
    path.write_text("")
    assert load_config("sokoban", str(path)).sampling.num_tasks == SamplingConfig().num_tasks
    assert load_config("sokoban", "sesa").sampling.num_tasks == 48


def test_a_resumed_run_needs_its_method_file_only_to_change_the_method(mine):
    words = ["optim.steps=7"]
    values = config_to_dict(load_config("sokoban", str(mine), words))
    assert config_from_dict(values, "sesa") == load_config("sokoban", "sesa", words)
    mine.unlink()
    assert config_to_dict(config_from_dict(values)) == values
    assert config_from_dict(values, str(mine)).method == str(mine)
    with pytest.raises(SettingError, match=r"--method sesa cannot replace .*mine\.yaml is not a"):
        config_from_dict(values, "sesa")


def test_another_method_of_a_run_may_be_a_file(mine):
    old = config_to_dict(load_config("sokoban", "sesa", ["seed=5"]))
    assert config_from_dict(old, str(mine)) == load_config("sokoban", str(mine), ["seed=5"])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (None, "mine.yaml is not a file. Name a YAML file of settings, or one of dapo, ragen"),
        ("loss: {kl_coef: 1", "mine.yaml could not be read: "),
        ("[1, 2]", "mine.yaml must be a mapping of settings, got [1, 2]"),
        ("extends: ragenn", "mine.yaml must be one of dapo, ragen, "),
        ("extends: mine.yaml", "mine.yaml must be one of dapo, ragen, "),
        ("los: {kl_coef: 1}", "mine.yaml: los.kl_coef is not a setting. Did you mean loss.kl_coef"),
        ("loss: {kl_coef: much}", "mine.yaml: loss.kl_coef must be a number, got 'much'."),
        ("loss: {kl_coef: -1}", "loss.kl_coef must be at least 0, got -1"),
    ],
)
def test_a_wrong_method_file_is_reported_in_one_line(mine, text, hint):
    mine.unlink() if text is None else mine.write_text(text)
    with pytest.raises(SettingError) as error:
        load_config("sokoban", str(mine))
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


# ---- settings with new names ----


@pytest.fixture
def hints(caplog):
    """The hints that are logged, once each in a process."""
    layers._hint_at_new_name.cache_clear()
    caplog.set_level(logging.WARNING, "sesa_agent")
    return caplog


OLD = ("loss.history_gap=truncated", "loss.engine_gap_cap=3")
NEW = ("loss.history_correction=truncated", "loss.engine_importance_cap=3")


def test_every_new_name_is_a_setting_and_no_old_one_is():
    assert set(layers.RENAMED.values()) <= set(layers.TYPES)
    assert not set(layers.RENAMED) & set(layers.TYPES)


def test_old_names_work_on_the_command_line_with_one_hint_each(hints):
    for _ in range(2):
        assert load_config("sokoban", "sesa", OLD) == load_config("sokoban", "sesa", NEW)
    assert sorted(record.getMessage() for record in hints.records) == [
        "loss.engine_gap_cap is now loss.engine_importance_cap; the old name works until 0.3.",
        "loss.history_gap is now loss.history_correction; the old name works until 0.3.",
    ]


def test_old_names_work_in_a_method_file(mine, hints):
    mine.write_text("loss: {history_gap: truncated}")
    assert load_config("sokoban", str(mine)).loss.history_correction == "truncated"
    assert len(hints.records) == 1


def test_old_names_work_in_the_config_of_an_old_run(hints):
    config = load_config("sokoban", "ragen", NEW)
    old = config_to_dict(config)
    loss = {"history_gap": old["loss"].pop("history_correction"), **old["loss"]}
    loss["engine_gap_cap"] = loss.pop("engine_importance_cap")
    assert config_from_dict({**old, "loss": loss}) == config
    assert len(hints.records) == 2


def test_a_wrong_value_under_an_old_name_is_reported(hints):
    with pytest.raises(SettingError, match="loss.history_correction must be one of none"):
        load_config("sokoban", "sesa", ["loss.history_gap=some"])
