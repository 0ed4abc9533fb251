"""A time limit for code that may hang: `with time_limit(seconds)`.

It needs the main thread and a system with `signal.setitimer` (Linux, macOS); elsewhere there is no
limit. Compiled code that hangs is interrupted only when it returns to Python.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TimeUp(BaseException):
    """The time is up. Not an `Exception`, which the interrupted code might catch."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds, if thread and system allow it; 0 for no limit.

    Raises:
        TimeUp: if the block takes longer.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not seconds or not in_main_thread or not hasattr(signal, "setitimer"):
        yield
        return

    is_running = True

    def on_alarm(signum: int, frame: Any) -> None:
        if is_running:
            raise TimeUp

    handler = signal.signal(signal.SIGALRM, on_alarm)
    # It repeats every second, because code that catches every exception swallows the first.
    rest, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        try:
            yield
        finally:
            is_running = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, rest, interval)  # resume an alarm set by other code
