"""Builds the parts of a run from its configuration; `resolve_auto` checks the environment first."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import torch
from torch.distributed.device_mesh import DeviceMesh

from ..agents.chat import Chat, ChatFormat
from ..agents.engines import ENGINES, load_engine
from ..agents.engines.base import Engine, SamplingParams
from ..agents.lora import add_adapter, import_peft, is_adapter, load_adapter
from ..agents.model_folder import BUNDLED
from ..agents.policy import Policy
from ..agents.precision import fastest_dtype
from ..agents.prompts import ANSWER_START, STOP
from ..configs.errors import SettingError, check, check_choice, first_line
from ..configs.schema import Config, EngineConfig, ModelConfig
from ..environments import OWN_ENVIRONMENTS, EnvError, close_env, is_deterministic, make_env
from ..environments.adapters.refusals import refuse_id
from ..environments.descriptions import describe_error, describe_message
from ..environments.ood_sets import TEST, check_split, check_step_limit, with_ood_set
from ..environments.text_env import (
    has_state_key,
    longest_solution,
    max_instances,
    max_steps,
    tool_specs,
)
from ..environments.workers.choice import allowed_workers, choose_workers
from ..environments.workers.pool import WorkerPool, shared_pool
from ..environments.workers.pooled_env import PooledEnv
from ..sampling import SAMPLERS
from ..sampling.dialogue import Dialogue, check_single_answer
from ..sampling.prompt_writer import prompt_style
from ..sampling.tree import resolve_merging
from .advantages import ADVANTAGES
from .distributed import agreed, weights_mesh
from .exploration import EXPLORATIONS
from .losses import LOSSES
from .prompt_choices import choose_by_chat, choose_by_environment
from .success import resolve_success

LAG_CAP = 2.0
"""`loss.engine_importance_cap` with `optim.lag=1`, unless another is set."""
NUM_TRIED_PUZZLES = 3
"""Puzzles to try before an environment that opens none is refused."""


def build_env(cfg: Config) -> gymnasium.Env[Any, Any]:
    """Make the run's environment in this process.

    Raises:
        SettingError: in one line, if the id is unknown or an option is not allowed.
    """
    with _refusing(cfg):
        return make_env(cfg.env.id, **_env_arguments(cfg))


def env_pool(cfg: Config) -> WorkerPool | None:
    """The worker processes of the run's environment; None if it is played in this process."""
    num_workers = cfg.env.workers
    if not isinstance(num_workers, int) or num_workers == 0:
        return None
    return shared_pool(cfg.env.id, num_workers, **_env_arguments(cfg))


def _env_arguments(cfg: Config) -> dict[str, Any]:
    env = cfg.env
    return {"step_timeout": env.step_timeout, "success_rule": env.success, **env.options}


@contextmanager
def _refusing(cfg: Config) -> Iterator[None]:
    """Say in one line why an environment cannot be made."""
    try:
        yield
    except gymnasium.error.Error as error:
        reason = refuse_id(cfg.env.id)
        if reason:
            raise SettingError(f"env.id {cfg.env.id} cannot be played: {reason}.") from error
        is_missing = isinstance(
            error, gymnasium.error.NameNotFound | gymnasium.error.NamespaceNotFound
        )
        is_bare = is_missing and ":" not in cfg.env.id
        advice = " Write module:Name-v0 if a package registers it." if is_bare else ""
        raise SettingError(
            f"--env {cfg.env.id!r} is not an environment: {error}{advice}"
        ) from error
    except ModuleNotFoundError as error:
        reason = refuse_id(cfg.env.id)
        if reason:
            raise SettingError(f"env.id {cfg.env.id} cannot be played: {reason}.") from error
        raise SettingError(
            f"--env {cfg.env.id!r} names a module that cannot be imported: "
            f"{str(error).rstrip('.')}. Install it."
        ) from error
    except SettingError as error:  # a constructor names its option as Python does
        if str(error).partition(" ")[0] in cfg.env.options:
            raise SettingError(f"env.options.{error}") from error
        raise
    except EnvError as error:
        raise SettingError(f"env.id {cfg.env.id} fails when made: {error}.") from error
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"env.options does not fit {cfg.env.id}: {describe_message(error).rstrip('.')}."
        ) from error
    except Exception as error:
        if cfg.env.id in OWN_ENVIRONMENTS and not isinstance(
            error, OSError
        ):  # of a file in an option
            raise
        raise SettingError(
            f"env.id {cfg.env.id} fails when made: {describe_error(error)}"
        ) from error


def check_env_opens(cfg: Config, env: gymnasium.Env[Any, Any]) -> None:
    """Open a puzzle, because some wrong options only show up then.

    Raises:
        SettingError: if an option does not fit, or the environment fails on every puzzle tried.
    """
    for seed in range(NUM_TRIED_PUZZLES):
        try:
            env.reset(seed=seed)
            return
        except ValueError as error:
            raise SettingError(
                f"env.options does not fit {cfg.env.id}: {first_line(error)}."
            ) from error
        except EnvError as error:
            failure = error
    raise SettingError(
        f"env.id {cfg.env.id} opens none of the puzzles 0 to {NUM_TRIED_PUZZLES - 1}: {failure}."
    )


def check_names(cfg: Config) -> None:
    """Check the names of sampler, credit rule, exploration method and engine.

    Done here and not in `configs/schema.py`, so that users can extend these dicts.

    Raises:
        SettingError: with the known names.
    """
    check_choice("sampling.name", cfg.sampling.name, tuple(SAMPLERS))
    check_choice("loss.credit", cfg.loss.credit, ("auto", *ADVANTAGES))
    check_choice("loss.exploration", cfg.loss.exploration, tuple(EXPLORATIONS))
    check_choice("loss.name", cfg.loss.name, tuple(LOSSES))
    check_choice("engine.name", cfg.engine.name, tuple(ENGINES))


def resolve_auto(cfg: Config) -> Config:
    """Replace every "auto" by a value that fits the environment and the machine.

    What prompts show may depend on the model too: then `choose_by_chat` decides.

    Raises:
        SettingError: if the environment is unknown, or does not support the settings.
    """
    check_names(cfg)
    device = cfg.model.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    pool = env_pool(cfg)
    env = build_env(cfg) if pool is None else _pooled_env(cfg, pool)
    try:
        resolved = _resolve(cfg, env, device)
    finally:
        close_env(env)
        if pool is not None:
            pool.release()
    if pool is not None and env_pool(resolved) is not pool:
        pool.close()
    return resolved


def for_evaluation(cfg: Config) -> Config:
    """Turn resolved settings into those for the puzzles of `eval.split`; prompts stay as they are.

    Raises:
        SettingError: if there is no such set, or its puzzles are those of training.
    """
    return cfg if cfg.eval.split == TEST else resolve_auto(with_ood_set(cfg))


def _pooled_env(cfg: Config, pool: WorkerPool) -> PooledEnv:
    """Make the run's environment in a worker; errors as in `build_env`."""
    with _refusing(cfg):
        return PooledEnv(pool)


def _resolve(cfg: Config, env: gymnasium.Env[Any, Any], device: str) -> Config:
    """`resolve_auto` with a look at the environment."""
    check_env_opens(cfg, env)
    check_split(cfg)
    check_step_limit(cfg, longest_solution(env), max_steps(env))
    prompt_style(env)  # raises if the environment has no text_spec
    check(
        not (cfg.model.prefill and tool_specs(env)),
        "model.prefill",
        cfg.model.prefill,
        f"false in {cfg.env.id}, where a reply calls tools",
    )
    cfg = replace(cfg, env=replace(cfg.env, success=resolve_success(cfg, env)))
    env_settings = replace(cfg.env, workers=_resolve_workers(cfg, env))
    dtype = fastest_dtype(device) if cfg.model.dtype == "auto" else cfg.model.dtype
    if SAMPLERS[cfg.sampling.name].is_single_answer:
        check_single_answer(cfg.sampling.name, cfg.env.max_turns)
    check(
        has_state_key(env) or not SAMPLERS[cfg.sampling.name].needs_state_key,
        "sampling.name",
        cfg.sampling.name,
        f"another sampler in {cfg.env.id}, which has no state_key()",
        "Add a state_key() to the environment.",
    )
    deterministic = is_deterministic(env)
    is_tree = cfg.sampling.name == "tree"
    merges = is_tree and resolve_merging(cfg.sampling.merge_states, env)
    stops = cfg.sampling.stop_on_success
    if stops == "auto":
        stops = "on" if is_tree and deterministic else "off"
    return replace(
        cfg,
        env=env_settings,
        model=replace(
            choose_by_environment(cfg, env),
            device=device,
            dtype=dtype,
            answer_format=answer_format(cfg.model),
        ),
        sampling=replace(
            cfg.sampling,
            merge_states="on" if merges else "off",
            stop_on_success=stops,
        ),
        loss=replace(
            cfg.loss,
            credit=_resolve_credit(cfg, deterministic, merges),
            engine_importance_cap=cfg.loss.engine_importance_cap or LAG_CAP * cfg.optim.lag,
        ),
    )


def answer_format(cfg: ModelConfig) -> str:
    """Return `strict` or `tolerant`, what `model.answer_format` stands for."""
    if cfg.answer_format != "auto":
        return cfg.answer_format
    return "strict" if cfg.path in BUNDLED else "tolerant"


def _resolve_workers(cfg: Config, env: gymnasium.Env[Any, Any]) -> int:
    """Choose the number of worker processes, or limit it to what the environment allows."""
    num_ranks = int(os.environ["WORLD_SIZE"]) if torch.distributed.is_torchelastic_launched() else 1
    if isinstance(cfg.env.workers, int):
        most = max_instances(env)
        advice = "Leave it out: a process cannot count the instances that it forks."
        check(
            cfg.env.workers > 0 or not most,
            "env.workers",
            cfg.env.workers,
            f"auto, or from 1 to {most} in {cfg.env.id}, of which {most} may live at once",
            advice,
        )
        return allowed_workers(cfg.env.workers, env, num_ranks)
    number, reason = choose_workers(env, num_ranks)
    pool = env_pool(replace(cfg, env=replace(cfg.env, workers=number)))
    if pool is not None:
        pool.reason = reason
    return number


def _resolve_credit(cfg: Config, deterministic: bool, merges: bool) -> str:
    """Choose the credit rule, or reject one that does not fit the environment."""
    credit = cfg.loss.credit
    if credit == "auto":
        return "best" if deterministic else "expected" if merges else "tree"
    check(
        credit != "best" or deterministic,
        "loss.credit",
        credit,
        f"auto, expected, tree or trajectory in {cfg.env.id}, which is not deterministic",
        "There, the best outcome may be luck.",
    )
    check(
        credit != "expected" or merges,
        "loss.credit",
        credit,
        "auto, tree or trajectory without merged states",
        "It backs up values through merged states.",
    )
    return credit


def build_policy(cfg: Config, path: str = "", is_trained: bool = True) -> Policy:
    """Load the policy of a run, or another model with the run's settings.

    Under torchrun its weights are split over all processes.

    Args:
        cfg: the run's configuration.
        path: a checkpoint's model, or another model; empty for the run's initial model.
        is_trained: whether its weights will change.

    Raises:
        SettingError: in one line, if the model or the device is missing or broken, or a package is
            not installed.
    """
    mesh = weights_mesh()
    if mesh is None:
        return _load_policy(cfg, path, cfg.model.device)
    policy = agreed(lambda: _load_split(cfg, path, is_trained, mesh))
    policy.ask_head()
    return policy


def _load_policy(cfg: Config, path: str, device: str) -> Policy:
    """Load a policy with whole weights, and put an adapter on it."""
    model = cfg.model
    if model.device == "cuda" and not torch.cuda.is_available():
        raise SettingError("model.device must be cpu or auto without a CUDA device, got 'cuda'.")
    if model.lora_rank:
        import_peft(f"model.lora_rank={model.lora_rank}")
    has_adapter = bool(path and model.lora_rank and is_adapter(path))
    policy = Policy.load(
        model.path if has_adapter else path or model.path,
        model.dtype,
        device,
        cfg.engine.temperature,
        model.trust_remote_code,
    )
    if model.lora_rank:
        add_adapter(policy.model, model.lora_rank, model.path, cfg.seed)
    if has_adapter:
        load_adapter(policy.model, path)
    if model.gradient_checkpointing:
        policy.recompute_layers()
    return policy


def _load_split(cfg: Config, path: str, is_trained: bool, mesh: DeviceMesh) -> Policy:
    """Load a policy whose weights are split over the ranks of a mesh."""
    model, place = cfg.model, path or cfg.model.path
    empty = None
    if not model.lora_rank:
        empty = Policy.load_empty(
            place, model.dtype, cfg.engine.temperature, model.trust_remote_code
        )
    policy = empty or _load_policy(cfg, path, "cpu")  # whole weights may not fit on a GPU
    if not is_trained:
        policy.model.requires_grad_(False)
    policy.split(mesh)
    if empty:
        empty.fill(place, mesh.device_type)
        if model.gradient_checkpointing:
            empty.recompute_layers()
    return policy


def build_reference(cfg: Config, policy: Policy, is_initial: bool = False) -> Policy:
    """Build the reference policy: the policy before training.

    Args:
        cfg: the run's configuration.
        policy: the run's policy; with LoRA its frozen base weights are the reference.
        is_initial: whether it is still untrained, so that a copy is enough.
    """
    if cfg.model.lora_rank:
        return policy.before_training()
    can_copy = is_initial and weights_mesh() is None
    return policy.copy() if can_copy else build_policy(cfg, is_trained=False)


def build_dialogue(cfg: Config, policy: Policy) -> Dialogue:
    """Build the dialogue of the policy with the environment.

    Raises:
        SettingError: if responses may fill all of the model's positions, without room for a prompt.
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
    chat = build_chat(cfg, policy)
    return build_chat_dialogue(cfg, chat, min(cfg.engine.max_prompt_tokens, room))


def build_chat(cfg: Config, policy: Policy) -> ChatFormat:
    """Build the chat format of the policy."""
    prefill = ANSWER_START if cfg.model.prefill else ""
    return ChatFormat(policy.tokenizer, cfg.model.thinking, prefill)


def settle_prompts(cfg: Config, chat: Chat) -> Config:
    """Decide what `resolve_auto` left to the model."""
    return replace(cfg, model=choose_by_chat(cfg.model, chat))


def _chosen_by_environment(cfg: Config) -> ModelConfig:
    """Decide what prompts show as far as the environment does, for settings of any kind."""
    if "auto" not in (cfg.model.context, cfg.model.layout):
        return cfg.model
    env = build_env(cfg)
    try:
        check_env_opens(cfg, env)
        return choose_by_environment(cfg, env)
    finally:
        close_env(env)


def build_chat_dialogue(cfg: Config, chat: Chat, max_prompt_tokens: int) -> Dialogue:
    """Build the dialogue of the environment with any model of a chat format.

    Raises:
        SettingError: if the settings do not fit the environment or the chat format.
    """
    check(
        not cfg.model.prefill or bool(chat.prefill),
        "model.prefill",
        cfg.model.prefill,
        "false for a model behind an API, which writes its replies from their beginning",
    )
    model = choose_by_chat(_chosen_by_environment(cfg), chat)
    windows = {"state": 1, "window": model.window, "full": cfg.env.max_turns}
    pool = env_pool(cfg)
    return Dialogue(
        lambda: build_env(cfg) if pool is None else PooledEnv(pool),
        chat,
        max_turns=cfg.env.max_turns,
        actions_per_turn=cfg.env.actions_per_turn,
        thinking=cfg.model.thinking,
        window=windows[model.context],
        max_prompt_tokens=max_prompt_tokens,
        is_strict=answer_format(cfg.model) == "strict",
        layout=model.layout,
        pool=pool,
    )


def build_engine(cfg: Config, policy: Policy) -> Engine:
    """Build the engine that samples the policy's responses."""
    return load_engine(policy, cfg.engine)


def sampling_params(
    cfg: EngineConfig,
    temperature: float = 0.0,
    seed: int = 0,
    stop: tuple[str, ...] = (STOP,),
) -> SamplingParams:
    """Make the sampling parameters; a temperature of 0 stands for the training temperature."""
    return SamplingParams(
        temperature=temperature or cfg.temperature,
        max_new_tokens=cfg.max_new_tokens,
        stop=stop,
        seed=seed,
    )


@dataclass(frozen=True)
class Agent:
    """A policy with the engine that samples its responses and the dialogue it plays."""

    policy: Policy
    engine: Engine
    dialogue: Dialogue


def build_agent(cfg: Config, path: str = "") -> Agent:
    """Load a policy and build its engine and dialogue.

    Args:
        cfg: the run's configuration.
        path: as in `build_policy`.

    Raises:
        SettingError: in one line, if the model, the engine or the environment does not fit.
    """
    policy = build_policy(cfg, path)
    dialogue = build_dialogue(cfg, policy)
    return Agent(policy, build_engine(cfg, policy), dialogue)
