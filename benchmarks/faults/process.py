"""Runs `sesa-agent` commands in processes that share what is already imported, and judges the ends.

A fork of this process starts at once, while a new interpreter imports torch for seconds; otherwise
it is the real command line, with its own exit code, screen and signals. Import this module before
anything uses threads.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"}

import torch
import transformers  # noqa: F401

from sesa_agent.cli import main

LIMIT_S = 60.0
"""A command that takes longer counts as a hang."""
JOBS = 2
LONGEST_LINE = 600
"""A message may name many choices; a whole file on the screen is a fault."""


@dataclass(frozen=True)
class Case:
    """A command and what may come of it."""

    name: str
    words: tuple[str, ...]
    """The command line after `sesa-agent`."""
    codes: tuple[int, ...] = (0, 2)
    """Exit codes that are a good end: 2 with one line on stderr."""
    folder: Path = Path(".")
    """The working directory."""
    before: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called in the new process first: sets limits, or waits for the moment to die."""
    limit_s: float = LIMIT_S
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    case: Case
    code: int
    """Exit code, or minus the signal's number."""
    out: str
    err: str
    seconds: float

    @property
    def has_hung(self) -> bool:
        """Whether the command had to be killed."""
        return self.seconds >= self.case.limit_s

    @property
    def fault(self) -> str:
        """What is wrong with this end, in a few words; empty if nothing."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        if self.has_hung:
            return "hang"
        if self.code < 0 and self.code not in self.case.codes:
            return f"killed by {signal.Signals(-self.code).name}"
        if "Traceback" in self.err:
            return f"traceback: {lines[-1][:200]}"
        if self.code not in self.case.codes:
            return f"exit code {self.code}: {' / '.join(lines)[:300] or self.out[-200:]}"
        messages = [line for line in lines if line.startswith("sesa-agent: ")]
        if self.code == 2 and len(messages) != 1 and "Usage:" not in self.err:
            return f"{len(messages)} messages: {' / '.join(lines)[:300]}"
        if self.code == 2 and len(messages[-1:] and messages[-1]) > LONGEST_LINE:
            return f"a message of {len(messages[-1])} characters"
        return ""


def run(case: Case) -> Outcome:
    """Run one command to its end."""
    return next(run_all([case]))


def run_all(cases: Iterable[Case], jobs: int = JOBS) -> Iterator[Outcome]:
    """Run commands, `jobs` at a time, and yield their outcomes as they end."""
    running: list[_Process] = []
    waiting = iter(cases)
    while True:
        while len(running) < jobs and (case := next(waiting, None)):
            running.append(_Process(case))
        if not running:
            return
        ended = [process for process in running if process.has_ended()]
        running = [process for process in running if process not in ended]
        yield from (process.outcome() for process in ended)
        time.sleep(0.005)


class _Process:
    """A fork of this process that runs a command in a session of its own."""

    def __init__(self, case: Case):
        self.case = case
        self.files = Path(tempfile.mkdtemp())
        self.start = time.monotonic()
        self.status: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _become(case, self.files)

    def has_ended(self) -> bool:
        """Whether the process is over; kills it if its time is."""
        if time.monotonic() - self.start >= self.case.limit_s:
            os.killpg(self.pid, signal.SIGKILL)
            _, self.status = os.waitpid(self.pid, 0)
            return True
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        self.status = status if pid else None
        return bool(pid)

    def outcome(self) -> Outcome:
        """The end of a process that is over."""
        assert self.status is not None
        seconds = time.monotonic() - self.start
        out, err = (
            (self.files / name).read_bytes().decode(errors="replace") for name in ("out", "err")
        )
        shutil.rmtree(self.files)
        return Outcome(self.case, os.waitstatus_to_exitcode(self.status), out, err, seconds)


def _become(case: Case, files: Path) -> None:
    """Run the command in this process, which is a fresh fork, and end it. Never returns."""
    os.setsid()
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(files / name, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        os.environ |= case.environment
        os.chdir(case.folder)
        torch.set_num_threads(1)
        sys.argv = ["sesa-agent", *case.words]
        case.before()
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)
