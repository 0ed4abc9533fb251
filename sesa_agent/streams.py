"""Standard input and output that may be closed, full, or unable to show a letter."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO


def prepare_streams() -> None:
    """Open the streams that are closed, and replace letters that the output cannot show.

    A stream that the shell closed (`>&-`) is None, and the next file would take its number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    if getattr(sys.stdout, "errors", "") in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def unstoppable_output() -> Iterator[None]:
    """Go on without output if it cannot be written: a long run is worth more than its display."""
    with redirect_stdout(_Unstoppable(sys.stdout)):
        yield


def drop_output(stream: TextIO) -> None:
    """Send what is not written yet, and everything to come, nowhere."""
    with suppress(OSError, ValueError):  # a stream without a number, as in a notebook
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Unstoppable:
    """A text stream whose errors end the output, not the program."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(text)
        except OSError:
            drop_output(self._stream)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except OSError:
            drop_output(self._stream)
