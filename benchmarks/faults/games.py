"""Bad environments: each is checked and trained in.

Wanted: `check-env` names the fault in a line, and a run ends well with the trajectory that met it
marked, or stops in one line before it begins.
"""

from collections.abc import Iterator
from pathlib import Path

from tests.helpers import worst_environments

from .process import Case, run_all
from .small_run import SETTINGS
from .table import Row

MODULE = worst_environments.__name__


def game_rows(scratch: Path) -> Iterator[Row]:
    """A check and a short training run in each bad environment."""
    kinds = {"check-env": _checked, "train": _trained, "train in workers": _trained_in_workers}
    for what, make in kinds.items():
        cases = [make(name, scratch) for name in worst_environments.WORST]
        faults = tuple(f"{o.case.name}: {o.fault}" for o in run_all(cases) if o.fault)
        yield Row(f"a bad environment, {what}", len(cases), faults)


def _env_id(name: str) -> str:
    return f"{MODULE}:worst/{name}-v0"


def _checked(name: str, scratch: Path) -> Case:
    words = ("check-env", _env_id(name), "env.step_timeout=1")
    return Case(f"check-env {name}", words, codes=(0, 1, 2))


def _trained(name: str, scratch: Path) -> Case:
    head = ("train", "--env", _env_id(name), "--steps", "2", "--output", str(scratch / name))
    return Case(f"train {name}", (*head, "env.step_timeout=1", *SETTINGS))


def _trained_in_workers(name: str, scratch: Path) -> Case:
    words = ("train", "--env", _env_id(name), "--steps", "2", "env.workers=2")
    words += ("--output", str(scratch / f"{name}-workers"), "env.step_timeout=3", *SETTINGS)
    return Case(f"train in workers {name}", words)
