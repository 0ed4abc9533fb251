"""Finds a model by what `model.path` says: a bundled or fetched name, a folder, a hub name.

Nothing here loads a model.
"""

from pathlib import Path

from ..configs.errors import SettingError
from ..configs.json_text import read_json_file
from .fetched import FETCHABLE, fetched_folder
from .hub import find_on_hub
from .lora import is_adapter

BUNDLED = ("sesa-tiny", "sesa-tiny-answers")
"""The names of the models that ship with the package."""


def bundled_model_folder(name: str) -> Path:
    """Return the folder of a bundled model."""
    return Path(__file__).parent / "bundled" / name


def named_folder(path: str) -> str:
    """Return the folder of a bundled or fetched model; any other path as it is.

    Raises:
        SettingError: if it is the name of a model that was not fetched.
    """
    if path in BUNDLED:
        return str(bundled_model_folder(path))
    if path not in FETCHABLE or Path(path).is_dir():
        return path
    if not fetched_folder(path).is_dir():
        raise SettingError(
            f"model.path {path!r} is not on this machine yet. Run sesa-agent models fetch {path}."
        )
    return str(fetched_folder(path))


def locate_model(path: str) -> str:
    """Return what transformers should load: a folder, or the name of a model on the hub.

    Raises:
        SettingError: if there is no such model.
    """
    place = named_folder(path)
    check_model_path(place)
    return place if Path(place).is_dir() else find_on_hub(place)


def check_model_path(path: str) -> None:
    """Refuse a path that cannot be a trainable model, before anything heavy is imported.

    Raises:
        SettingError: naming the path and what is missing.
    """
    if path.startswith("api:"):
        raise SettingError(
            f"model.path {path!r} is a model behind an API, which gives no weights: it can be "
            "evaluated, not trained. Use sesa-agent evaluate with --base-url, or a model folder."
        )
    folder = Path(path)
    looks_like_hub_name = path.count("/") == 1 and not path.startswith((".", "/", "~"))
    looks_like_hub_name = looks_like_hub_name and not folder.parent.is_dir()
    if not folder.is_dir():
        if not looks_like_hub_name:
            raise SettingError(
                f"model.path must be a folder or a model name on the hub, got {path!r}, which does "
                "not exist. Give the folder that holds config.json."
            )
        return
    if is_adapter(path):
        return
    config = folder / "config.json"
    if not config.is_file():
        raise SettingError(f"model.path {path!r} has no config.json, so it is not a model folder.")
    try:
        if not isinstance(read_json_file(config), dict):
            raise ValueError("no object")
    except ValueError as error:
        raise SettingError(
            f"model.path {path!r} is damaged: config.json is not JSON ({error})."
        ) from error
