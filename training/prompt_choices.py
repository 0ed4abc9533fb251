"""Decides what prompts show where the settings leave it open: `model.context`, `model.layout`.

Two things decide. The environment is known first (`choose_by_environment`); what then is still
"auto" depends on the model's chat format (`choose_by_chat`). The run's `config.yaml` has the
result, so an evaluation shows the policy what it was trained on.
"""

from dataclasses import replace
from typing import Any

import gymnasium

from ..agents.chat import Chat, ChatFormat
from ..agents.model_folder import BUNDLED
from ..agents.prompts import GAME_PHRASE
from ..configs.errors import SettingError
from ..configs.schema import Config, ModelConfig
from ..environments.text_env import is_fully_observed, tool_specs
from ..sampling.replies import has_listed_actions

WINDOW = (
    "Prompts show the last {window} turns (model.context=window), because {env} does not say that "
    "its observation tells everything. Set model.context=state if it does."
)
STATE = (
    "Prompts show the present observation alone (model.context=state): the model's chat template "
    "cannot hold earlier turns, although {env} does not say that its observation tells everything."
)


def choose_by_environment(cfg: Config, env: gymnasium.Env[Any, Any]) -> ModelConfig:
    """Decide as far as the environment does; "auto" is left where it depends on the model.

    Args:
        cfg: the settings.
        env: the environment, after `reset`.
    """
    model = cfg.model
    if model.context == "auto" and tool_specs(env):  # results are not shown again
        model = replace(model, context="full")
    if model.context == "auto" and (cfg.env.max_turns == 1 or _tells_everything(env)):
        model = replace(model, context="state")
    is_answer = cfg.env.max_turns == cfg.env.actions_per_turn == 1
    if model.layout == "auto" and not (is_answer and model.path not in BUNDLED):
        model = replace(model, layout="game")
    return model


def _tells_everything(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether earlier turns add nothing: as the environment says, else if it has a few actions.

    Free text is how one plays text adventures and talks, and there the past matters.
    """
    claim = is_fully_observed(env)
    return has_listed_actions(env) if claim is None else claim


def choose_by_chat(model: ModelConfig, chat: Chat) -> ModelConfig:
    """Decide what is still "auto": turns only if the chat template can append them."""
    if model.context == "auto":
        try:
            chat.check_appends(model.thinking)
        except SettingError:
            model = replace(model, context="state")
        else:
            model = replace(model, context="window")
    if model.layout == "auto":
        model = replace(model, layout="game" if _knows_games(chat) else "short")
    return model


def _knows_games(chat: Chat) -> bool:
    """Whether a model was made for the layout of games: its tokenizer has their phrases."""
    return isinstance(chat, ChatFormat) and GAME_PHRASE in chat.tokenizer.get_vocab()


def describe_choice(before: Config, after: Config) -> str:
    """Describe in one line what was decided about the turns in a prompt; empty if nothing."""
    if before.model.context != "auto":
        return ""
    text = STATE if after.model.context == "state" else WINDOW
    return text.format(env=after.env.id, window=after.model.window)
