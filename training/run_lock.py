"""One training at a time in a run folder.

The lock is the operating system's, on the empty file `.lock` of the folder: it ends with the
process that holds it, however that ends, and processes that it starts do not inherit it. Under
torchrun rank zero holds it for all. Whoever only reads a run needs no lock.
"""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..configs.errors import SettingError
from ..configs.writing import writing
from .distributed import agreed, is_rank_zero

LOCK_FILE = ".lock"
IN_USE = (errno.EACCES, errno.EAGAIN)
"""What a file system answers if another process holds the lock; anything else: it has no locks."""

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a run folder inside the block.

    The folder is created; if the block leaves it empty, it is removed again.

    Raises:
        SettingError: on all ranks, if another process trains there.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    descriptor = agreed(lambda: _lock(folder) if is_rank_zero() else None)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):  # someone deleted the folder, or needs it by now
                if created and os.listdir(folder) == [LOCK_FILE]:
                    (folder / LOCK_FILE).unlink()
                    for path in created:
                        path.rmdir()
            os.close(descriptor)


def _lock(folder: Path) -> int:
    """Lock a folder; returns the descriptor that holds the lock until it is closed."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        import fcntl  # not on Windows

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        if getattr(error, "errno", None) in IN_USE:
            os.close(descriptor)
            raise SettingError(
                f"{folder} is in use: another process trains in this run folder. Wait until it "
                "ends, or choose another folder with --output."
            ) from error
        log.warning(f"{folder} cannot be locked here: start no second training in it.")
    return descriptor
