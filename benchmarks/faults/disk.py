"""Full, read-only and limited disks: while a run is trained, and under each file a command writes.

Wanted: one line, nothing saved is lost, and with room again the run resumes bit for bit.

    unshare --mount python -m benchmarks.faults.disk SCRATCH    (as root: the disks are its own)
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from .damage import READERS, compare_words
from .kills import finish
from .process import Case, Outcome, run, run_all
from .small_run import resume_words, train_words, whole_run
from .table import Row

SIZES_KB = (4, 16, 64, 128, 256, 512, 768, 1024, 1536, 2048, 2560, 3072)
FILE_LIMITS_KB = (0, 1, 4, 16, 64, 256, 1024, 2048)
ROOM_KB = 200_000


def disk_rows(scratch: Path) -> Iterator[Row]:
    """All rows: those that need a mount only where one is allowed."""
    yield from _file_limits(scratch)
    command = [sys.executable, "-m", "benchmarks.faults.disk", str(scratch)]
    done = subprocess.run(["unshare", "--mount", *command], capture_output=True, text=True)
    if done.returncode:
        yield Row("full and read-only disks", 0, note=f"left out: {done.stderr.strip()[-80:]}")
    for line in done.stdout.splitlines():
        row = json.loads(line)
        yield Row(row["what"], row["num_tried"], tuple(row["faults"]))


def _file_limits(scratch: Path) -> Iterator[Row]:
    """`ulimit -f` in a run's process, then without it."""
    wanted = whole_run("sesa", scratch / "limits-whole")
    faults = []
    for limit in FILE_LIMITS_KB:
        folder = scratch / f"limit-{limit}"
        outcome = run(Case("train", train_words("sesa", folder), before=_limit(limit)))
        faults.append(_said(outcome) or _finish(folder, wanted))
    yield Row("files limited to a size (ulimit -f) in a run", len(faults), _found(faults))
    cases = [
        Case(f"{name}, {limit} KB", READERS[name](wanted), codes=(0, 2), before=_limit(limit))
        for name in ("evaluate", "view", "report", "compare")
        for limit in (0, 4)
    ]
    faults = [f"{o.case.name}: {o.fault}" if o.fault else "" for o in run_all(cases)]
    yield Row("files limited to a size, other commands", len(faults), _found(faults))


def _limit(kilobytes: int) -> Callable[[], None]:
    size = kilobytes * 1024

    def before() -> None:
        _pipe_screen()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return before


def _pipe_screen() -> None:
    """Let `cat` write what this process prints to its files, outside of its limits."""
    for number in (1, 2):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=number)
        assert child.stdin
        os.dup2(child.stdin.fileno(), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)


def mounted_rows(scratch: Path) -> Iterator[Row]:
    """Full disks of many sizes, and one that becomes read-only in the middle of a run."""
    wanted = whole_run("sesa", scratch / "disk-whole")
    faults = []
    for size in SIZES_KB:
        disk = _mount(scratch / f"disk-{size}", size)
        folder = disk / "run"
        outcome = run(Case("train", train_words("sesa", folder)))
        fault = _said(outcome)
        _mount(disk, ROOM_KB, again=True)
        faults.append(fault or _finish(folder, wanted))
        _unmount(disk)
    yield Row("disk full in a run, 4 KB to 3 MB", len(faults), _found(faults))
    yield _resumed_on_full_disk(scratch, wanted)
    yield _becomes_read_only(scratch, wanted)
    yield _other_commands(scratch, wanted)


def _resumed_on_full_disk(scratch: Path, wanted: Path) -> Row:
    """A disk that fills up in the middle: what was saved is there, and resuming says so again."""
    disk = _mount(scratch / "filling", ROOM_KB)
    folder = disk / "run"
    faults = []
    run(Case("train", train_words("sesa", folder), codes=(0,)))
    shutil.rmtree(folder / "checkpoints" / "step-000004")
    (folder / "result.json").unlink()
    for free in (0, 8, 64, 512):
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024
        _mount(disk, used + 200 + free, again=True)
        faults.append(_said(run(Case("train", resume_words(folder)))))
    _mount(disk, ROOM_KB, again=True)
    faults.append(_finish(folder, wanted))
    _unmount(disk)
    return Row("disk full when a run is resumed", len(faults), _found(faults))


def _becomes_read_only(scratch: Path, wanted: Path) -> Row:
    """The disk is mounted read-only once a run has saved its second checkpoint."""
    disk = _mount(scratch / "read-only", ROOM_KB)
    folder = disk / "run"
    watcher = subprocess.Popen(
        ["sh", "-c", f"while [ ! -d {folder}/checkpoints/step-000002 ]; do sleep .05; done; "
         f"until mount -o remount,ro {disk}; do sleep .02; done"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    faults = [_said(run(Case("train", train_words("sesa", folder))))]
    watcher.wait()
    faults.append(_said(run(Case("train", resume_words(folder)))))
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    faults.append(_finish(folder, wanted))
    _unmount(disk)
    return Row("disk read-only in the middle of a run", len(faults), _found(faults))


def _other_commands(scratch: Path, wanted: Path) -> Row:
    """Each command that writes a file, on a disk without room for it and on a read-only one."""
    faults = []
    for size, option in ((16, "rw"), (16, "ro")):
        disk = _mount(scratch / f"out-{option}", size)
        if option == "rw":
            _fill(disk)
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        out = disk / "out"
        cases = [
            Case("evaluate", ("evaluate", str(wanted), "--episodes", "2", "--json", str(out))),
            Case("view", ("view", str(wanted), "--output", str(out))),
            Case("report", ("report", str(wanted), "--output", str(out))),
            Case("report --png", ("report", str(wanted), "--png", str(out))),
            Case("compare", (*compare_words(wanted, wanted)[:-1], str(out))),
            Case("new-env", ("new-env", "my_game", "--folder", str(disk))),
            Case("train", train_words("sesa", out)),
        ]
        for outcome in run_all(cases):
            fault = outcome.fault or ("" if outcome.code == 2 else "no complaint")
            faults.append(f"{outcome.case.name}, {option}: {fault}" if fault else "")
        _unmount(disk)
    return Row(
        "disk full or read-only under the files of other commands", len(faults), _found(faults)
    )


def _said(outcome: Outcome) -> str:
    """What is wrong with how a command told of a full disk."""
    if outcome.fault or not outcome.code:
        return outcome.fault
    is_resumable = "--resume" in outcome.err or "--output" in outcome.err
    return "" if is_resumable else f"no way on is named: {outcome.err.strip()[-200:]}"


def _finish(folder: Path, wanted: Path) -> str:
    return finish("sesa", folder, wanted)


def _found(faults: list[str]) -> tuple[str, ...]:
    return tuple(filter(None, faults))


def _fill(disk: Path) -> None:
    """Leave no room on a disk."""
    try:
        with (disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    except OSError:
        pass


def _mount(folder: Path, kilobytes: int, again: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={kilobytes}k" + (",remount" if again else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    return folder


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


if __name__ == "__main__":
    for row in mounted_rows(Path(sys.argv[1])):
        print(json.dumps(asdict(row)), flush=True)
