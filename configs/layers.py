"""Layers of settings: plain mappings by group, as in a YAML file, each checked by itself.

Every value is read as the type of its field in `schema.py` and must be in its range. So a value
that a later layer replaces is checked too, and nothing in it is interpreted: `${...}` is text.
"""

import difflib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from .errors import SettingError, check
from .schema import Config

Layer = Mapping[str, Any]
"""Some settings by group. Layers are never changed in place: a file is read only once."""
GROUPS: Mapping[str, Any] = {f.name: f.type for f in fields(Config) if is_dataclass(f.type)}
"""The dataclass of each group."""
TYPES: Mapping[str, Any] = {
    **{f.name: f.type for f in fields(Config) if f.name not in GROUPS},
    **{f"{name}.{f.name}": f.type for name, group in GROUPS.items() for f in fields(group)},
}
"""The type of every setting, by the key as it is typed."""
RENAMED = {
    "loss.engine_gap_cap": "loss.engine_importance_cap",
    "loss.history_gap": "loss.history_correction",
}
"""Old names of settings, which work until the version `OLD_NAMES_UNTIL`."""
OLD_NAMES_UNTIL = "0.3"


def check_layer(layer: Layer) -> dict[str, Any]:
    """Return a layer with new names, each value of the type of its field and in its range.

    Raises:
        SettingError: in one line, for an unknown key or a value that is not allowed.

    >>> check_layer({"optim": {"lr": 1}})
    {'optim': {'lr': 1.0}}
    """
    check(isinstance(layer, Mapping), "settings", layer, "a mapping by group")
    layer = use_new_names(layer)
    for key in _keys(layer):
        check_key(key)
    checked: dict[str, Any] = {}
    for name, values in layer.items():
        if name in GROUPS:
            check(isinstance(values, Mapping), name, values, "a group of settings")
            group = GROUPS[name](**values)
            checked[name] = {key: getattr(group, key) for key in values}
        else:
            checked[name] = getattr(Config(**{name: values}), name)
    return checked


def overlay(below: Layer, above: Layer) -> dict[str, Any]:
    """Merge two layers; where both have a value, that of `above` wins.

    >>> overlay({"loss": {"kl_coef": 0.0, "pass_k": 4}}, {"loss": {"kl_coef": 0.1}})
    {'loss': {'kl_coef': 0.1, 'pass_k': 4}}
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = overlay(old, value)
        merged[key] = value
    return merged


def check_key(key: str) -> None:
    """Refuse a key that is not a setting.

    Raises:
        SettingError: with the nearest key that is one.
    """
    if key in TYPES:
        return
    by_last_word = {name.rsplit(".", 1)[-1]: name for name in TYPES}
    word = key.rsplit(".", 1)[-1]
    near = [by_last_word[word]] if word in by_last_word else []  # right word, wrong group
    near += difflib.get_close_matches(key, TYPES, n=1, cutoff=0.6)
    near += [by_last_word[w] for w in difflib.get_close_matches(word, by_last_word, n=1)]
    hint = f"Did you mean {near[0]}?" if near else "See docs/settings.md."
    raise SettingError(f"{key} is not a setting. {hint}")


def _keys(layer: Layer) -> Iterator[str]:
    """The keys of the settings in a layer, as they are typed."""
    for name, values in layer.items():
        if isinstance(values, Mapping) and values and name not in TYPES:
            yield from (f"{name}.{key}" for key in values)
        elif name not in GROUPS:
            yield str(name)


def use_new_names(values: Layer) -> dict[str, Any]:
    """Return settings with the present names in place of old ones, and log a hint for each.

    >>> use_new_names({"loss": {"history_gap": "none"}})
    {'loss': {'history_correction': 'none'}}
    """
    for old, new in RENAMED.items():
        (group, old_key), (_, new_key) = old.split("."), new.split(".")
        settings = values.get(group)
        if isinstance(settings, Mapping) and old_key in settings:
            _hint_at_new_name(old, new)
            renamed = {new_key if key == old_key else key: value for key, value in settings.items()}
            values = {**values, group: renamed}
    return dict(values)


@cache
def _hint_at_new_name(old: str, new: str) -> None:
    """Log the hint, once in a process."""
    logging.getLogger("sesa_agent").warning(
        f"{old} is now {new}; the old name works until {OLD_NAMES_UNTIL}."
    )
