"""Bad inputs: wrong values of every setting and game option, odd paths, files and screens.

Wanted: one line and exit code 2 before any work; where a value may be meant, a normal end.
"""

import dataclasses
import inspect
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import gymnasium
from gymnasium.envs.registration import load_env_creator

from sesa_agent.configs.load import env_names, load_config
from sesa_agent.configs.schema import Config

from .process import Case, run_all
from .small_run import SETTINGS
from .table import Row

NEVER_A_NUMBER = (
    "x",
    "nan",
    "inf",
    "-inf",
    "null",
    "",
    "[1]",
    "{a: 1}",
    "1:30",
    "true",
    "0o",
    "???",
)
BAD_VALUES: dict[Any, tuple[str, ...]] = {
    int: (*NEVER_A_NUMBER, "1.5", "1_000", "9" * 40, "-1e400"),
    float: (*NEVER_A_NUMBER, "1e999", "1_0.0"),
    bool: ("flase", "yes", "on", "2", "null", "", "[true]", "nan", "${env.id}"),
}
"""What is never allowed, by the type of a setting."""
ODD_TEXTS = (
    "",
    "null",
    "${oc.env:HOME}",
    "???",
    "&a [*a, *a]",
    "!!python/name:os.system",
    "\x00",
    "é" * 300,
)
OPTION_VALUES = ("flase", "1.5e0x", "nan", "{a: 1}", "[[]]", "-7", "1e99", "", "null", "3.5", "--")
QUICK = ("optim.steps=1", *SETTINGS, "engine.max_new_tokens=6", "env.max_turns=3")
COMMAND_LINES = Path(__file__).with_name("command_lines.txt")


def input_rows(scratch: Path, run_: Path) -> Iterator[Row]:
    """All rows; `run_` is a finished run."""
    yield _row("a bad value of a setting", list(_settings(scratch)))
    yield _row("an odd text for a setting", list(_texts(scratch)))
    yield _row("a bad or odd value of an option of a game", list(_options(scratch)))
    yield _row("bad words of a command line", list(_command_lines(scratch, run_)))
    yield _row("a bad method file", list(_method_files(scratch)))
    yield _row("a bad data file", list(_data_files(scratch)))
    yield _screens(run_)


def _row(what: str, cases: list[Case]) -> Row:
    faults = tuple(f"{o.case.name}: {o.fault}" for o in run_all(cases) if o.fault)
    return Row(what, len(cases), faults)


def _train(scratch: Path, name: str, *words: str, env: str = "sokoban", codes=(0, 2)) -> Case:
    """A run of one step that has this setting."""
    folder = scratch / f"input-{abs(hash((env, name)))}"
    head = ("train", "--env", env, "--output", str(folder), *QUICK)
    typed = {word.partition("=")[0] for word in words}
    kept = tuple(word for word in head if word.partition("=")[0] not in typed)
    return Case(name, (*kept, *words), codes=codes)


def _leaves(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        key, hint = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _leaves(hint, key + ".")
        else:
            yield key, hint


def _settings(scratch: Path) -> Iterator[Case]:
    for key, kind in _leaves(Config):
        for value in BAD_VALUES.get(kind, ()):
            word = f"{key}={value}"
            yield _train(scratch, word, word, codes=(2,))


def _texts(scratch: Path) -> Iterator[Case]:
    for key, kind in _leaves(Config):
        for value in ODD_TEXTS if kind is str else ():
            if "\x00" not in value:  # no command line can hold it
                yield _train(scratch, f"{key}={value[:40]}", f"{key}={value}")


def _options(scratch: Path) -> Iterator[Case]:
    for env in env_names():
        spec = gymnasium.spec(load_config(env).env.id)
        for name in _arguments(spec.entry_point):
            for value in OPTION_VALUES:
                word = f"env.options.{name}={value}"
                yield _train(scratch, f"{env} {word}", word, env=env)
        yield _train(scratch, f"{env}, no option", "env.options.sise=4", env=env, codes=(2,))


def _arguments(entry_point: Any) -> list[str]:
    if isinstance(entry_point, str):
        entry_point = load_env_creator(entry_point)
    return [name for name in inspect.signature(entry_point).parameters if name != "kwargs"]


def _command_lines(scratch: Path, run_: Path) -> Iterator[Case]:
    places = {name: scratch / f"a-{name}" for name in ("file", "folder", "link")}
    places["file"].write_text("text")
    places["folder"].mkdir()
    places["link"].symlink_to("nowhere/at/all")
    names = {**places, "run": run_, "long": scratch / ("n" * 300), "quick": " ".join(QUICK)}
    lines = [text for text in COMMAND_LINES.read_text("utf-8").splitlines() if text[0] != "#"]
    for text in lines:
        line = text
        for name, value in names.items():
            line = line.replace("{" + name + "}", str(value))
        words = tuple(shlex.split(line))
        # A check that failed is exit code 1.
        yield Case(text, words, codes=(1, 2) if words[0] == "check-env" else (2,), folder=scratch)
    for value in ("[" * 5000, "9" * 100_000, "é" * 100_000):
        yield _train(scratch, f"optim.lr={value[:9]}...", f"optim.lr={value}", codes=(2,))
    yield from _files_at(places["link"], run_, scratch)


def _files_at(link: Path, run_: Path, scratch: Path) -> Iterator[Case]:
    """Outputs to a dangling link, which some programs follow and others refuse."""
    for words in (
        ("evaluate", str(run_), "--episodes", "2", "--json", str(link)),
        ("view", str(run_), "--output", str(link)),
        ("report", str(run_), "--output", str(link)),
        ("train", "--env", "sokoban", "--output", str(link), *QUICK),
    ):
        yield Case(f"{words[0]} to a dangling link", words, folder=scratch)


def _method_files(scratch: Path) -> Iterator[Case]:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in pairwise("abcdefghi")
    )
    texts: dict[str, bytes] = {
        "alias bomb": bomb.encode(),
        "a list": b"- 1\n- 2\n",
        "a scalar": b"3\n",
        "empty": b"",
        "not YAML": b"optim: [\n",
        "tabs": b"optim:\n\tlr: 1\n",
        "a tag": b"!!python/object/apply:os.system ['true']\n",
        "a tag in a value": b"optim:\n  lr: !!python/name:os.system\n",
        "interpolation": b"optim:\n  lr: ${oc.env:HOME}\n",
        "missing": b"optim:\n  lr: ???\n",
        "unknown key": b"optim:\n  lrr: 1\n",
        "unknown group": b"optimizer:\n  lr: 1\n",
        "a group as a number": b"optim: 3\n",
        "a number as a group": b"optim:\n  lr:\n    x: 1\n",
        "wrong type": b"optim:\n  steps: many\n",
        "octal": b"optim:\n  steps: 0o\n",
        "sexagesimal": b"optim:\n  steps: 1:30\n",
        "not a number": b"optim:\n  lr: .nan\n",
        "infinite": b"optim:\n  lr: .inf\n",
        "twice": b"optim:\n  lr: 1\noptim:\n  lr: 2\n",
        "UTF-16": "optim:\n  lr: 0.1\n".encode("utf-16"),
        "binary": bytes(range(256)),
        "unknown base": b"extends: nope\n",
        "a base of another kind": b"extends: [ragen]\n",
        "extends itself": b"extends: {x: 1}\n",
        "deep": b"[" * 100_000,
        "numeric key": b"1: 2\n",
        "null group": b"optim:\n",
        "two documents": b"optim:\n  lr: 1\n---\noptim:\n  lr: 2\n",
    }
    for name, data in texts.items():
        path = scratch / f"method {name}.yaml"
        path.write_bytes(data)
        codes = (0, 2) if name in ("empty", "null group") else (2,)
        yield _train(scratch, f"method file: {name}", "--method", str(path), codes=codes)
    yield _train(scratch, "method file: a folder", "--method", str(scratch) + "/", codes=(2,))
    yield _train(scratch, "method file: none", "--method", "no/such.yaml", codes=(2,))


def _data_files(scratch: Path) -> Iterator[Case]:
    line = b'{"problem": "1+1?", "answer": "2"}\n'
    files: dict[str, tuple[str, bytes]] = {
        "empty": ("jsonl", b""),
        "not JSON": ("jsonl", b"hello\n" * 50),
        "half a line": ("jsonl", line * 50 + b'{"problem": "x'),
        "a list of numbers": ("jsonl", b"3\n" * 50),
        "no answer": ("jsonl", b'{"problem": "1+1?"}\n' * 50),
        "null answer": ("jsonl", b'{"problem": "1+1?", "answer": null}\n' * 50),
        "NaN answer": ("jsonl", b'{"problem": "1+1?", "answer": NaN}\n' * 50),
        "dict answer": ("jsonl", b'{"problem": "1+1?", "answer": {"a": 1}}\n' * 50),
        "UTF-16": ("jsonl", (line * 50).decode().encode("utf-16")),
        "binary": ("jsonl", bytes(range(256)) * 10),
        "gzip": ("jsonl", b"\x1f\x8b\x08\x00" + bytes(100)),
        "a bad array": ("json", b"[1, 2"),
        "an object": ("json", b'{"a": 1}'),
        "no columns": ("csv", b"\n\n"),
        "unknown columns": ("csv", b"a,b\n1,2\n"),
        "quotes never closed": ("csv", b'problem,answer\n"1+1,2\n'),
        "not parquet": ("parquet", b"PAR1" + bytes(50)),
        "unknown ending": ("xyz", line),
        "all equal": ("jsonl", line * 50),
        "very deep": ("jsonl", b"[" * 100_000 + b"\n"),
    }
    for name, (ending, data) in files.items():
        path = scratch / f"data {name}.{ending}"
        path.write_bytes(data)
        word = f"env.options.path={path}"
        yield _train(scratch, f"data file: {name}", word, env="math", codes=(2,))
    word = f"env.options.path={scratch}"
    yield _train(scratch, "data file: a folder", word, env="math", codes=(0, 2))


def _screens(run_: Path) -> Row:
    """Screens and locales that real interpreters start with: no traceback."""
    program = f"{sys.executable} -m sesa_agent"
    evaluate = f"{program} evaluate '{run_}' --episodes 2"
    view = f"{program} view '{run_}' --terminal"
    posix = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"
    commands = {
        "--help | head -1": f"{program} --help | head -1",
        "envs | head -1": f"{program} envs | head -1",
        "train --help, 20 columns": f"COLUMNS=20 {program} train --help",
        "view, 20 columns": f"COLUMNS=20 {view}",
        "view, ASCII": f"{posix} PYTHONIOENCODING=ascii {view}",
        "view | head -1": f"{view} | head -1",
        "evaluate, stdout closed": f"{evaluate} >&-",
        "evaluate, stderr closed": f"{evaluate} 2>&-",
        "evaluate, both closed": f"{evaluate} >&- 2>&-",
        "evaluate to /dev/full": f"{evaluate} >/dev/full",
        "play, stdin closed": f"{program} play --env sokoban <&-",
        "play, not a terminal": f"echo q | {program} play --env sokoban",
        "non-UTF-8 argument": f"{program} evaluate $(printf 'a\\377b') --env sokoban",
        "no home": f"env -u HOME {program} doctor",
        "a home that is not there": f"HOME=/nowhere {evaluate}",
        "a dumb terminal": f"TERM=dumb {evaluate}",
        "a path in C locale": f"{posix} {program} evaluate ./größe --env sokoban",
    }  # fmt: skip
    faults = []
    for name, command in commands.items():
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, timeout=120, env=os.environ, check=False
        )
        err = done.stderr.decode(errors="replace")
        if "Traceback" in err or "Exception ignored" in err or done.returncode < 0:
            faults.append(f"{name}: {(err.strip().splitlines() or [''])[-1][:200]}")
    return Row("a bad screen, locale or home", len(commands), tuple(faults))
