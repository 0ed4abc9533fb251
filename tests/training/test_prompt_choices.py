"""Which turns a prompt shows and in which layout, where the settings leave it open."""

from functools import partial

import gymnasium
import pytest
from gymnasium.spaces import Text

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.api import MessagesChat
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import config_from_dict, config_to_dict, env_names, load_config
from sesa_agent.environments import TextSpec
from sesa_agent.evaluation.validation import validate
from sesa_agent.training.prompt_choices import choose_by_chat, describe_choice
from sesa_agent.training.setup import build_chat_dialogue, resolve_auto, settle_prompts
from sesa_agent.training.trainer import open_session, train

from ..helpers.games import CHAT
from ..helpers.plugins import ADVENTURE, DIALOGUE_GAME, FOLDER
from ..helpers.runs import make_config, read_metrics, run
from ..helpers.tiny_models import FORGETFUL, byte_tokenizer, save_llama
from ..helpers.toy_game import ENV_ID, TAXI


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def forgetful_chat() -> ChatFormat:
    special = ("<|pad|>", "<|im_start|>", "<|im_end|>")
    return ChatFormat(byte_tokenizer(FORGETFUL, special, eos="<|im_end|>"))


# ---- turns ----


def test_conversations_with_tools_show_all_turns():
    """A result of a tool is shown once."""
    assert resolve_auto(load_config("sql_questions")).model.context == "full"


GAMES = [name for name in env_names() if name != "sql_questions"]


@pytest.mark.parametrize("env", [*GAMES, ENV_ID, TAXI, "CartPole-v1"])
def test_games_whose_observation_tells_everything_show_the_state(env):
    assert resolve_auto(load_config(env)).model.context == "state"


@pytest.mark.parametrize("env", [ADVENTURE, DIALOGUE_GAME])
def test_adventures_and_conversations_show_their_last_turns(env):
    before = resolve_auto(load_config(env))
    after = settle_prompts(before, CHAT)
    assert (before.model.context, after.model.context) == ("auto", "window")
    assert "the last 10 turns (model.context=window)" in describe_choice(before, after)
    assert build_chat_dialogue(before, CHAT, 4096).window == 10
    assert describe_choice(after, settle_prompts(after, CHAT)) == ""


def test_a_single_turn_has_no_past():
    cfg = resolve_auto(load_config(DIALOGUE_GAME, overrides=["env.max_turns=1"]))
    assert cfg.model.context == "state"


def test_a_template_that_cannot_append_falls_back_to_the_state_and_says_so():
    before = resolve_auto(load_config(DIALOGUE_GAME))
    after = settle_prompts(before, forgetful_chat())
    assert after.model.context == "state"
    assert "chat template cannot hold earlier turns" in describe_choice(before, after)


@pytest.mark.parametrize("context", ["state", "window", "full"])
def test_what_is_typed_stands(context):
    cfg = resolve_auto(load_config(DIALOGUE_GAME, overrides=[f"model.context={context}"]))
    assert cfg.model.context == context
    assert describe_choice(cfg, settle_prompts(cfg, CHAT)) == ""


class Names(gymnasium.Env):
    """Its actions are the names of its text_spec."""

    text_spec = TextSpec("Play.", "", "Left, Right")
    observation_space = action_space = Text(99)
    max_steps = 3

    def reset(self, *, seed=None, options=None):
        return "go", {}

    def step(self, action):
        return "on", 0.0, False, False, {}

    def canonical_action(self, text):
        return text if text in ("Left", "Right") else None


class Claims(Names):
    """Says that the past matters."""

    is_fully_observed = False


gymnasium.register("Names-v0", lambda **_: Names())
gymnasium.register("Claims-v0", lambda **_: Claims())


def test_an_environment_with_a_few_names_shows_the_state_unless_it_says_otherwise():
    assert resolve_auto(load_config("Names-v0")).model.context == "state"
    assert resolve_auto(load_config("Claims-v0")).model.context == "auto"


# ---- the layout ----


def test_bundled_models_keep_the_layout_they_were_trained_on():
    for env in env_names():
        assert resolve_auto(load_config(env)).model.layout == "game"


def test_single_answers_of_other_models_have_the_short_layout():
    words = ["model.path=some/model", "env.max_turns=1"]
    cfg = settle_prompts(resolve_auto(load_config("math", overrides=words)), CHAT)
    assert cfg.model.layout == "short"
    cfg = settle_prompts(resolve_auto(load_config("sokoban", overrides=words[:1])), CHAT)
    assert cfg.model.layout == "game"  # several turns
    words = [*words, "env.actions_per_turn=5"]
    assert resolve_auto(load_config("sokoban", overrides=words)).model.layout == "game"


def test_a_copy_of_a_bundled_model_is_known_by_its_words():
    """A checkpoint in a folder has no name; its tokenizer has the phrases of the game layout."""
    cfg = resolve_auto(load_config("math", overrides=["model.path=./checkpoint/model"]))
    for name in ("sesa-tiny", "sesa-tiny-answers"):
        chat = ChatFormat(Policy.load(name, device="cpu").tokenizer)
        assert choose_by_chat(cfg.model, chat).layout == "game"
    assert choose_by_chat(cfg.model, MessagesChat()).layout == "short"


def test_a_run_from_before_the_settings_keeps_its_prompts():
    values = config_to_dict(load_config("math", overrides=["model.path=some/model"]))
    del values["model"]["layout"], values["model"]["context"]
    model = resolve_auto(config_from_dict(values)).model
    assert (model.context, model.layout) == ("state", "game")
    values |= {"model": {**values["model"], "layout": "short", "context": "window"}}
    model = config_from_dict(values, "ragen").model
    assert (model.context, model.layout) == ("window", "short")


# ---- runs ----


@pytest.mark.parametrize("env", [ADVENTURE, DIALOGUE_GAME])
def test_two_steps_of_training_with_several_turns_in_the_prompt(llama, tmp_path, env):
    cfg = make_config(llama, "env.max_turns=3", env=env)
    session = open_session(cfg, tmp_path)
    assert session.cfg.model.context == session.rescued.model.context == "window"
    train(session, partial(validate, session.cfg))
    assert [line["rollout/env_errors"] for line in read_metrics(tmp_path)] == [0.0, 0.0]


def test_turns_that_are_dropped_break_no_row(llama, tmp_path):
    """With context=full a row continues its parent; a prompt that lost turns begins a new row."""
    words = ("model.context=full", "env.max_turns=4", "engine.max_prompt_tokens=330")
    told = []
    run(make_config(llama, *words, env=ADVENTURE), tmp_path / "run", tell=told.append)
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1]
    assert max(line["rollout/cut_prompts"] for line in lines) > 0
    cut = [text for text in told if "engine.max_prompt_tokens=330" in text]
    assert len(cut) == 1


def test_a_run_whose_prompts_fit_is_told_nothing(tmp_path):
    told = []
    run(make_config(save_llama(tmp_path / "model")), tmp_path / "run", tell=told.append)
    assert not any("max_prompt_tokens" in text for text in told)
