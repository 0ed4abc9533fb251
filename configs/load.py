"""Builds a run's configuration in layers: defaults, method, environment, scale, command line."""

import difflib
import logging
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from .errors import SettingError, check, first_line
from .schema import Config

PACKAGE = "sesa_agent.configs"
OPTIONS = {"method": "--method", "env.id": "--env", "scale": "--scale"}
"""Settings that choose other settings; they are options of the command line instead."""
RENAMED = {
    "loss.engine_gap_cap": "loss.engine_importance_cap",
    "loss.history_gap": "loss.history_correction",
}
"""Old names of settings, which work until the version `OLD_NAMES_UNTIL`."""
OLD_NAMES_UNTIL = "0.3"
TRUST = "model.trust_remote_code"
"""Runs a model's own code, so it is only ever typed: a file may come from somebody else."""
COMMON_SCALE = "common"
"""The file of what all scales share; not a scale itself."""


def load_config(
    env: str, method: str = "sesa", overrides: Sequence[str] = (), scale: str = ""
) -> Config:
    """Resolve the configuration of a run.

    Args:
        env: a short name (a file in this folder, such as "sokoban") or a Gymnasium id, also
            `module:Name-v0`.
        method: the preset: a name, or the path of a YAML file.
        overrides: `group.key=value` words that the user typed; they override everything else.
        scale: the preset of a model size and its machine, such as "0.5b-1gpu"; empty for none.

    Returns:
        The checked configuration.

    Raises:
        SettingError: in one line, for an unknown environment, method, scale or key, a value that
            is not allowed, or a file that sets `TRUST`.
    """
    return _build(_preset(env, method, scale), overrides)


def config_from_dict(
    values: dict[str, Any], method: str = "", overrides: Sequence[str] = ()
) -> Config:
    """Rebuild the configuration in a run folder, with the user's changes.

    Args:
        values: what `config_to_dict` returned. It holds every setting, so the preset that the run
            was started with is not read again, unless another one replaces it.
        method: the preset to continue with; empty for the run's own.
        overrides: `group.key=value` words.

    Raises:
        SettingError: as `load_config`.
    """
    config = _merge(OmegaConf.structured(Config), OmegaConf.create(values))
    if method and method != config.method:
        config = _switch_method(config, method)
    return _build(config, overrides)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Turn a configuration into plain dicts, as `config.yaml` holds it."""
    return OmegaConf.to_container(OmegaConf.structured(config))  # pyright: ignore[reportReturnType]


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
    return _yaml_names("")


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
    raise SettingError(f"{kind} must be one of {', '.join(names)}, got {name!r}.{hint}{advice}")


# ---- what the user types ----


def parse_overrides(overrides: Sequence[str]) -> Any:
    """Parse `group.key=value` words. The value of a text setting is taken literally.

    Raises:
        SettingError: if a word has no equals sign, its value is not YAML, or its key is a group or
            belongs to an option of the command line.
    """
    return OmegaConf.merge(*map(_parse_override, overrides)) if overrides else OmegaConf.create()


def _parse_override(word: str) -> Any:
    key, equals, text = word.partition("=")
    if not key or not equals:
        raise SettingError(
            f"Settings are written group.key=value, got {word!r}. Try optim.lr=3e-4."
        )
    if key in OPTIONS:
        raise SettingError(f"{key} is set by {OPTIONS[key]}, got {word!r}.")
    default: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    for part in RENAMED.get(key, key).split("."):
        default = default.get(part) if isinstance(default, dict) else None
    if isinstance(default, dict) and default:
        raise SettingError(f"{key} is a group of settings, got {word!r}. See docs/settings.md.")
    layer = OmegaConf.create()
    if isinstance(default, str):  # YAML would read "on" as a truth value and "0123" as a number
        OmegaConf.update(layer, key, text)
        return layer
    try:
        return OmegaConf.from_dotlist([word])
    except Exception as error:  # YAML's own errors have no common base in OmegaConf
        raise SettingError(f"{key} could not be read: {first_line(error)}.") from error


def use_new_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the present names in place of old ones, and log a hint for each.

    >>> use_new_names({"loss": {"history_gap": "none"}})
    {'loss': {'history_correction': 'none'}}
    """
    for old, new in RENAMED.items():
        (group, old_key), (_, new_key) = old.split("."), new.split(".")
        settings = values.get(group)
        if isinstance(settings, dict) and old_key in settings:
            _hint_at_new_name(old, new)
            renamed = {new_key if key == old_key else key: value for key, value in settings.items()}
            values = {**values, group: renamed}
    return values


@cache
def _hint_at_new_name(old: str, new: str) -> None:
    """Log the hint, once in a process."""
    logging.getLogger("sesa_agent").warning(
        f"{old} is now {new}; the old name works until {OLD_NAMES_UNTIL}."
    )


# ---- presets ----


def _preset(env: str, method: str, scale: str) -> Any:
    """The configuration of method, environment and scale, before any change by the user."""
    config = OmegaConf.structured(Config)
    chain = _read_method(method)
    for name, layer in chain.items():
        try:
            config = _merge(config, layer)
        except SettingError as error:
            raise SettingError(
                f"{name}: {error}" if is_method_file(name) else str(error)
            ) from error
    for layer in (*_read_env(env, chain), *_read_scale(scale, chain)):
        config = _merge(config, layer)
    return OmegaConf.merge(config, {"method": method, "scale": scale})


def _switch_method(config: Any, method: str) -> Any:
    """Lay the user's changes over another method's preset; each "auto" is resolved again."""
    env = short_env_name(str(config.env.id))
    try:
        before = OmegaConf.to_container(_preset(env, config.method, config.scale))
    except SettingError as error:
        raise SettingError(
            f"--method {method} cannot replace the run's own, which is needed to tell what you "
            f"changed: {error}"
        ) from error
    changed = _changes(before, OmegaConf.to_container(config))
    return OmegaConf.merge(_preset(env, method, config.scale), changed)


def _changes(before: Any, after: Any) -> dict[str, Any]:
    """The settings that differ in `after`, except those that were "auto" in `before`."""
    changes: dict[str, Any] = {}
    for key, value in after.items():
        if isinstance(value, dict):
            changes[key] = _changes(before.get(key, {}), value)
        elif key not in before or before[key] not in (value, "auto"):
            changes[key] = value
    return changes


def _read_method(method: str) -> dict[str, DictConfig]:
    """The files of a method and of those that it extends, by name, the root first."""
    if is_method_file(method):
        layer = _read_file(Path(method))
    else:
        layer = _read(f"methods/{choose('--method', method, method_names(), '')}.yaml")
    extended = layer.pop("extends", None)
    if extended is None:
        return {method: layer}
    choose(f"extends in {method}", str(extended), method_names(), "")
    return {**_read_method(extended), method: layer}


def _read_file(path: Path) -> DictConfig:
    """Read a method file of the user's own.

    Raises:
        SettingError: if there is no such file, or it does not hold settings in YAML.
    """
    if not path.is_file():
        raise SettingError(
            f"method {path} is not a file. Name a YAML file of settings, or one of "
            f"{', '.join(method_names())}."
        )
    try:
        layer = OmegaConf.create(path.read_text(encoding="utf-8"))
    except Exception as error:  # YAML's own errors have no common base in OmegaConf
        raise SettingError(f"method {path} could not be read: {first_line(error)}.") from error
    check(isinstance(layer, DictConfig), f"method {path}", layer, "a mapping of settings")
    return layer  # pyright: ignore[reportReturnType]


def _read_env(env: str, chain: dict[str, DictConfig]) -> list[DictConfig]:
    """The environment's file, then its sections for the method."""
    if re.search(r"[/:]|-v\d+$", env):
        return [OmegaConf.create({"env": {"id": env}})]
    advice = " Or give a Gymnasium id, as in --env my_package:MyGame-v0."
    return _read_sections(f"{choose('--env', env, env_names(), advice)}.yaml", chain)


def _read_scale(scale: str, chain: dict[str, DictConfig]) -> list[DictConfig]:
    """What all scales share, then the scale's own file, each with its sections for the method."""
    if not scale:
        return []
    names = (COMMON_SCALE, choose("--scale", scale, scale_names(), ""))
    return [layer for name in names for layer in _read_sections(f"scales/{name}.yaml", chain)]


def _read_sections(name: str, chain: dict[str, DictConfig]) -> list[DictConfig]:
    """A file, then its sections for a method and those that it extends, the root first.

    A section of an extended method leaves out what the methods that extend it set themselves:
    otherwise it would take from them what makes them different.
    """
    layer = _read(name)
    sections = layer.pop("methods", None) or {}
    layers = [layer]
    for place, method in enumerate(chain):
        section = OmegaConf.to_container(OmegaConf.create(sections.get(method, {})))
        for extending in list(chain.values())[place + 1 :]:
            section = _without(section, OmegaConf.to_container(extending))
        layers.append(OmegaConf.create(section))  # pyright: ignore[reportArgumentType]
    return layers


def _without(values: Any, taken: Any) -> dict[Any, Any]:
    """Settings without those that stand in `taken` too."""
    return {
        key: _without(value, taken.get(key, {})) if isinstance(value, dict) else value
        for key, value in values.items()
        if isinstance(value, dict) or key not in taken
    }


def _read(name: str) -> DictConfig:
    text = files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
    return OmegaConf.create(text)  # pyright: ignore[reportReturnType]


def _yaml_names(folder: str) -> list[str]:
    names = [entry.name for entry in files(f"{PACKAGE}{folder}").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


# ---- merging ----


def _merge(config: Any, layer: DictConfig) -> Any:
    values: Any = OmegaConf.to_container(layer)
    layer = OmegaConf.create(use_new_names(values))
    try:
        return OmegaConf.merge(config, layer)
    except ConfigKeyError as error:
        raise SettingError(_unknown_key(config, layer)) from error
    except OmegaConfBaseException as error:
        key = error.full_key or error.key or next(iter(layer))
        raise SettingError(f"{key}: {first_line(error)}.") from error


def _build(config: Any, overrides: Sequence[str]) -> Config:
    """Merge what the user typed and make the dataclasses, which check themselves."""
    config = _merge(config, parse_overrides(overrides))
    try:
        built: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise SettingError(f"{error.full_key}: {first_line(error)}.") from error
    typed = [word.partition("=")[0] for word in overrides]
    if built.model.trust_remote_code and TRUST not in typed:
        raise SettingError(
            f"{TRUST}=true stands in a file (a run's config.yaml or a method), where it does not "
            f"count: it runs code that comes with the model. Type {TRUST}=true in this command if "
            "you trust the model's authors, or =false."
        )
    return built


def _unknown_key(config: DictConfig, layer: DictConfig) -> str:
    """Name the first key of the layer that is not a setting, and the nearest one that is."""
    known = _leaves(OmegaConf.to_container(config))
    key = next(key for key in _leaves(OmegaConf.to_container(layer)) if not _is_known(key, known))
    by_last_word = {name.rsplit(".", 1)[-1]: name for name in known}
    word = key.rsplit(".", 1)[-1]
    near = [by_last_word[word]] if word in by_last_word else []  # right word, wrong group
    near += difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    near += [by_last_word[w] for w in difflib.get_close_matches(word, by_last_word, n=1)]
    nearest = near[0] if near else ""
    hint = f" Did you mean {nearest}?" if nearest else " See docs/settings.md."
    return f"{key} is not a setting.{hint}"


def _is_known(key: str, known: Sequence[str]) -> bool:
    return key in known or key.startswith("env.options.")


def _leaves(values: Any, prefix: str = "") -> list[str]:
    if not isinstance(values, dict) or not values:
        return [prefix]
    return [
        leaf
        for key, value in values.items()
        for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    ]
