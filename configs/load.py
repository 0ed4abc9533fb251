"""Builds a run's configuration in layers: defaults, method, environment, scale, command line."""

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .errors import SettingError, check, show
from .layers import GROUPS, RENAMED, TYPES, Layer, check_layer, overlay
from .schema import Config
from .task_files import REWARD, env_label, is_task_file
from .typed import plain
from .yaml_text import read_value, read_yaml

PACKAGE = "sesa_agent.configs"
OPTIONS = {"method": "--method", "env.id": "--env", "scale": "--scale"}
"""Settings that choose other settings; they are options of the command line instead."""
TRUST = "model.trust_remote_code"
"""Runs a model's own code, so it is only ever typed: a file may come from somebody else."""
_EARLIER: Layer = {"model": {"context": "state", "layout": "game"}}
"""What runs had whose `config.yaml` does not say it. The policy was trained on these prompts, so
they never change in a run."""
COMMON_SCALE = "common"
"""The file of what all scales share; not a scale itself."""
TASKS = "tasks"
"""The file that serves all task files; not an environment itself."""


def load_config(
    env: str, method: str = "sesa", overrides: Sequence[str] = (), scale: str = ""
) -> Config:
    """Resolve the configuration of a run.

    Args:
        env: a short name (a file in this folder, such as "sokoban"), a Gymnasium id, also
            `module:Name-v0`, or the path of a task file.
        method: the preset: a name, or the path of a YAML file.
        overrides: `group.key=value` words that the user typed; they override everything else.
        scale: the preset of a model size and its machine, such as "0.5b-1gpu"; empty for none.

    Returns:
        The checked configuration.

    Raises:
        SettingError: in one line, for an unknown environment, method, scale or key, a value that
            is not allowed, or a file that sets `TRUST` or `REWARD`.
    """
    return _build(_preset(env, method, scale), overrides)


def config_from_dict(values: Layer, method: str = "", overrides: Sequence[str] = ()) -> Config:
    """Rebuild the configuration in a run folder, with the user's changes.

    Args:
        values: what `config_to_dict` returned. It holds every setting, so the preset that the run
            was started with is not read again, unless another one replaces it.
        method: the preset to continue with; empty for the run's own.
        overrides: `group.key=value` words.

    Raises:
        SettingError: as `load_config`.
    """
    settings = overlay(overlay(config_to_dict(Config()), _EARLIER), check_layer(values))
    if method and method != settings["method"]:
        settings = _switch_method(settings, method)
    return _build(settings, overrides)


def code_words(config: Config) -> list[str]:
    """Return the words that must be typed again for the function that judges a run's answers.

    They make `config_from_dict` accept the settings of a run that is going on in this process.
    """
    reward = config.env.options.get("reward")
    return [override_word(REWARD, reward)] if is_task_file(config.env.id) and reward else []


def no_code_words(settings: Layer) -> list[str]:
    """Return the words with which nothing that a run's settings name is run.

    Args:
        settings: what a run's `config.yaml` holds.
    """
    env = settings.get("env")
    has_tasks = isinstance(env, Mapping) and is_task_file(str(env.get("id")))
    return [f"{TRUST}=false", *([f"{REWARD}=null"] if has_tasks else [])]


def config_to_dict(config: Config) -> dict[str, Any]:
    """Turn a configuration into plain dicts, as `config.yaml` holds it."""
    return asdict(config)


def method_names() -> list[str]:
    """List the presets of methods that come with the package."""
    return _yaml_names(".methods")


def is_method_file(method: str) -> bool:
    """Whether a method is a file of the user's own, not the name of a preset."""
    return "/" in method or "\\" in method or method.endswith((".yaml", ".yml"))


def method_label(method: str) -> str:
    """The short name of a preset, for folders and tables: for a file its name without `.yaml`.

    >>> method_label("ragen"), method_label("my/methods/mine.yaml")
    ('ragen', 'mine')
    """
    return Path(method).stem if is_method_file(method) else method


def scale_names() -> list[str]:
    """List the presets of model sizes and machines."""
    return [name for name in _yaml_names(".scales") if name != COMMON_SCALE]


def env_names() -> list[str]:
    """List the environments that have a file of their own."""
    return [name for name in _yaml_names("") if name != TASKS]


def short_env_name(env: str) -> str:
    """The short name of an environment, or its id if it has none.

    >>> short_env_name("sesa/FrozenLake-v0"), short_env_name("mine:Game-v0")
    ('frozen_lake', 'mine:Game-v0')
    """
    names = [name for name in env_names() if env in (name, load_config(name).env.id)]
    return names[0] if names else env


def choose(kind: str, name: str, names: Sequence[str], advice: str) -> str:
    """Return `name` if it is known.

    Raises:
        SettingError: with the nearest known name and what to do.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SettingError(f"{kind} must be one of {', '.join(names)}, got {show(name)}.{hint}{advice}")


def _build(settings: Layer, overrides: Sequence[str]) -> Config:
    """Lay what the user typed over the settings, and check how they fit together."""
    settings = overlay(settings, parse_overrides(overrides))
    groups = {key: GROUPS[key](**v) if key in GROUPS else v for key, v in settings.items()}
    config = Config(**groups)
    typed = {word.partition("=")[0] for word in overrides}
    if config.model.trust_remote_code and TRUST not in typed:
        raise SettingError(
            f"{TRUST}=true stands in a file (a run's config.yaml or a method), where it does not "
            f"count: it runs code that comes with the model. Type {TRUST}=true in this command if "
            "you trust the model's authors, or =false."
        )
    reward = config.env.options.get("reward")
    if is_task_file(config.env.id) and reward and REWARD not in typed:
        raise SettingError(
            f"{REWARD}={reward} stands in a file (a run's config.yaml or a method), where it does "
            f"not count: it runs a function. Type --reward {reward} in this command if you trust "
            "that function."
        )
    return config


# ---- what the user types ----


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Parse and check `group.key=value` words. The value of a text setting is taken literally.

    Raises:
        SettingError: if a word has no equals sign, its key is a group or belongs to an option of
            the command line, or its value is not allowed, even if a later word replaces it.
    """
    settings: dict[str, Any] = {}
    for word in overrides:
        settings = overlay(settings, _parse_override(word))
    return settings


def _parse_override(word: str) -> dict[str, Any]:
    key, equals, text = word.partition("=")
    path = key.split(".")
    if not equals or not all(path):
        raise SettingError(
            f"Settings are written group.key=value, got {show(word)}. Try optim.lr=3e-4."
        )
    if key in OPTIONS:
        raise SettingError(f"{key} is set by {OPTIONS[key]}, got {show(word)}.")
    if key in GROUPS:
        raise SettingError(f"{key} is a group of settings, got {show(word)}. See docs/settings.md.")
    layer: Any = text if _is_text(key) else read_value(text, key)
    for name in reversed(path):
        layer = {name: layer}
    return check_layer(layer)


def override_word(key: str, value: Any) -> str:
    """Return the word that sets a setting to a value; text is passed as if the user typed it.

    Only text for an option of an environment is quoted where it could be read as something else.

    Raises:
        SettingError: if YAML cannot hold the value.

    >>> override_word("optim.lr", 3e-4), override_word("model.path", "0123")
    ('optim.lr=0.0003', 'model.path=0123')
    >>> override_word("env.options.name", "0123"), override_word("env.options.name", "abc")
    ('env.options.name="0123"', 'env.options.name=abc')
    """
    if isinstance(value, str) and (key in TYPES or _reads_as_itself(value)):
        return f"{key}={value}"
    return f"{key}={json.dumps(plain(value, key), ensure_ascii=False)}"


def _is_text(key: str) -> bool:
    return TYPES.get(RENAMED.get(key, key)) is str


def _reads_as_itself(text: str) -> bool:
    try:
        return read_value(text, "") == text
    except SettingError:
        return False


# ---- presets ----


def _preset(env: str, method: str, scale: str) -> dict[str, Any]:
    """The settings of method, environment and scale, before any change by the user."""
    settings = config_to_dict(Config())
    chain = _read_method(method)
    for name, layer in chain.items():
        try:
            settings = overlay(settings, check_layer(layer))
        except SettingError as error:
            raise SettingError(
                f"{name}: {error}" if is_method_file(name) else str(error)
            ) from error
    for layer in (*_read_env(env, chain), *_read_scale(scale, chain)):
        settings = overlay(settings, check_layer(layer))
    return overlay(settings, {"method": method, "scale": scale})


def _switch_method(settings: Layer, method: str) -> dict[str, Any]:
    """Lay the user's changes over another method's preset; each "auto" is resolved again."""
    env, scale = short_env_name(settings["env"]["id"]), settings["scale"]
    try:
        before = _preset(env, settings["method"], scale)
    except SettingError as error:
        raise SettingError(
            f"--method {method} cannot replace the run's own, which is needed to tell what you "
            f"changed: {error}"
        ) from error
    told = {key: settings["model"][key] for key in _EARLIER["model"]}
    return overlay(
        overlay(_preset(env, method, scale), _changes(before, settings)), {"model": told}
    )


def _changes(before: Layer, after: Layer) -> dict[str, Any]:
    """The settings that differ in `after`, except those that were "auto" in `before`."""
    changes: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            changes[key] = _changes(old, value)
        elif key not in before or old not in (value, "auto"):
            changes[key] = value
    return changes


def _read_method(method: str) -> dict[str, Layer]:
    """The files of a method and of those that it extends, by name, the root first."""
    if is_method_file(method):
        layer = _read_file(Path(method))
    else:
        layer = _read(f"methods/{choose('--method', method, method_names(), '')}.yaml")
    if "extends" not in layer:
        return {method: layer}
    extended = choose(f"extends in {method}", str(layer["extends"]), method_names(), "")
    own = {key: value for key, value in layer.items() if key != "extends"}
    return {**_read_method(extended), method: own}


def _read_file(path: Path) -> Layer:
    """Read a method file of the user's own.

    Raises:
        SettingError: if there is no such file, or it does not hold settings in YAML.
    """
    name = f"method {path}"
    try:
        if not path.is_file():
            raise SettingError(
                f"{name} is not a file. Name a YAML file of settings, or one of "
                f"{', '.join(method_names())}."
            )
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingError(f"{name} could not be read: it is not text in UTF-8.") from error
    except OSError as error:
        raise SettingError(f"{name} could not be read: {error.strerror}.") from error
    layer = read_yaml(text, name)
    check(layer is None or isinstance(layer, dict), name, layer, "a mapping of settings")
    return layer or {}


def _read_env(env: str, chain: Mapping[str, Layer]) -> list[Layer]:
    """The environment's file, then its sections for the method."""
    if is_task_file(env):
        place = {"id": env_label(env), "options": {"path": os.path.abspath(env)}}
        return [*_read_sections(f"{TASKS}.yaml", chain), {"env": place}]
    if re.search(r"[/:]|-v\d+$", env):
        return [{"env": {"id": env}}]
    advice = (
        " Or give a Gymnasium id, as in --env my_package:MyGame-v0, or a file of tasks, as in "
        "--env tasks.jsonl."
    )
    return _read_sections(f"{choose('--env', env, env_names(), advice)}.yaml", chain)


def _read_scale(scale: str, chain: Mapping[str, Layer]) -> list[Layer]:
    """What all scales share, then the scale's own file, each with its sections for the method."""
    if not scale:
        return []
    names = (COMMON_SCALE, choose("--scale", scale, scale_names(), ""))
    return [layer for name in names for layer in _read_sections(f"scales/{name}.yaml", chain)]


def _read_sections(name: str, chain: Mapping[str, Layer]) -> list[Layer]:
    """A file, then its sections for a method and those that it extends, the root first.

    A section of an extended method leaves out what the methods that extend it set themselves:
    otherwise it would take from them what makes them different.
    """
    layer = _read(name)
    sections = layer.get("methods", {})
    layers: list[Layer] = [{key: value for key, value in layer.items() if key != "methods"}]
    for place, method in enumerate(chain):
        section = sections.get(method, {})
        for extending in list(chain.values())[place + 1 :]:
            section = _without(section, extending)
        layers.append(section)
    return layers


def _without(values: Layer, taken: Layer) -> dict[str, Any]:
    """Settings without those that stand in `taken` too."""
    return {
        key: _without(value, taken.get(key, {})) if isinstance(value, dict) else value
        for key, value in values.items()
        if isinstance(value, dict) or key not in taken
    }


@cache
def _read(name: str) -> Layer:
    """Read a file of the package, once; callers share it."""
    text = files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
    return read_yaml(text, name) or {}


def _yaml_names(folder: str) -> list[str]:
    names = [entry.name for entry in files(f"{PACKAGE}{folder}").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
