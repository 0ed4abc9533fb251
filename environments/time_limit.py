"""A time limit for code that may hang: `with time_limit(seconds)`.

It works in the main thread, on systems with `signal.setitimer` (Linux, macOS); elsewhere there is
no limit. Compiled code is interrupted only when it returns to Python, and code that sets an alarm
of its own ends the limit. So a thread ends the process when a block is still running long after.

Code that catches every exception also catches the one that is to stop it. So a limit insists: when
the exception was caught and dropped, the next line of the block raises it again, until one of these
lines is outside of every `try`. A Ctrl-C inside the block insists in the same way.
"""

# The functions of `signal` spend 7 microseconds on making enums of the handlers.
import _signal  # pyright: ignore[reportMissingImports]
import math
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

REPEAT_S = 0.1
"""Period in which the exception is raised if it was caught and kept, in seconds."""
MAX_ALARMS = 50
"""Number of periods after which the process ends: the code cannot be stopped."""
WATCH_NAME = "time-limit"
"""Name of the thread that watches blocks."""
WATCH_S = 1.0
"""Period in which a thread looks whether a block runs on that no signal reaches, in seconds."""


class TimeUp(BaseException):
    """The time is up. Not an `Exception`, which the interrupted code might catch."""


class time_limit:
    """Interrupt the block after some seconds, if thread and system allow it; 0 for no limit.

    Handlers of SIGALRM and SIGINT that the block installs are removed at its end.

    Raises:
        TimeUp: if the block takes longer, even if it catches this exception.
        KeyboardInterrupt: after a Ctrl-C, even if the block catches it.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.stop: BaseException | None = None
        """What ends the block: `TimeUp`, or what the handler of a Ctrl-C raised."""
        self._is_running = False
        self._num_alarms = 0

    def __enter__(self) -> "time_limit":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._frame = sys._getframe(1)
        self._trace = sys.gettrace()
        self._on_interrupt: Any = _signal.getsignal(signal.SIGINT)
        if callable(self._on_interrupt):
            _signal.signal(signal.SIGINT, self._interrupt)
        self._is_running = True
        self._outer_watch = _watch.limit, _watch.end
        if self.seconds:
            _watch.start(self.seconds)
        if hasattr(signal, "setitimer"):
            self._on_alarm: Any = _signal.signal(signal.SIGALRM, self._alarm)
            self._outer = signal.setitimer(signal.ITIMER_REAL, self.seconds, REPEAT_S)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not self._is_running:
            return
        self._is_running = False
        _watch.limit, _watch.end = self._outer_watch
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            is_lost = self._on_alarm is None  # a handler that Python cannot restore
            _signal.signal(signal.SIGALRM, _signal.SIG_DFL if is_lost else self._on_alarm)
            if self._outer[0]:
                signal.setitimer(signal.ITIMER_REAL, *self._outer)  # resume what was running
        if self._on_interrupt is not None:
            _signal.signal(signal.SIGINT, self._on_interrupt)
        if self._num_alarms:
            sys.settrace(self._trace)
        del self._frame  # which refers to this object
        if self.stop is not None and error is not self.stop:
            raise self.stop from None

    def _alarm(self, signum: int, frame: FrameType | None) -> None:
        if not self._is_running or _is_ours(frame):
            return  # in the second case the alarm comes again
        self.stop = self.stop or TimeUp()
        self._num_alarms += 1
        if self._num_alarms > MAX_ALARMS:
            _end_process("code that catches every exception", self.seconds)
        if self._num_alarms > 1:  # the last one was caught and kept: try another line each time
            self.raise_later(frame, self._num_alarms - 2)
        raise _Insistent(self)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        """Do what a Ctrl-C does without us; if that raises, insist on it."""
        _signal.signal(signal.SIGINT, self._on_interrupt)  # it may install another handler
        try:
            self._on_interrupt(signum, frame)
        except BaseException as error:
            self.stop = error
            if self._is_running and hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, REPEAT_S, REPEAT_S)
            if not _is_ours(frame):  # else it is raised at the end of the block
                raise
        finally:
            self._on_interrupt = _signal.signal(signal.SIGINT, self._interrupt)

    def raise_later(self, frame: FrameType | None, num_lines: int = 0) -> None:
        """Raise in the block when it has run some more lines, whatever it has caught by then."""

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal num_lines
            if event == "line" and self._is_running:
                num_lines -= 1
                if num_lines < 0:
                    raise _Insistent(self)  # Python ends the tracing then
            return trace

        def trace_call(frame: FrameType, event: str, argument: Any) -> Any:
            is_clean_up = frame.f_back is self._frame  # of the block
            return None if is_clean_up or _is_ours(frame) else trace

        if not self._is_running:
            return
        while frame is not None and frame is not self._frame:
            frame.f_trace = trace
            frame = frame.f_back
        sys.settrace(trace_call)


class _Insistent(TimeUp):
    """Raised in the block, and again when it was caught and dropped.

    Args:
        limit: the `time_limit`.
    """

    def __del__(self) -> None:
        (limit,) = self.args
        limit.raise_later(sys._getframe().f_back)  # None at the end of the process


def _is_ours(frame: FrameType | None) -> bool:
    """Whether a signal interrupted this file, where an exception would do harm."""
    return frame is not None and frame.f_code.co_filename == __file__


class _Watch:
    """The thread that ends the process when compiled code does not return to Python.

    It needs code that leaves other threads running meanwhile, as whatever `ctypes` calls does.
    """

    def __init__(self) -> None:
        self.limit, self.end = 0.0, math.inf
        self.process_id = 0

    def start(self, seconds: float) -> None:
        """Watch a block with a time limit from now on."""
        self.limit = seconds
        self.end = time.monotonic() + seconds + 2 * REPEAT_S * MAX_ALARMS
        if self.process_id != os.getpid():  # a fork has no threads
            self.process_id = os.getpid()
            threading.Thread(target=self.run, name=WATCH_NAME, daemon=True).start()

    def run(self) -> None:
        overdue = math.inf
        while True:
            time.sleep(WATCH_S)
            # Twice, because the clock went on while a suspended process was not there.
            if time.monotonic() > self.end == overdue:
                _end_process("compiled code", self.limit)
            overdue = self.end if time.monotonic() > self.end else math.inf


_watch = _Watch()


def _end_process(culprit: str, seconds: float) -> None:
    """End the process in one line: this code would run forever."""
    line = f"sesa-agent: {culprit} did not stop after {seconds:g} seconds."
    os.write(2, f"{line} The process ends; what was saved is whole.\n".encode())
    os._exit(1)
