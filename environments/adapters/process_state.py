"""What an environment may not change in the process that trains: `with kept_process()`.

Undone at the end of the block: another working directory, recursion limit or trace function,
warnings turned into errors, garbage collection switched off, `sys.stdout` and `sys.stderr`
replaced. What is printed to `sys.stdout` is discarded. If the block also comes back in a child
process (`os.fork`), the child ends there. Signal handlers are restored by `time_limit`.

Not undone: environment variables and the global random generators, which an environment may need,
and which training does not use.
"""

import gc
import io
import mmap
import os
import sys
import warnings
from contextlib import suppress
from typing import Any, TextIO


class kept_process:
    """Run a block that may change the process.

    Args:
        changes: to it are added, in words, the changes that were undone.
    """

    def __init__(self, changes: set[str]):
        self.changes = changes

    def __enter__(self) -> None:
        self.process_id, self.folder = os.getpid(), _working_folder()
        self.recursion_limit, self.trace = sys.getrecursionlimit(), sys.gettrace()
        self.is_collecting, self.filters = gc.isenabled(), warnings.filters[:]
        self.streams = sys.stdout, sys.stderr
        sys.stdout = _nowhere()

    def __exit__(self, *_: Any) -> None:
        if os.getpid() != self.process_id:
            _has_forked[0] = 1
            os._exit(1)  # two processes must not write to one run folder
        sys.stdout, sys.stderr = self.streams
        if _has_forked[0]:
            _has_forked[0] = 0
            self.changes.add("a second process")
        if sys.getrecursionlimit() != self.recursion_limit:
            sys.setrecursionlimit(self.recursion_limit)
            self.changes.add("the recursion limit")
        if sys.gettrace() is not self.trace:
            sys.settrace(self.trace)
            self.changes.add("the trace function")
        if gc.isenabled() < self.is_collecting:
            gc.enable()
            self.changes.add("garbage collection")
        if warnings.filters != self.filters:
            self._allow_warnings()
        if _working_folder() != self.folder and self.folder:
            with suppress(OSError):  # it was deleted
                os.chdir(self.folder)
            self.changes.add("the working directory")

    def _allow_warnings(self) -> None:
        """Remove new filters that turn warnings into errors, which would end the training."""
        kept = [f for f in warnings.filters if f[0] != "error" or f in self.filters]
        if len(kept) < len(warnings.filters):
            warnings.filters[:] = kept  # pyright: ignore[reportIndexIssue]
            self.changes.add("the warning filters")


_has_forked = mmap.mmap(-1, 1)
"""A byte that this process shares with its children."""


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""


class _Discarded(io.BufferedIOBase):
    """Accepts all bytes and keeps none."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


_open: list[TextIO] = []


def _nowhere() -> TextIO:
    """A complete text stream, because some code needs `sys.stdout.buffer` or `.reconfigure`."""
    if not _open or _open[-1].closed:
        buffer: Any = _Discarded()
        _open[:] = [io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace")]
    return _open[-1]
