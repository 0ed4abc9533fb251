"""Damages each file of a run folder in every way it knows, and runs each command that reads it.

Wanted: a run with a damaged newest checkpoint resumes from the one before it and ends; as that one
holds no optimiser, with other weights, and a line says so. If the newest is used, the run ends bit
for bit as the undisturbed run. Every other command ends well or with one line.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sesa_agent.training.checkpoint_files import PARTS, has_optimizer
from sesa_agent.training.damage import find_damage

from .process import Case, Outcome, run, run_all
from .small_run import STEPS, difference, resume_words, train_words, whole_run
from .table import Row

NO_OPTIMIZER = "moments start from zero"
"""Part of the line that tells it."""
NEWEST = f"checkpoints/step-{STEPS - 1:06d}"
READERS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "train --resume": resume_words,
    "evaluate": lambda run_: ("evaluate", str(run_), "--episodes", "2"),
    "view": lambda run_: ("view", str(run_), "--terminal"),
    "report": lambda run_: ("report", str(run_), "--output", str(run_ / "page.html")),
    "compare": lambda run_: compare_words(run_, run_.parent / "whole"),
}


def compare_words(*runs: Path) -> tuple[str, ...]:
    """The command that compares finished runs."""
    where = ("--output", str(runs[0] / "comparison"))
    return ("compare", *map(str, runs), "--episodes", "2", *where)


# ---- damages ----


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


def _text(text: str) -> Callable[[Path], None]:
    return _bytes(lambda _: text.encode())


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


ANY_FILE: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": _text(""),
    "half": _bytes(lambda data: data[: len(data) // 2]),
    "one bit": _bytes(_flip),
    "garbage": _bytes(lambda _: bytes(range(256)) * 8),
    "zeros": _bytes(lambda data: bytes(len(data))),
    "not UTF-8 at its end": _bytes(lambda data: data + b"\xff\xfe{\n"),
    "a line in its middle": _bytes(
        lambda data: data[: len(data) // 2] + b'\n{"step": \n' + data[len(data) // 2 :]
    ),
    "a folder": _become_folder,
    "a dangling link": _become_link,
}
JSON_FILE = {
    text: _text(text)
    for text in ("{}", "null", "[]", '"text"', "NaN", '{"step": "3"}', '{"step": -1}')
} | {"nested too deeply": _text("[" * 10**5)}


def _tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        change(tensors)
        save_file(tensors, path, metadata)

    return damage


def _largest(tensors: dict[str, torch.Tensor]) -> str:
    floats = {name: t.numel() for name, t in tensors.items() if t.is_floating_point()}
    return max(floats, key=floats.__getitem__)


def _cut(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_largest(tensors)] = tensors[_largest(tensors)][:1].clone()


def _fill(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_largest(tensors)].view(-1)[7] = torch.nan


def _cast(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_largest(tensors)] = tensors[_largest(tensors)].to(torch.float16)


def _lose(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[_largest(tensors)]


TENSOR_FILE = {
    "another shape": _tensors(_cut),
    "a NaN": _tensors(_fill),
    "another dtype": _tensors(_cast),
    "no tensor": _tensors(lambda tensors: tensors.clear()),
    "a tensor too few": _tensors(_lose),
    "a tensor too many": _tensors(lambda tensors: tensors.update(more=torch.ones(3))),
}


def damages(path: Path) -> dict[str, Callable[[Path], None]]:
    """What can happen to a file of this kind."""
    more = {".json": JSON_FILE, ".jsonl": JSON_FILE, ".safetensors": TENSOR_FILE}
    return {**ANY_FILE, **more.get(path.suffix, {})}


# ---- the grid ----


def damaged_files(scratch: Path, every: int = 1) -> Iterator[Row]:
    """All damages of all files of a run that was stopped, and of one that is finished."""
    whole = whole_run("sesa", scratch / "whole")
    stopped = stop_before_last_checkpoint(scratch / "stopped")
    newest = [path for path in (stopped / NEWEST).rglob("*") if path.is_file()]
    logs = [stopped / name for name in ("config.yaml", "metrics.jsonl", "events.jsonl")]
    trees = sorted((stopped / "trees").glob("*.json"))[-1:]
    for what, files, readers in (
        ("in the newest checkpoint", newest, ("train --resume", "evaluate", "view")),
        ("among settings and logs", logs, ("train --resume", "evaluate", "view", "report")),
        ("of saved trees", trees, ("train --resume", "view", "report")),
    ):
        yield _grid(what, [file for file in files if file.exists()], stopped, readers, whole, every)
    finished = [whole / name for name in ("result.json", "metrics.jsonl", "config.yaml")]
    yield _grid("of a finished run", finished, whole, ("report", "compare"), whole, every)
    yield from _no_whole_checkpoint(scratch, stopped)


def _grid(
    what: str, files: list[Path], source: Path, readers: tuple[str, ...], whole: Path, every: int
) -> Row:
    """Every damage of these files, seen by each of the commands."""
    cases = []
    for file in files:
        for damage in list(damages(file))[::every]:
            for reader in readers:
                cases.append(_case(file, damage, reader, source, len(cases)))
    faults = [_judge(outcome, whole) for outcome in run_all(cases)]
    return Row(f"damaged file {what}", len(faults), tuple(filter(None, faults)))


def _case(file: Path, damage: str, reader: str, source: Path, number: int) -> Case:
    folder = source.parent / f"damaged-{number}"
    name = f"{file.relative_to(source)}: {damage}: {reader}"

    def before() -> None:  # in the new process, so that few copies exist at a time
        shutil.copytree(source, folder, symlinks=True)
        damaged = folder / file.relative_to(source)
        damages(file)[damage](damaged)
        if damaged.is_file():
            shutil.copyfile(damaged, _seen(folder))

    return Case(name, READERS[reader](folder), folder=source.parent, before=before)


def _judge(outcome: Outcome, whole: Path) -> str:
    """What is wrong with the end of a command that read a damaged run; deletes the copy."""
    name, words = outcome.case.name, outcome.case.words
    folder = Path(words[2] if words[0] == "train" else words[1])
    fault = outcome.fault
    if not fault and words[0] == "train":
        is_in_checkpoint = name.startswith("checkpoints")
        if is_in_checkpoint and outcome.code:
            fault = f"not resumed: {outcome.err.strip()[:200]}"
        elif NO_OPTIMIZER in outcome.err:
            fault = _unfinished(folder)
        elif not outcome.code:
            fault = difference(folder, whole)
            if fault == "another metrics.jsonl" and name.startswith("metrics.jsonl"):
                fault = _lost_lines(_seen(folder), folder)
            if fault and name.startswith("config.yaml: one bit"):
                fault = ""  # another valid setting
    shutil.rmtree(folder, ignore_errors=True)
    _seen(folder).unlink(missing_ok=True)
    return f"{name}: {fault}" if fault else ""


def _unfinished(folder: Path) -> str:
    """What a run lacks that resumed without an optimiser; its numbers are its own."""
    newest = folder / "checkpoints" / f"step-{STEPS:06d}"
    damage = find_damage(newest, PARTS)
    if damage or not has_optimizer(newest):
        return f"no whole last checkpoint: {damage}"
    return "" if (folder / "result.json").exists() else "no result.json"


def _seen(folder: Path) -> Path:
    """A copy of the damaged file, as the command found it."""
    return folder.with_name(f"{folder.name}.seen")


def _lost_lines(seen: Path, folder: Path) -> str:
    """Lines of a damaged log that are neither in the new one nor in a copy, which is a fault.

    A last line without a line break was being written. Steps after the checkpoint come again.
    """
    kept = {line for path in folder.glob("metrics.jsonl*") for line in _whole_lines(path)}
    lost = [line for line in _whole_lines(seen) if line not in kept]
    again = b'{"step": %d,' % (STEPS - 1)
    lost = [line for line in lost if not line.startswith(again)]
    return f"a lost line {lost[0][:80]!r}" if lost else ""


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def _no_whole_checkpoint(scratch: Path, stopped: Path) -> Iterator[Row]:
    """Nothing to resume from: one line, and nothing is lost."""
    faults = []
    for name, text in (("state.json", ""), ("optimizer.safetensors", "x"), ("state.json", "{}")):
        folder = scratch / "hopeless"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(stopped, folder)
        for checkpoint in (folder / "checkpoints").iterdir():
            (checkpoint / name).write_text(text)
        for reader in ("train --resume", "evaluate", "view"):
            before = _sizes(folder)
            outcome = run(Case(f"all {name} are {text!r}: {reader}", READERS[reader](folder)))
            faults.append(outcome.fault or _lost(before, folder))
    yield Row("no whole checkpoint left", len(faults), tuple(filter(None, faults)))


def _sizes(folder: Path) -> list[int]:
    return sorted(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _lost(before: list[int], folder: Path) -> str:
    now = _sizes(folder)
    return "" if all(size in now for size in before) else "a file is gone"


def stop_before_last_checkpoint(folder: Path) -> Path:
    """A run that was killed before its last checkpoint got its name."""
    last = f"step-{STEPS:06d}"

    def before() -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "os.rename" and str(arguments[1]).endswith(last):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    run(Case("stopped", train_words("sesa", folder), before=before))
    names = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    if names != [f"step-{STEPS - 2:06d}", f"step-{STEPS - 1:06d}"]:
        raise RuntimeError(f"the run left the checkpoints {json.dumps(names)}")
    return folder
