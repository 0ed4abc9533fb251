"""Which layer wins for a setting, what a method can extend, and what is rejected."""

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs import layers, load
from sesa_agent.configs.errors import MAX_LENGTH, SettingError
from sesa_agent.configs.load import (
    config_from_dict,
    config_to_dict,
    env_names,
    load_config,
    method_label,
    method_names,
    override_word,
    parse_overrides,
)
from sesa_agent.configs.schema import NUM_PUZZLES, Config, LossConfig, SamplingConfig
from sesa_agent.configs.yaml_text import read_yaml, write_yaml
from sesa_agent.environments import OWN_ENVIRONMENTS
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
    assert config.method == method and config.env.id in OWN_ENVIRONMENTS
    if config.sampling.name == "two_stage" and config.env.max_turns > 1:
        with pytest.raises(SettingError, match="sampling.name must be tree or parallel"):
            resolve_auto(config)
        return
    if config.sampling.name == "go_explore" and env == "sql_questions":
        with pytest.raises(SettingError, match="which has no state_key"):
            resolve_auto(config)
        return
    config = resolve_auto(config)
    values = config_to_dict(config)
    assert "auto" not in write_yaml(values)
    assert config_from_dict(read_yaml(write_yaml(values), "config.yaml")) == config


@pytest.mark.parametrize("method", [name for name in method_names() if name.startswith("ragen")])
def test_the_baselines_have_the_trainer_of_ragen(method):
    """RAGEN-AI/RAGEN at 5eb79b8: torch's standard deviation, and verl's dual clip and Adam."""
    config = load_config("sokoban", method)
    assert (config.loss.group_std, config.loss.dual_clip) == ("sample", 3)
    assert config.optim.beta2 == 0.999
    ours = load_config("sokoban")
    assert (ours.loss.group_std, ours.loss.dual_clip) == ("population", 0)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("loss.group_std=unbiased", "loss.group_std must be one of population, sample"),
        ("loss.dual_clip=1.2", r"loss.dual_clip must be 0 \(off\) or above 1 \+ loss.clip_high"),
        ("loss.dual_clip=-1", "loss.dual_clip must be 0"),
        ("optim.beta2=1", "optim.beta2 must be between 0 and 1, got 1"),
    ],
)
def test_what_the_trainer_of_ragen_adds_is_checked(word, told):
    with pytest.raises(SettingError, match=told):
        load_config("sokoban", "ragen", [word])


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
        ("optim.lr.x=3", "optim.lr must be a number, got {'x': 3}."),
        ("optim.weight_decay=.inf", "optim.weight_decay must be finite, got inf."),
        ("loss.entropy_coef=.nan", "loss.entropy_coef must be finite, got nan."),
        ("loss.clip_high=1e999", "loss.clip_high must be finite, got inf."),
        ("engine.temperature=0", "engine.temperature must be from 0.0001 to 1000, got 0.0."),
        ("engine.temperature=1e-30", "engine.temperature must be from 0.0001 to 1000"),
        ("eval.temperature=1e6", "eval.temperature must be from 0.0001 to 1000"),
        ("seed=1:30", "seed must be a whole number, got '1:30'."),
        ("optim.steps=1_000", "optim.steps must be a whole number, got '1_000'."),
        ("optim.steps=null", "optim.steps must be a whole number, got None."),
        ("optim.steps=9223372036854775808", "a whole number has more than 64 bits"),
        ("model.thinking=yes", "model.thinking must be true or false, got 'yes'."),
        ("model.thinking=1", "model.thinking must be true or false, got 1."),
        ("optim.lr=???", "optim.lr must be a number, got '???'."),
        ("optim.lr=${oc.env:HOME}", "optim.lr must be a number, got '${oc.env:HOME}'."),
        ("optim.lr=!!float 3", "optim.lr must be a number, got '!!float 3'."),
        ("a..b=1", "Settings are written group.key=value, got 'a..b=1'."),
        (".=1", "Settings are written group.key=value"),
        ("", "Settings are written group.key=value, got ''."),
        ("optim..=1", "Settings are written group.key=value"),
        ("a" * 10**6 + "=1", "aaa is not a setting. See docs/settings.md."),
        ("model.path=a\0b", r"model.path must be text in UTF-8, got 'a\x00b'."),
        ("model.path=\udc80", r"model.path must be text in UTF-8, got '\udc80'."),
        ("optim\n.lr=3", r"optim\n.lr is not a setting. Did you mean optim.lr?"),
        ("optim.\udc80=3", r"optim.\udc80 is not a setting."),
        ("env=3", "env is a group of settings"),
        ("env.options=[1]", "env.options must be a mapping whose keys are text, got [1]."),
        ("env.options=", "env.options must be a mapping whose keys are text, got ''."),
        (
            "env.options.a=[" + "[" * 1000,
            "env.options.a could not be read: it is nested too deeply",
        ),
        ("env.options" + ".a" * 3000 + "=1", "nested at most 20 deep"),
        ("env.options={a: &a [1], b: *a}", "write out what *a stands for"),
        ("env.options={a: !!python/name:os.system x}", "tags such as"),
        ("env.options={a: 1, a: 2}", "a is set twice"),
        ("env.options={1: 2}", "env.options must be a mapping whose keys are text, got {1: 2}."),
        ("sampling.num_proposals=2.5", "sampling.num_proposals"),
        ("lr=3", "Did you mean optim.lr?"),
        ("xyz.abc=1", "xyz.abc is not a setting. See docs/settings.md."),
        ("method=ragen", "method is set by --method"),
        ("env.id=Game-v0", "env.id is set by --env"),
        ("env.options=3", "env.options must be a mapping whose keys are text, got 3."),
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
    assert is_a_line(error)


def is_a_line(error):
    """Whether an error can be printed in a line, and is not endless."""
    line = str(error.value)
    return line.isprintable() and len(line) <= MAX_LENGTH


@pytest.mark.parametrize("word", ["optim.steps=-1", "optim.steps=x", "sampling.num_tasks=0"])
def test_a_value_that_a_later_word_replaces_is_checked_too(word):
    """`train optim.steps=-1 --steps 1` hid the mistake, and so did a repeated word."""
    key, _, value = word.partition("=")
    with pytest.raises(SettingError, match=f"{key} must be .*, got '?{value}"):
        load_config("sokoban", "sesa", [word, f"{key}=4"])


def test_a_value_that_only_fits_with_a_later_word_is_allowed():
    """How settings fit together is checked once all are known."""
    words = ["sampling.max_trajectories=2", "sampling.num_proposals=2", "sampling.num_proposals=1"]
    assert load_config("sokoban", "sesa", words).sampling.max_trajectories == 2
    with pytest.raises(SettingError, match="sampling.max_trajectories must be at least sampling"):
        load_config("sokoban", "sesa", words[:1])


def test_nothing_in_a_text_is_interpreted(monkeypatch):
    """`output=${oc.env:TOKEN}` wrote the variable's value into the run folder."""
    monkeypatch.setenv("TOKEN", "secret")
    texts = "${oc.env:TOKEN}", "${optim.lr}", "${", "???", "!!int 3", "*a"
    for text in texts:
        words = [f"output={text}", f"env.options.name={text}"]
        config = load_config("sokoban", "sesa", words)
        assert (config.output, config.env.options["name"]) == (text, text)
        values = read_yaml(write_yaml(config_to_dict(config)), "config.yaml")
        assert config_from_dict(values) == config


@pytest.mark.parametrize(
    "value", ["0123", "on", "~", "1e-4", "[a", "", "a b", 3, 1e-05, True, None]
)
def test_a_word_is_made_from_any_value(value):
    word = override_word("env.options.name", value)
    assert load_config("sokoban", "sesa", [word]).env.options["name"] == value
    if isinstance(value, str):
        assert load_config("sokoban", "sesa", [override_word("output", value)]).output == value


def test_values_from_python_are_checked_like_those_that_are_typed():
    """A numpy number was refused, or written to config.yaml as an object."""
    values = {
        "seed": np.int64(3),
        "optim": {"lr": np.float32(0.5)},
        "env": {"options": {"n": (1,)}},
    }
    config = config_from_dict(values)
    assert config == config_from_dict(
        {"seed": 3, "optim": {"lr": 0.5}, "env": {"options": {"n": [1]}}}
    )
    assert "!!" not in write_yaml(config_to_dict(config))
    wrongs: list[Any] = [{"optim": {"lr": "1e-3"}}, {"optim": None}, {"seed": 2**64}, {1: 2}, [1]]
    for wrong in wrongs:
        with pytest.raises(SettingError):
            config_from_dict(wrong)


def test_files_of_the_package_are_read_once(monkeypatch):
    first = load_config("countdown")
    first.env.options["max_number"] = 99  # is the caller's own
    monkeypatch.setattr(load, "files", None)
    monkeypatch.setattr(load, "_yaml_names", lambda folder: ["sesa", "countdown"])
    assert load_config("countdown").env.options["max_number"] == 20


ODD = st.one_of(
    st.sampled_from(
        ["", "-1", "0", "1", "1e9", "1e999", ".inf", ".nan", "~", "true", "auto", "off"]
    ),
    st.sampled_from(
        ["[", "{a: 1}", "[[]]", "&a", "*a", "!!set {a}", "${a}", "???", "9" * 25, "\udc80"]
    ),
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
)


@given(
    st.lists(
        st.tuples(st.sampled_from([*layers.TYPES, "env.options.a", "x.y", ""]), ODD), max_size=3
    )
)
def test_odd_words_give_a_configuration_or_a_line(words):
    try:
        config = load_config("sokoban", "ragen", [f"{key}={value}" for key, value in words])
    except SettingError as error:
        assert str(error).isprintable() and len(str(error)) <= MAX_LENGTH
    else:
        assert config_from_dict(read_yaml(write_yaml(config_to_dict(config)), "file")) == config


NATIVE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NATIVE |= st.lists(NATIVE, max_size=2) | st.dictionaries(
    st.integers() | st.text(), NATIVE, max_size=2
)


@given(st.dictionaries(st.sampled_from([*layers.TYPES]), NATIVE, max_size=3))
def test_odd_values_from_python_give_a_configuration_or_a_line(values):
    settings = {}
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        settings = layers.overlay(settings, {group: {name: value}} if group else {name: value})
    try:
        config_from_dict(settings)
    except SettingError as error:
        assert str(error).isprintable()


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
        (None, "mine.yaml is not a file. Name a YAML file of settings, or one of "),
        ("loss: {kl_coef: 1", "mine.yaml could not be read: "),
        ("[1, 2]", "mine.yaml must be a mapping of settings, got [1, 2]"),
        ("extends: ragenn", "mine.yaml must be one of "),
        ("extends: mine.yaml", "mine.yaml must be one of "),
        ("los: {kl_coef: 1}", "mine.yaml: los.kl_coef is not a setting. Did you mean loss.kl_coef"),
        ("loss: {kl_coef: much}", "mine.yaml: loss.kl_coef must be a number, got 'much'."),
        ("loss: {kl_coef: -1}", "mine.yaml: loss.kl_coef must be at least 0, got -1"),
        ("loss: {kl_coef: 1_0}", "mine.yaml: loss.kl_coef must be a number, got '1_0'."),
        ("loss: {kl_coef: 1, kl_coef: 2}", "mine.yaml could not be read: kl_coef is set twice"),
        (
            "loss: &a {kl_coef: 1}\nx: *a",
            "could not be read: write out what *a stands for in line 2",
        ),
        ("loss: !!python/name:os.system x", "could not be read: tags such as"),
        ("loss: {kl_coef: '${optim.lr}'}", "loss.kl_coef must be a number, got '${optim.lr}'."),
        ("loss:", "mine.yaml: loss must be a group of settings, got None."),
        ("loss: 3", "mine.yaml: loss must be a group of settings, got 3."),
        ("model: {path: 0123}", "model.path must be text, got 123. Quote it to pass it as text"),
        ("1: 2", "mine.yaml: 1 is not a setting."),
        ("extends: [ragen]", "extends in "),
        (b"loss: {kl_coef: 1} # \xff", "mine.yaml could not be read: it is not text in UTF-8."),
    ],
    ids=str,
)
def test_a_wrong_method_file_is_reported_in_one_line(mine, text, hint):
    mine.unlink()
    if text is not None:
        mine.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingError) as error:
        load_config("sokoban", str(mine))
    assert hint in str(error.value)
    assert is_a_line(error)


@pytest.mark.parametrize(
    "name", ["{folder}", "{folder}/no.yaml", "a" * 10_000 + "/b.yaml", "a\0/b.yaml"]
)
def test_a_method_that_is_no_file_is_reported_in_one_line(tmp_path, name):
    with pytest.raises(SettingError, match="^method .*") as error:
        load_config("sokoban", name.format(folder=tmp_path))
    assert is_a_line(error)


def test_a_method_file_may_begin_with_a_byte_order_mark_or_be_empty(mine):
    mine.write_bytes(b"\xef\xbb\xbfloss: {kl_coef: 0.5}")
    assert load_config("sokoban", str(mine)).loss.kl_coef == 0.5
    mine.write_text("")
    assert load_config("sokoban", str(mine)).loss == Config().loss


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


@pytest.mark.parametrize("env", ["sokoban", "countdown", "frozen_lake"])
def test_the_original_baseline_has_the_shape_of_its_source_in_every_game(env):
    cfg = load_config(env, "ragen-original")
    assert (cfg.sampling.num_tasks, cfg.sampling.max_trajectories) == (8, 16)
    assert (cfg.loss.filter_ratio, cfg.loss.entropy_coef) == (0.25, 0.001)
    assert (cfg.optim.num_epochs, cfg.optim.num_minibatches) == (1, 1)
    assert (cfg.env.options.get("reward") == "dense") == (env == "sokoban")
