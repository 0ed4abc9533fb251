"""`sesa-agent new-env NAME`: writes a small package with a new game, its test and README.

The files come from `new_env/*.template`, with `$package` and `$name` as placeholders.
"""

import keyword
import re
import shutil
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.writing import replace_text, writing
from sesa_agent.outputs import check_writable
from sesa_agent.screen import say

TEMPLATES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "init.py": "{package}/__init__.py",
    "game.py": "{package}/game.py",
    "test_game.py": "tests/test_game.py",
}
"""The target of each template."""
MAX_NAME = 100
"""Maximum length of a package's name; names of files have at most 255 bytes."""


def run_new_env(package: str, folder: Path) -> None:
    """Write the package and print the next commands.

    Raises:
        SettingError: if the name is not allowed, or the folder is not writable.
    """
    check_package_name(package)
    check_writable(folder, "--folder")
    target = folder / package
    if target.exists():
        raise SettingError(
            f"{target} exists already; nothing was overwritten. Choose another NAME or --folder."
        )
    paths = write_package(package, target)
    env_id = f"{package}:{class_name(package)}-v0"
    say(f"Wrote {target}: {', '.join(path.relative_to(target).as_posix() for path in paths)}.")
    say(f"  pip install -e {target}")
    say(f"  sesa-agent check-env {env_id}")
    say(f"  sesa-agent train --env {env_id}")


def check_package_name(name: str) -> None:
    """Reject a name that Python cannot import, or that is taken.

    Raises:
        SettingError: with what is allowed and a similar name.
    """
    near = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).strip("_")
    if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) is None:
        near = near if near[:1].isalpha() and near.isascii() else "my_game"
        allowed = "lower-case letters, digits and single underscores, beginning with a letter"
        check(False, "NAME", name, allowed, f"Try {near}.")
    check(len(name) <= MAX_NAME, "NAME", name, f"at most {MAX_NAME} characters long")
    spec = find_spec(name)
    is_installed = spec is not None and spec.origin is not None  # a bare folder is no package
    is_word = keyword.iskeyword(name) or name in sys.stdlib_module_names or name == "tests"
    is_taken = is_installed or is_word
    check(not is_taken, "NAME", name, "a name that is not taken in Python yet", f"Try {name}_game.")


def class_name(package: str) -> str:
    """The name of the game's class and id.

    >>> class_name("ice_lake")
    'IceLake'
    """
    return "".join(word.capitalize() for word in package.split("_"))


def write_package(package: str, target: Path) -> list[Path]:
    """Write the package, all of it or nothing; its folder must not exist.

    Raises:
        DiskError: if a file could not be written.
    """
    draft = target.with_name(f".{target.name}.tmp")
    places = [Path(place.format(package=package)) for place in TEMPLATES.values()]
    try:
        for template, place in zip(TEMPLATES, places, strict=True):
            source = files("sesa_agent").joinpath("new_env", f"{template}.template")
            text = Template(source.read_text(encoding="utf-8"))
            name = class_name(package)
            replace_text(draft / place, text.substitute(package=package, name=name))
        with writing(target):
            draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)  # half a package would be in the way
        raise
    return [target / place for place in places]
