"""Writes files whole: an interrupt, a kill or a full disk leaves the old file or the new one.

What the disk refuses is a `DiskError`, one line that names the file. Python leaves the name out
when the disk is full, and safetensors and tokenizers, written in Rust, raise errors of their own.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import SettingError, first_line


class DiskError(SettingError):
    """A file could not be written: the disk is full or read-only, or does not permit it."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of writing into one line.

    Args:
        path: the file or folder that is written within the context.

    Raises:
        DiskError: if the system refuses. The closed pipe of a `/dev/stdout` stays what it is.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        reason = _reason_from_rust(error)
        if isinstance(error, OSError):
            reason = error.strerror or first_line(error)
        if reason is None:
            raise
        raise DiskError(f"{path} could not be written: {reason}.") from error


def _reason_from_rust(error: Exception) -> str | None:
    """The system's words in an error such as "... I/O error: ... (os error 28)"; else None.

    >>> _reason_from_rust(Exception("File exists (os error 17)"))
    'File exists'
    """
    found = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(found[1])) if found else None


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yield the draft of a file to write; at the end it takes the file's place, or is deleted.

    A link stays a link. A device or a pipe, such as /dev/stdout, is its own draft.

    Raises:
        DiskError: if the draft could not be written.
    """
    with writing(path):
        if path.exists() and not path.is_file():
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_of(path)
        try:
            yield draft
            os.replace(draft, path.resolve())
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise


def draft_of(path: Path) -> Path:
    """Where the draft of a file is written: beside the file, as links show it."""
    target = path.resolve()
    return target.with_name(f"{target.name}.tmp")


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole, and its folder if there is none.

    Raises:
        DiskError: if it could not be written.
    """
    with drafted(path) as draft:
        draft.write_text(text, encoding="utf-8")
