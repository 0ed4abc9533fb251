"""Environments of other packages, found by their Gymnasium id.

`module:Name-v0` imports the module, which registers the id. An id without a module is looked up in
the entry-point group `gymnasium.envs` of the installed packages, which Gymnasium itself has not
read since 1.0. The name of an entry point is the namespace of its ids (`__root__` for ids without
one); its value is a function that registers them, or a module that does so on import. Entry points
are loaded only for an unknown id, and only those of its namespace. Collections that have adapters
here (`collections.py`) come first.
"""

import warnings
from contextlib import nullcontext, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import _find_spec, namespace, parse_env_id
from gymnasium.error import NameNotFound, NamespaceNotFound

from ...configs.errors import SettingError
from ..descriptions import describe_error
from ..options import fit_options
from ..text_env import text_spec
from .collections import register_collection, split_address, why_left_out
from .refusals import refuse_class

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "gymnasium.envs"
"""The entry-point group."""
ROOT_NAMESPACE = "__root__"
"""The entry point of ids without a namespace."""
_renders_text: dict[str, bool] = {}
"""Ids that were made, and whether they are shown by their "ansi" rendering."""


def make_plugin(env_id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Make an environment as `gymnasium.make` does, also by the id of an installed package.

    One without a `text_spec` is made with its "ansi" rendering, if it has one.

    Raises:
        gymnasium.error.Error: if no package registers the id.
        SettingError: if it is a game of a collection (`collections.py`) that is not installed, or
            no environment of Gymnasium, such as a game for several players, or is left out.
        ModuleNotFoundError: if the module of `module:Name-v0` is missing.
    """
    env_id, address = split_address(env_id)
    options = {**options, **address}
    try:
        return _make(env_id, options)
    except (NameNotFound, NamespaceNotFound):
        name = _namespace_of(env_id)
        if not (register_collection(name) or load_plugins(name)):
            raise
        return _make_registered(env_id, options)


def _make_registered(env_id: str, options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        return _make(env_id, options)
    except NameNotFound as error:
        reason = why_left_out(env_id)
        if not reason:
            raise
        raise SettingError(f"env.id {env_id} is not played: {reason}.") from error


def _make(env_id: str, options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    if "render_mode" not in options and _renders_text.get(env_id, False):
        options = {**options, "render_mode": "ansi"}
    spec = _find_spec(env_id)
    fitted = fit_options(spec, options)
    try:
        env = gymnasium.make(spec, **fitted)
    except (TypeError, AttributeError) as error:
        reason = refuse_class(spec, fitted)
        if reason:
            raise SettingError(f"env.id {env_id} cannot be played: {reason}.") from error
        raise
    if "render_mode" in options or env_id in _renders_text:
        return env
    has_text = text_spec(env) is not None
    _renders_text[env_id] = not has_text and "ansi" in env.metadata.get("render_modes", ())
    if not _renders_text[env_id]:
        return env
    with suppress(Exception):  # some can be closed only after a reset
        env.close()
    return _make(env_id, options)


def _namespace_of(env_id: str) -> str:
    return parse_env_id(env_id.rpartition(":")[2])[0] or ROOT_NAMESPACE


@cache
def load_plugins(name: str) -> bool:
    """Load the entry points of one namespace, once; return whether there were any.

    One that fails gives a warning, so that the others can still be found.
    """
    from importlib.metadata import entry_points  # slow to import and rarely needed

    found = [plugin for plugin in entry_points(group=GROUP) if plugin.name == name]
    for plugin in found:
        try:
            _load(plugin)
        except Exception as error:
            text = f"The environments of {plugin.value} cannot be used: {describe_error(error)}."
            warnings.warn(text, stacklevel=2)
    return bool(found)


def _load(plugin: "EntryPoint") -> None:
    register = plugin.load()
    if not plugin.attr:  # a module, which registered its ids when it was loaded
        return
    with nullcontext() if plugin.name == ROOT_NAMESPACE else namespace(plugin.name):
        register()
