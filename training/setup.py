"""Builds the parts of a run from its configuration. The environment comes first: it fails fast."""

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import torch

from ..agents.chat import Chat, ChatFormat
from ..agents.engines import ENGINES, load_engine
from ..agents.engines.base import Engine, SamplingParams
from ..agents.lora import add_adapter, import_peft, is_adapter, load_adapter
from ..agents.policy import Policy
from ..agents.prompts import STOP
from ..configs.errors import SettingError, check, check_choice
from ..configs.schema import Config, EngineConfig
from ..environments import ENVIRONMENTS, EnvError, is_deterministic, make_env
from ..environments.adapters.guard import describe_error
from ..sampling import SAMPLERS
from ..sampling.dialogue import Dialogue, check_single_answer, prompt_style
from ..sampling.tree import resolve_merging
from .advantages import ADVANTAGES
from .exploration import EXPLORATIONS

NUM_TRIED_PUZZLES = 3
"""Puzzles that an environment may fail to open one after another before a run is refused."""


def build_env(cfg: Config) -> gymnasium.Env[Any, Any]:
    """Make the run's environment.

    Raises:
        SettingError: in one line, if the id is unknown or an option is not allowed.
    """
    try:
        return make_env(cfg.env.id, step_timeout=cfg.env.step_timeout, **cfg.env.options)
    except gymnasium.error.Error as error:
        is_missing = isinstance(
            error, gymnasium.error.NameNotFound | gymnasium.error.NamespaceNotFound
        )
        is_bare = is_missing and ":" not in cfg.env.id
        advice = " Write module:Name-v0 if a package registers it." if is_bare else ""
        raise SettingError(
            f"--env {cfg.env.id!r} is not an environment: {error}{advice}"
        ) from error
    except ModuleNotFoundError as error:
        raise SettingError(
            f"--env {cfg.env.id!r} names a module that cannot be imported: "
            f"{str(error).rstrip('.')}. Install it."
        ) from error
    except SettingError:
        raise
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"env.options does not fit {cfg.env.id}: {str(error).rstrip('.')}."
        ) from error
    except Exception as error:
        if cfg.env.id in ENVIRONMENTS:
            raise
        raise SettingError(
            f"env.id {cfg.env.id} fails when made: {describe_error(error)}"
        ) from error


def check_env_opens(cfg: Config, env: gymnasium.Env[Any, Any]) -> None:
    """Open a puzzle, since some options can only be seen not to fit when one is made.

    Raises:
        SettingError: if an option does not fit, or the environment fails at every puzzle tried.
    """
    for seed in range(NUM_TRIED_PUZZLES):
        try:
            env.reset(seed=seed)
            return
        except ValueError as error:
            raise SettingError(
                f"env.options does not fit {cfg.env.id}: {str(error).rstrip('.')}."
            ) from error
        except EnvError as error:
            failure = error
    raise SettingError(
        f"env.id {cfg.env.id} opens none of the puzzles 0 to {NUM_TRIED_PUZZLES - 1}: {failure}."
    )


def check_names(cfg: Config) -> None:
    """Refuse names that no sampler, credit rule, exploration method or engine bears.

    Here and not in `configs/schema.py`, so that others can add to these dicts.

    Raises:
        SettingError: with the names that there are.
    """
    check_choice("sampling.name", cfg.sampling.name, tuple(SAMPLERS))
    check_choice("loss.credit", cfg.loss.credit, ("auto", *ADVANTAGES))
    check_choice("loss.exploration", cfg.loss.exploration, tuple(EXPLORATIONS))
    check_choice("engine.name", cfg.engine.name, tuple(ENGINES))


def resolve_auto(cfg: Config) -> Config:
    """Replace every "auto" by what fits the environment and the machine.

    Raises:
        SettingError: for an unknown environment, or one that cannot do what is asked for.
    """
    check_names(cfg)
    device = cfg.model.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    env = build_env(cfg)
    check_env_opens(cfg, env)
    prompt_style(env)  # raises if the environment cannot be played in words
    if SAMPLERS[cfg.sampling.name].is_single_answer:
        check_single_answer(cfg.sampling.name, cfg.env.max_turns)
    deterministic = is_deterministic(env)
    is_tree = cfg.sampling.name == "tree"
    merges = is_tree and resolve_merging(cfg.sampling.merge_states, env)
    stops = cfg.sampling.stop_on_success
    if stops == "auto":
        stops = "on" if is_tree and deterministic else "off"
    return replace(
        cfg,
        model=replace(cfg.model, device=device),
        sampling=replace(
            cfg.sampling,
            merge_states="on" if merges else "off",
            stop_on_success=stops,
        ),
        loss=replace(cfg.loss, credit=_resolve_credit(cfg, deterministic, merges)),
    )


def _resolve_credit(cfg: Config, deterministic: bool, merges: bool) -> str:
    """Choose the credit rule, or refuse one that would credit luck."""
    credit = cfg.loss.credit
    if credit == "auto":
        return "best" if deterministic else "expected" if merges else "tree"
    check(
        credit != "best" or deterministic,
        "loss.credit",
        credit,
        f"auto, expected, tree or trajectory in {cfg.env.id}, which is not deterministic",
        "The best of several outcomes is luck there.",
    )
    check(
        credit != "expected" or merges,
        "loss.credit",
        credit,
        "auto, tree or trajectory without merged states",
        "Values are passed on through states that are reached more than once.",
    )
    return credit


def build_policy(cfg: Config, path: str = "") -> Policy:
    """Load the policy of a run, or another model with the run's settings.

    Args:
        cfg: the run's configuration.
        path: a checkpoint's model, or another model; empty for the one that the run begins with.

    Raises:
        SettingError: in one line, if the model or the device it is for is missing or broken, or
            something that it needs is not installed.
    """
    model = cfg.model
    if model.device == "cuda" and not torch.cuda.is_available():
        raise SettingError("model.device must be cpu or auto without a CUDA device, got 'cuda'.")
    if model.lora_rank:
        import_peft(f"model.lora_rank={model.lora_rank}")
    goes_on = bool(path and model.lora_rank and is_adapter(path))
    policy = Policy.load(
        model.path if goes_on else path or model.path,
        model.dtype,
        model.device,
        cfg.engine.temperature,
        model.trust_remote_code,
    )
    if model.lora_rank:
        add_adapter(policy.model, model.lora_rank, model.path, cfg.seed)
    if goes_on:
        load_adapter(policy.model, path)
    if model.gradient_checkpointing:
        policy.recompute_layers()
    return policy


def build_reference(cfg: Config, policy: Policy, is_initial: bool = False) -> Policy:
    """The policy as it was when its run began.

    Args:
        cfg: the run's configuration.
        policy: the run's; with LoRA its frozen weights are the reference's.
        is_initial: whether it has not been trained yet, so that a copy of it will do.
    """
    if cfg.model.lora_rank:
        return policy.before_training()
    return policy.copy() if is_initial else build_policy(cfg)


def build_dialogue(cfg: Config, policy: Policy) -> Dialogue:
    """Build the way in which the policy plays the environment.

    Raises:
        SettingError: if the responses leave the model no room for a prompt.
    """
    longest = max(cfg.engine.max_new_tokens, cfg.sampling.sketch_tokens)
    positions = getattr(policy.model.config, "max_position_embeddings", None)
    room = positions - longest if positions else cfg.engine.max_prompt_tokens
    check(
        room > 0,
        "engine.max_new_tokens",
        cfg.engine.max_new_tokens,
        f"below the model's {positions} positions, with room for a prompt",
    )
    chat = ChatFormat(policy.tokenizer, cfg.model.thinking)
    return build_chat_dialogue(cfg, chat, min(cfg.engine.max_prompt_tokens, room))


def build_chat_dialogue(cfg: Config, chat: Chat, max_prompt_tokens: int) -> Dialogue:
    """Build the way in which the environment is played in a chat format, whoever answers."""
    windows = {"state": 1, "window": cfg.model.window, "full": cfg.env.max_turns}
    return Dialogue(
        lambda: build_env(cfg),
        chat,
        max_turns=cfg.env.max_turns,
        actions_per_turn=cfg.env.actions_per_turn,
        thinking=cfg.model.thinking,
        window=windows[cfg.model.context],
        max_prompt_tokens=max_prompt_tokens,
    )


def build_engine(cfg: Config, policy: Policy) -> Engine:
    """Build the engine that samples the policy's responses."""
    return load_engine(policy, cfg.engine)


def sampling_params(cfg: EngineConfig, temperature: float = 0.0, seed: int = 0) -> SamplingParams:
    """How responses are drawn: at the training temperature unless another is given."""
    return SamplingParams(
        temperature=temperature or cfg.temperature,
        max_new_tokens=cfg.max_new_tokens,
        stop=(STOP,),
        seed=seed,
    )


@dataclass(frozen=True)
class Agent:
    """A policy that can play: its weights, what generates its responses, and how it is asked."""

    policy: Policy
    engine: Engine
    dialogue: Dialogue


def build_agent(cfg: Config, path: str = "") -> Agent:
    """Load a policy once, and all that plays with it.

    Args:
        cfg: the run's configuration.
        path: as in `build_policy`.

    Raises:
        SettingError: in one line, if the model, the engine or the environment does not fit.
    """
    policy = build_policy(cfg, path)
    dialogue = build_dialogue(cfg, policy)
    return Agent(policy, build_engine(cfg, policy), dialogue)
