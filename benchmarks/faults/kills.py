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
    """Kill each method's run at random moments of its life, up to three times a run."""
    rng = random.Random(seed)
    for method in GAMES:
        wanted = whole_run(method, scratch / method)
        seconds = run(Case("timing", train_words(method, scratch / f"{method}-timed"))).seconds
        cases = [_killed_case(method, scratch, i, rng, seconds) for i in range(num_kills)]
        faults = []
        for outcome in run_all(cases):
            folder = scratch / outcome.case.name
            fault = outcome.fault
            for _ in range(rng.randrange(2)):  # some are killed again as they resume
                words = again_words(method, folder)
                again = run(_dying(outcome.case.name, words, rng.uniform(0, seconds)))
                fault = fault or again.fault
            faults.append(fault or finish(method, folder, wanted))
        yield Row(f"kill -9 at a random moment, {method}", len(faults), tuple(filter(None, faults)))


def kills_at_files(scratch: Path, method: str = "sesa", every: int = 1) -> Iterator[Row]:
    """Kill a run before each (or each `every`-th) file operation in its folder."""
    wanted = whole_run(method, scratch / "whole")
    counted = scratch / "counted"
    log = scratch / "operations"
    run(Case("counting", train_words(method, counted), before=_on_file(counted, 0, log)))
    operations = log.read_text().splitlines()
    inside = [i for i, path in enumerate(operations, 1) if "/checkpoints/" in path]
    outside = [i for i in range(1, len(operations) + 1) if i not in inside]
    for name, places in (("inside checkpoints", inside), ("elsewhere in its folder", outside)):
        folders = {scratch / f"at-{i}": i for i in places[::every]}
        cases = [
            Case(
                folder.name,
                train_words(method, folder),
                codes=(0, 2, -signal.SIGKILL),
                before=_on_file(folder, place),
            )
            for folder, place in folders.items()
        ]
        faults = [
            outcome.fault or finish(method, scratch / outcome.case.name, wanted)
            for outcome in run_all(cases)
        ]
        what = f"kill -9 before a file operation {name}, {method}"
        yield Row(what, len(faults), tuple(filter(None, faults)))


def finish(method: str, folder: Path, wanted: Path) -> str:
    """Resume a run to its end; what is wrong with it then. Deletes a sound one."""
    if not (folder / "result.json").exists():
        outcome = run(Case(folder.name, again_words(method, folder), codes=(0,)))
        if outcome.fault:
            return f"{folder.name}: {outcome.fault}"
    differs = difference(folder, wanted)
    if not differs:
        shutil.rmtree(folder)
    return f"{folder.name}: {differs}" if differs else ""


def _killed_case(method: str, scratch: Path, i: int, rng: random.Random, seconds: float) -> Case:
    name = f"{method}-{i}"
    return _dying(name, train_words(method, scratch / name), rng.uniform(0, seconds))


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
