"""Run folders: claim one for a new run, resume one, and find the policy to play with."""

from pathlib import Path
from typing import Any, NoReturn

from sesa_agent.configs.errors import SettingError, check, first_line
from sesa_agent.configs.load import (
    config_from_dict,
    env_names,
    load_config,
    method_label,
    override_word,
)
from sesa_agent.configs.schema import Config
from sesa_agent.configs.task_files import REWARD, is_task_file
from sesa_agent.configs.yaml_text import read_yaml
from sesa_agent.option_settings import with_options
from sesa_agent.outputs import check_writable
from sesa_agent.screen import warn
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.loggers import check_loggers
from sesa_agent.training.setup import for_evaluation, resolve_auto

CONFIG_FILE = "config.yaml"
"""The resolved settings of a run, in its folder."""
FIXED_SETTINGS = ("model.path", "model.dtype", "model.lora_rank", "seed", "output")
"""What a resumed run cannot change; the options of its environment are fixed too."""

SPLIT_BY_SEED = (
    "Warning: the run in {folder} was begun by a version whose splits differ by seed only. From "
    "here on they differ by content: other validation puzzles, so its curve has a step, and it may "
    "have been trained on some of them."
)
"""What is said when such a run is resumed."""


def new_run(
    env: str, method: str, overrides: list[str], output: Path | None, scale: str = ""
) -> tuple[Config, Path]:
    """Resolve the settings of a new run and claim its folder.

    Raises:
        SettingError: if a setting is wrong, or the folder is not writable or already holds a run.
    """
    if not env:
        raise SettingError(
            f"--env must be given: one of {', '.join(env_names())}, a Gymnasium id or a task file. "
            "Try --env sokoban."
        )
    cfg = load_config(env, method, overrides, scale)
    name = "-".join(
        [env_label(env), method_label(method), *([scale] if scale else []), str(cfg.seed)]
    )
    folder = output or Path(cfg.output or f"runs/{name}")
    check_writable(folder, "--output")
    if (folder / CONFIG_FILE).exists():
        raise SettingError(
            f"--output {folder} already holds a run. Resume it with --resume {folder}, or choose "
            "another folder with --output."
        )
    check_loggers(cfg.log)
    return resolve_auto(cfg), folder


def env_label(env: str) -> str:
    """The name of an environment, as it was typed, as a part of a folder's name.

    >>> env_label("mine:Game-v0"), env_label("data/tasks.jsonl")
    ('mine-Game-v0', 'tasks')
    """
    return Path(env).stem if is_task_file(env) else env.replace("/", "-").replace(":", "-")


def resumed_run(folder: Path, env: str, method: str, overrides: list[str]) -> tuple[Config, Path]:
    """Read the settings of a run to resume.

    Raises:
        SettingError: if there is no run, it has another environment, or its folder is not writable.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise SettingError(f"--resume {folder} is not a run folder: it has no {CONFIG_FILE}.")
    for word in overrides:
        key = word.partition("=")[0]
        if key in FIXED_SETTINGS or (key.startswith("env.options") and key != REWARD):
            _refuse_change(key, word)
    cfg = read_run(folder, env, method, overrides)
    recorded = _read_settings(folder).get("env", {}).get("options", {})
    if cfg.env.options.get("reward") != recorded.get("reward"):
        _refuse_change(REWARD, cfg.env.options["reward"])
    check_writable(folder, "--resume")
    check_loggers(cfg.log)
    if "split" not in _read_settings(folder).get("eval", {}):
        warn(SPLIT_BY_SEED.format(folder=folder))
    return cfg, folder


def _refuse_change(key: str, got: str) -> NoReturn:
    raise SettingError(
        f"{key} cannot change in a resumed run, got {got!r}. Leave it out, or start a new run "
        "without --resume."
    )


def read_run(folder: Path, env: str, method: str, overrides: list[str]) -> Config:
    """Read the settings in a run folder, with the user's changes.

    Args:
        folder: the run folder.
        env: the run's environment, to be checked; a task file may have moved. Empty for none.
        method: the preset to continue with; empty for the run's own.
        overrides: `group.key=value` words.

    Raises:
        SettingError: if the file is damaged, a change is not allowed, or the run has another
            environment than `env`.
    """
    values = _read_settings(folder)
    wanted = load_config(env).env if env else None
    if wanted and is_task_file(env):
        overrides = [override_word("env.options.path", wanted.options["path"]), *overrides]
    cfg = config_from_dict(values, method, overrides)
    if wanted:
        check(
            wanted.id == cfg.env.id,
            "--env",
            env,
            f"the environment of the run in {folder} ({cfg.env.id})",
            "Leave out --env, or choose a run in that environment.",
        )
    return resolve_auto(cfg)


def _read_settings(folder: Path) -> dict[str, Any]:
    """Read the file of settings in a run folder."""
    path = folder / CONFIG_FILE
    try:
        values = read_yaml(path.read_text(encoding="utf-8"), str(path))
        check(isinstance(values, dict), str(path), values, "a mapping of settings")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} is damaged: {first_line(error)}.") from error
    return values


def find_policy(target: str, env: str, overrides: list[str]) -> tuple[Config, str]:
    """Find a policy: the newest checkpoint of a run, or a model.

    Args:
        target: a run folder, or the folder or name of a model.
        env: the environment; required with a model, optional with a run, which has its own.
        overrides: `group.key=value` words.

    Returns:
        The settings to play with, and the model path for `build_policy`.

    Raises:
        SettingError: as `read_run`, or if the run has no checkpoint yet, or `eval.split` is no set.
    """
    folder = Path(target)
    if not (folder / CONFIG_FILE).is_file():
        check(bool(env), "--env", env, "given with a model", "Try --env sokoban.")
        words = with_options(overrides, {"model.path": ("the model", target)})
        return for_evaluation(resolve_auto(load_config(env, "sesa", words))), target
    cfg = read_run(folder, env, "", overrides)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise SettingError(f"{target} has no checkpoint yet. Train it: --resume {target}.")
    return for_evaluation(cfg), str(checkpoint / "model")
