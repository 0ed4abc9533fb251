"""Puts a run's configuration together: defaults, method, environment, scale, command line."""

import difflib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from .errors import SettingError
from .schema import Config

PACKAGE = "sesa_agent.configs"
OPTIONS = {"method": "--method", "env.id": "--env", "scale": "--scale"}
"""Settings that choose other settings, so they are given as options of the command line."""


COMMON_SCALE = "common"
"""The file of what all scales share; no scale itself."""


def load_config(
    env: str, method: str = "sesa", overrides: Sequence[str] = (), scale: str = ""
) -> Config:
    """Resolve the configuration of a run.

    Args:
        env: a short name (a file in this folder, such as "sokoban") or a Gymnasium id, also
            `module:Name-v0`.
        method: the preset.
        overrides: what the user typed, `group.key=value`; it has the last word.
        scale: the preset of a model's size and its machine, such as "0.5b-1gpu"; empty for none.

    Returns:
        The checked configuration.

    Raises:
        SettingError: in one line, for an unknown environment, method, scale or key, or a value that
            is not allowed.
    """
    return _build(_merge(_preset(env, method, scale), parse_overrides(overrides)))


def config_from_dict(
    values: dict[str, Any], method: str = "", overrides: Sequence[str] = ()
) -> Config:
    """Rebuild the configuration that a run folder holds, with the user's changes.

    Args:
        values: what `config_to_dict` returned.
        method: the preset that the run goes on with; empty for its own.
        overrides: `group.key=value` words.

    Raises:
        SettingError: as `load_config`.
    """
    config = _merge(OmegaConf.structured(Config), OmegaConf.create(values))
    if method and method != config.method:
        config = _switch_method(config, method)
    return _build(_merge(config, parse_overrides(overrides)))


def config_to_dict(config: Config) -> dict[str, Any]:
    """Turn a configuration into plain dicts, as `config.yaml` holds it."""
    return OmegaConf.to_container(OmegaConf.structured(config))  # pyright: ignore[reportReturnType]


def method_names() -> list[str]:
    """List the presets."""
    return _yaml_names(".methods")


def scale_names() -> list[str]:
    """List the presets of models and machines."""
    return [name for name in _yaml_names(".scales") if name != COMMON_SCALE]


def env_names() -> list[str]:
    """List the environments with a file of their own."""
    return _yaml_names("")


def choose(kind: str, name: str, names: Sequence[str], advice: str) -> str:
    """Return `name` if it is known.

    Raises:
        SettingError: naming the nearest known name and what to do.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SettingError(f"{kind} must be one of {', '.join(names)}, got {name!r}.{hint}{advice}")


def parse_overrides(overrides: Sequence[str]) -> Any:
    """Read `group.key=value` words; where a setting is a text, the value is taken as it stands.

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
    for part in key.split("."):
        default = default.get(part) if isinstance(default, dict) else None
    if isinstance(default, dict) and default:
        raise SettingError(f"{key} is a group of settings, got {word!r}. See docs/settings.md.")
    layer = OmegaConf.create()
    if isinstance(default, str):  # YAML would make a truth value of "on" and a number of "0123"
        OmegaConf.update(layer, key, text)
        return layer
    try:
        return OmegaConf.from_dotlist([word])
    except Exception as error:  # YAML's own errors have no common base in OmegaConf
        raise SettingError(f"{key} could not be read: {_first_line(error)}.") from error


def _preset(env: str, method: str, scale: str) -> Any:
    """The configuration that three presets make, before the user changed anything."""
    config = OmegaConf.structured(Config)
    layers = (_read_method(method), *_read_env(env, method), *_read_scale(scale, method))
    for layer in layers:
        config = _merge(config, layer)
    return OmegaConf.merge(config, {"method": method, "scale": scale})


def _switch_method(config: Any, method: str) -> Any:
    """Lay what the user changed over another method's preset; what was "auto" is decided anew."""
    env_id = str(config.env.id)
    names = [name for name in env_names() if load_config(name).env.id == env_id]
    env = names[0] if names else env_id
    before = OmegaConf.to_container(_preset(env, config.method, config.scale))
    changed = _changes(before, OmegaConf.to_container(config))
    return OmegaConf.merge(_preset(env, method, config.scale), changed)


def _changes(before: Any, after: Any) -> dict[str, Any]:
    """What `after` says otherwise than `before`, but for what `before` left to be decided."""
    changes: dict[str, Any] = {}
    for key, value in after.items():
        if isinstance(value, dict):
            changes[key] = _changes(before.get(key, {}), value)
        elif key not in before or before[key] not in (value, "auto"):
            changes[key] = value
    return changes


def _read_method(method: str) -> DictConfig:
    name = choose("--method", method, method_names(), "")
    return _read(f"methods/{name}.yaml")


def _read_env(env: str, method: str) -> list[DictConfig]:
    """The environment's file, then its section for the method."""
    if re.search(r"[/:]|-v\d+$", env):
        return [OmegaConf.create({"env": {"id": env}})]
    advice = " Or give a Gymnasium id, as in --env my_package:MyGame-v0."
    return _read_sections(f"{choose('--env', env, env_names(), advice)}.yaml", method)


def _read_scale(scale: str, method: str) -> list[DictConfig]:
    """What all scales share, then the scale's own file, each with its section for the method."""
    if not scale:
        return []
    names = (COMMON_SCALE, choose("--scale", scale, scale_names(), ""))
    return [layer for name in names for layer in _read_sections(f"scales/{name}.yaml", method)]


def _read_sections(name: str, method: str) -> list[DictConfig]:
    """A file, then its section for the method."""
    layer = _read(name)
    sections = layer.pop("methods", None) or {}
    return [layer, OmegaConf.create(sections.get(method, {}))]


def _merge(config: Any, layer: DictConfig) -> Any:
    try:
        return OmegaConf.merge(config, layer)
    except ConfigKeyError as error:
        raise SettingError(_unknown_key(config, layer)) from error
    except OmegaConfBaseException as error:
        key = error.full_key or error.key or next(iter(layer))
        raise SettingError(f"{key}: {_first_line(error)}.") from error


def _build(config: Any) -> Config:
    """Make the dataclasses, which check themselves."""
    try:
        return OmegaConf.to_object(config)  # pyright: ignore[reportReturnType]
    except OmegaConfBaseException as error:
        raise SettingError(f"{error.full_key}: {_first_line(error)}.") from error


def _unknown_key(config: DictConfig, layer: DictConfig) -> str:
    """Name the first key of the layer that is no setting, and the nearest one that is."""
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


def _read(name: str) -> DictConfig:
    text = files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
    return OmegaConf.create(text)  # pyright: ignore[reportReturnType]


def _yaml_names(folder: str) -> list[str]:
    names = [entry.name for entry in files(f"{PACKAGE}{folder}").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
