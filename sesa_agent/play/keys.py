"""Keyboard input: single keys in a terminal, otherwise lines of text.

Keys are read without waiting for Enter, through termios or, on Windows, msvcrt. An arrow key is
returned as one of `ARROWS`, any other key as its character. Control-C interrupts as usual; `None`
is the end of the input (Control-D, a closed pipe or terminal).
"""

import codecs
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Read = Callable[[], str | None]
"""Waits for the next input; None at its end."""
UP, DOWN, LEFT, RIGHT = ARROWS = ("↑", "↓", "←", "→")
ESCAPE = "\x1b"
END = ("\x04", "\x1a")
"""Control-D, and Control-Z on Windows."""
ESCAPE_WAIT_S = 0.05
"""Bytes that follow an Escape within this time belong to the same key."""

_ANSI_ARROWS = dict(zip("ABDC", (UP, DOWN, LEFT, RIGHT), strict=True))
_WINDOWS_ARROWS = dict(zip("HPKM", (UP, DOWN, LEFT, RIGHT), strict=True))


def in_terminal() -> bool:
    """Whether both input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def whole_lines() -> Iterator[Read]:
    """Yield a function that reads one line at a time."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # text that is not UTF-8 must not crash
    yield _read_line


def _read_line() -> str | None:
    try:
        return input("> " if in_terminal() else "")
    except (EOFError, KeyboardInterrupt) as end:
        if in_terminal():
            print()  # the next output begins a line
        if isinstance(end, EOFError):
            return None
        raise


def decode_ansi(read_byte: Callable[[], bytes], is_waiting: Callable[[], bool]) -> str | None:
    r"""Read one key from a terminal.

    Args:
        read_byte: waits for the next byte; empty at the end of the input.
        is_waiting: whether another byte is available immediately.

    >>> typed = iter([b"\x1b", b"[", b"A"])
    >>> decode_ansi(lambda: next(typed), lambda: True)
    '↑'
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    key = ""
    while not key:
        byte = read_byte()
        key = decoder.decode(byte, final=not byte)
        if not byte and not key:
            return None
    if key in END:
        return None
    if key != ESCAPE or not is_waiting():
        return key
    introducer, last = read_byte(), b""
    while introducer in (b"[", b"O") and is_waiting():
        last = read_byte()
        if last.isalpha() or last in (b"", b"~"):
            break
    return _ANSI_ARROWS.get(last.decode("latin-1"), ESCAPE)


def decode_windows(read_character: Callable[[], str]) -> str | None:
    r"""Read one key from a Windows console.

    Args:
        read_character: waits for the next character, as `msvcrt.getwch` does.

    Raises:
        KeyboardInterrupt: for Control-C, which the console returns as a character.

    >>> typed = iter("\xe0H")
    >>> decode_windows(lambda: next(typed))
    '↑'
    """
    character = read_character()
    if character in ("\x00", "\xe0"):
        return _WINDOWS_ARROWS.get(read_character(), ESCAPE)
    if character == "\x03":
        raise KeyboardInterrupt
    return None if character in END else character


if sys.platform == "win32":
    import msvcrt

    @contextmanager
    def single_keys() -> Iterator[Read]:
        """Yield a function that reads one key at a time."""
        yield lambda: decode_windows(msvcrt.getwch)

else:
    import termios
    import tty

    @contextmanager
    def single_keys() -> Iterator[Read]:
        """Yield a function that reads one key at a time; restores the terminal afterwards."""
        terminal = sys.stdin.fileno()

        def read_byte() -> bytes:
            try:
                return os.read(terminal, 1)
            except OSError:  # the terminal was closed
                return b""

        def is_waiting() -> bool:
            return bool(select.select([terminal], [], [], ESCAPE_WAIT_S)[0])

        before = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal)
            yield lambda: decode_ansi(read_byte, is_waiting)
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
