"""A file of TensorBoard events, written at once.

`tensorboardX.SummaryWriter` writes in a thread. If the disk refuses, the thread dies without a word
and the next metrics wait for it forever; and what it has not written yet is lost with a kill.
"""

import time
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar, text

from ..configs.writing import writing


class EventFile:
    """A new file of events.

    Args:
        folder: its folder; created if needed.
        purge_step: hides what earlier files say about this and later steps; None hides nothing.

    Raises:
        DiskError: here or in any method, if the file could not be written.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The default name is the time in seconds: a second file in that second overwrites it.
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        if purge_step is not None:
            self._add(purge_step, file_version="brain.Event:2")
            self._add(purge_step, session_log={"status": "START"})

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add a number."""
        self._add(step, summary=scalar(name, value))

    def add_text(self, name: str, words: str, step: int) -> None:
        """Add a text."""
        self._add(step, summary=text(name, words))

    def flush(self) -> None:
        """Flush the file to disk."""
        with writing(self._folder):
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        with writing(self._folder):
            self._writer.close()

    def _add(self, step: int, **content: Any) -> None:
        event = event_pb2.Event(step=step, wall_time=time.time(), **content)  # pyright: ignore[reportAttributeAccessIssue]
        with writing(self._folder):
            self._writer.write_event(event)
