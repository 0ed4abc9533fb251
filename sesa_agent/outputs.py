"""Checks places to write before any work is done. Imports no torch."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.writing import draft_of


def check_writable(folder: Path, option: str) -> None:
    """Check that a folder is writable before any work is done; leaves nothing behind.

    Raises:
        SettingError: if it is not.
    """
    check("\0" not in str(folder), option, str(folder), "a path without NUL characters")
    is_short = all(len(os.fsencode(name)) <= 255 for name in folder.parts)
    check(is_short, option, str(folder), "a path whose names have at most 255 bytes")
    try:
        # A link to nowhere is there, but does not exist: a folder cannot be made in its place.
        there = (path for path in (folder, *folder.absolute().parents) if _is_there(path))
        TemporaryFile(dir=next(there)).close()
    except OSError as error:
        raise SettingError(
            f"{option} {folder} is not writable: {error.strerror}. Choose another folder."
        ) from error


def check_file_writable(file: Path, option: str) -> None:
    """Check that a file can be written before any work is done; leaves nothing behind.

    Raises:
        SettingError: if it cannot.
    """
    try:
        check(not file.is_dir(), option, str(file), "a file, not a folder")
        if file.exists() and not file.is_file():
            return  # a device or a pipe, in a folder that is not the user's
        check_writable(file.parent, option)
        is_dangling = _is_there(file) and not file.exists()
        check(not is_dangling, option, str(file), "a file, not a link to nowhere")
        _is_there(draft_of(file))  # raises if its name is too long
    except OSError as error:
        raise SettingError(
            f"{option} {file} is not writable: {error.strerror}. Choose another file."
        ) from error


def _is_there(path: Path) -> bool:
    """Whether there is anything of that name, be it a link to nowhere.

    Raises:
        OSError: if the name is not allowed.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
