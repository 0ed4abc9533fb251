"""Kills runs: at random moments, and before each file operation of a run folder.

Wanted: the run that was killed and resumed is, bit for bit, the run that was not.
"""

import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .process import Case, run, run_all
from .small_run import GAMES, again_words, difference, train_words, whole_run
from .table import Row

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link")
"""What Python tells its audit hooks about files."""


def random_kills(scratch: Path, num_kills: int, seed: int) -> Iterator[Row]:
    """Kill each method's run at random moments, every second one again as it resumes."""
    rng = random.Random(seed)
    for method in GAMES:
        wanted = whole_run(method, scratch / method)
        seconds = run(Case("timing", train_words(method, scratch / f"{method}-timed"))).seconds
        folders = [scratch / f"{method}-{i}" for i in range(num_kills)]
        faults = _killed(method, folders, [rng.uniform(0, seconds) for _ in folders])
        faults += _killed(method, folders[::2], [rng.uniform(0, seconds) for _ in folders[::2]])
        faults += _finished(method, folders, wanted)
        yield Row(f"kill -9 at a random moment, {method}", num_kills, tuple(faults))


def kills_at_files(scratch: Path, method: str = "sesa") -> Iterator[Row]:
    """Kill a run before each file operation in its folder."""
    wanted = whole_run(method, scratch / "whole")
    counted, log = scratch / "counted", scratch / "operations"
    run(Case("counting", train_words(method, counted), before=_on_file(counted, 0, log)))
    operations = log.read_text().splitlines()
    inside = [i for i, path in enumerate(operations, 1) if "/checkpoints/" in path]
    outside = [i for i in range(1, len(operations) + 1) if i not in inside]
    for name, places in (("inside checkpoints", inside), ("elsewhere in its folder", outside)):
        folders = {scratch / f"at-{place}": place for place in places}
        cases = [
            Case(
                folder.name,
                train_words(method, folder),
                codes=(0, 2, -signal.SIGKILL),
                before=_on_file(folder, place),
            )
            for folder, place in folders.items()
        ]
        faults = [f"{o.case.name}: {o.fault}" for o in run_all(cases) if o.fault]
        faults += _finished(method, list(folders), wanted)
        what = f"kill -9 before a file operation {name}, {method}"
        yield Row(what, len(cases), tuple(faults))


def _killed(method: str, folders: list[Path], moments: list[float]) -> list[str]:
    """Start or resume runs and kill each at its moment, in seconds; what else went wrong."""
    pairs = zip(folders, moments, strict=True)
    cases = [_dying(folder.name, again_words(method, folder), after) for folder, after in pairs]
    return [f"{o.case.name}: {o.fault}" for o in run_all(cases) if o.fault]


def _finished(method: str, folders: list[Path], wanted: Path) -> list[str]:
    """Resume runs to their end; what is wrong with them then. Deletes sound ones."""
    open_ = [folder for folder in folders if not (folder / "result.json").exists()]
    cases = [Case(folder.name, again_words(method, folder), codes=(0,)) for folder in open_]
    faults = [f"{o.case.name}: {o.fault}" for o in run_all(cases) if o.fault]
    for folder in folders:
        differs = difference(folder, wanted)
        if differs:
            faults.append(f"{folder.name}: {differs}")
        else:
            shutil.rmtree(folder)
    return faults


def finish(method: str, folder: Path, wanted: Path) -> str:
    """Resume one run to its end; what is wrong with it then."""
    return "; ".join(_finished(method, [folder], wanted))


def _dying(name: str, words: tuple[str, ...], after_s: float) -> Case:
    def before() -> None:
        timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

    return Case(name, words, codes=(0, 2, -signal.SIGKILL), before=before)


def _on_file(folder: Path, place: int, log: Path | None = None) -> Callable[[], None]:
    """Die before the `place`-th file operation in a folder; write each one's path to the log."""

    def before() -> None:
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in EVENTS or not str(arguments[0]).startswith(str(folder)):
                return
            count += 1
            if count == place:
                os.kill(os.getpid(), signal.SIGKILL)
            if log and str(arguments[0]) != str(log):
                os.write(number, f"{arguments[0]}\n".encode())

        number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if log else -1
        sys.addaudithook(hook)

    return before
