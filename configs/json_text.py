"""Reads JSON that a disk, a copy or an editor may have damaged."""

import json
from pathlib import Path
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Read a JSON text.

    Raises:
        ValueError: if it is not JSON, not UTF-8, or nested more deeply than Python can follow.

    >>> read_json('{"step": 3}')
    {'step': 3}
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json_file(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: as `read_json`.
        OSError: if the file cannot be read.
    """
    return read_json(path.read_bytes())
