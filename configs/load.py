"""Puts a run's configuration together: defaults, method, environment, command line."""

import difflib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from .schema import Config, SettingError


def load_config(env: str, method: str = "sesa", overrides: Sequence[str] = ()) -> Config:
    """Resolve the configuration of a run.

    Args:
        env: a short name (a file in this folder, such as "sokoban") or a Gymnasium id, also `module:Name-v0`.
        method: the preset.
        overrides: what the user typed, `group.key=value`; it has the last word.

    Returns:
        The checked configuration.

    Raises:
        SettingError: in one line, for an unknown environment, method or key, or a value that is not allowed.
    """
    config = OmegaConf.structured(Config)
    layers = [_read_method(method), *_read_env(env, method), parse_overrides(overrides)]
    for layer in layers:
        config = _merge(config, layer)
    return _build(OmegaConf.merge(config, {"method": method}))


def config_from_dict(
    values: dict[str, Any], method: str = "", overrides: Sequence[str] = ()
) -> Config:
    """Rebuild the configuration that a run folder holds, with the user's changes.

    Args:
        values: what `config_to_dict` returned.
        method: a preset laid over it, where the run goes on with another method.
        overrides: `group.key=value` words.
    """
    config = _merge(OmegaConf.structured(Config), OmegaConf.create(values))
    if method and method != config.method:
        config = _merge(config, _read_method(method))
        config = OmegaConf.merge(config, {"method": method})
    return _build(_merge(config, parse_overrides(overrides)))


def config_to_dict(config: Config) -> dict[str, Any]:
    """Turn a configuration into plain dicts, as `config.yaml` holds it."""
    return OmegaConf.to_container(OmegaConf.structured(config))  # pyright: ignore[reportReturnType]


def method_names() -> list[str]:
    """List the presets."""
    return _yaml_names("methods")


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


def parse_overrides(overrides: Sequence[str]) -> DictConfig:
    """Read `group.key=value` words.

    Raises:
        SettingError: if a word has no equals sign, or its value is not YAML.
    """
    for word in overrides:
        if "=" not in word.lstrip("="):
            raise SettingError(
                f"Settings are written group.key=value, got {word!r}. Try optim.lr=3e-4."
            )
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except Exception as error:  # YAML's own errors have no common base in OmegaConf
        raise SettingError(f"A setting could not be read: {_first_line(error)}.") from error


def _read_method(method: str) -> DictConfig:
    name = choose("--method", method, method_names(), "")
    return _read(f"methods/{name}.yaml")


def _read_env(env: str, method: str) -> list[DictConfig]:
    """The environment's file, then its section for the method."""
    if "/" in env or ":" in env or env.endswith(tuple(f"-v{n}" for n in range(10))):
        return [OmegaConf.create({"env": {"id": env}})]
    advice = " Or give a Gymnasium id, as in --env my_package:MyGame-v0."
    layer = _read(f"{choose('--env', env, env_names(), advice)}.yaml")
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
    return OmegaConf.to_object(config)  # pyright: ignore[reportReturnType]


def _unknown_key(config: DictConfig, layer: DictConfig) -> str:
    """Name the first key of the layer that the configuration lacks, and the nearest one that it has."""
    known = _leaves(OmegaConf.to_container(config))
    key = next(key for key in _leaves(OmegaConf.to_container(layer)) if not _is_known(key, known))
    by_last_word = {name.rsplit(".", 1)[-1]: name for name in known}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    last = difflib.get_close_matches(key.rsplit(".", 1)[-1], by_last_word, n=1, cutoff=0.6)
    nearest = near[0] if near else by_last_word[last[0]] if last else ""
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
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return OmegaConf.create(text)  # pyright: ignore[reportReturnType]


def _yaml_names(folder: str) -> list[str]:
    entries = (
        files(__package__).joinpath(folder).iterdir() if folder else files(__package__).iterdir()
    )
    return sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".yaml"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
