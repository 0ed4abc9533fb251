"""Peak memory of an update as a function of the token limit and of the size of the rollout.

    python benchmarks/speed/memory.py

A random Llama is updated once on trees of Sokoban in context `full`, with padded and with
shared-prefix rows ("packed"), on one thread, each case in a process of its own. The figure is the
peak memory of the update minus the memory after an update on a single turn. It should grow with
`optim.max_batch_tokens`, but hardly with the cap U or the number of groups. Needs Linux: the peak
is reset through `/proc/self/clear_refs`. Writes `results/memory.json`.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peak_memory import peak_bytes, reset_peak
from rich.console import Console
from rich.table import Table
from scaling import make_config, random_policy

from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.configs.schema import Config
from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree
from sesa_agent.training.progress import Progress
from sesa_agent.training.rollout import rollout, step_player
from sesa_agent.training.setup import build_dialogue, build_policy
from sesa_agent.training.update import Learner, build_optimizer

RESULTS = Path(__file__).parents[2] / "results" / "memory.json"
KINDS = ("padded", "packed")
BASE = {"tokens": 1024, "cap": 8, "groups": 4}
GROWN = {"tokens": (512, 1024, 2048), "cap": (8, 16, 32), "groups": (4, 8, 16)}
NAMES = {"tokens": "optim.max_batch_tokens", "cap": "sampling.max_trajectories", "groups": "groups"}
DEPTH = 4
WIDTH, LAYERS = 128, 3
"""Size of the model: half a million weights."""


@dataclass(frozen=True)
class Result:
    """Peak memory of one update, in MiB."""

    rows: str
    tokens: int
    """`optim.max_batch_tokens`."""
    cap: int
    groups: int
    peak: float


def config(tokens: int, cap: int, groups: int) -> Config:
    """The settings of a case."""
    cfg = make_config("full", groups, cap, DEPTH)
    cfg.optim.max_batch_tokens = tokens
    return cfg


def grow(cfg: Config) -> list[TrajectoryTree]:
    """The trees of a case, sampled by the bundled model."""
    policy = build_policy(cfg)
    return rollout(cfg, 0, step_player(cfg, 0, HFEngine(policy), build_dialogue(cfg, policy))).trees


def learn_here(kind: str, tokens: int, cap: int, groups: int, file: Path) -> float:
    """Update on the trees in a file; returns the increase in memory of this process, in MiB."""
    torch.set_num_threads(1)
    trees = [TrajectoryTree.from_json(tree) for tree in json.loads(file.read_text())]
    cfg = config(tokens, cap, groups)
    policy = random_policy(WIDTH, LAYERS, build_policy(cfg).tokenizer)
    policy.padding_reason = "" if kind == "packed" else "this side is padded"
    optimizer = build_optimizer(policy, cfg.optim)
    learner = Learner(policy, optimizer)
    one_turn = TrajectoryTree(trees[0].task, [ROOT], trees[0].turns[:1])
    learner.update([one_turn], cfg, Progress())
    reset_peak()
    before = peak_bytes()
    learner.update(trees, cfg, Progress(step=1))
    return (peak_bytes() - before) / 2**20


def learn_apart(kind: str, tokens: int, cap: int, groups: int, file: Path) -> Result:
    """`learn_here` in a new process."""
    case = (kind, str(tokens), str(cap), str(groups))
    command = [sys.executable, __file__, "--case", *case, str(file)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return Result(kind, tokens, cap, groups, round(float(answer.stdout.split()[-1]), 1))


def cases() -> list[dict[str, int]]:
    """All cases; one number grows at a time."""
    listed = [{**BASE, name: value} for name, values in GROWN.items() for value in values]
    return [case for place, case in enumerate(listed) if case not in listed[:place]]


def find(results: Sequence[Result], kind: str, **values: int) -> Result:
    """The result of a case that differs from `BASE` in some values."""
    wanted = {"rows": kind, **BASE, **values}
    return next(r for r in results if wanted.items() <= asdict(r).items())


def growths(results: Sequence[Result]) -> list[dict[str, str | float]]:
    """Growth of the peak when a number grows fourfold."""
    return [
        {
            "rows": kind,
            "grown": NAMES[name],
            "from": values[0],
            "to": values[-1],
            "ratio": round(
                find(results, kind, **{name: values[-1]}).peak
                / find(results, kind, **{name: values[0]}).peak,
                3,
            ),
        }
        for kind in KINDS
        for name, values in GROWN.items()
    ]


def show(results: Sequence[Result]) -> Table:
    """A table of the peaks."""
    table = Table("rows", "what grows", "values", "peak MiB", "grew by")
    for growth in growths(results):
        name = next(name for name, words in NAMES.items() if words == growth["grown"])
        kind = str(growth["rows"])
        peaks = [f"{find(results, kind, **{name: value}).peak:.0f}" for value in GROWN[name]]
        values = ", ".join(map(str, GROWN[name]))
        table.add_row(kind, NAMES[name], values, ", ".join(peaks), f"{growth['ratio']:.2f}x")
    return table


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    case = parser.parse_args().case
    if case:
        kind, bound, cap, num_groups, file = case
        print(learn_here(kind, int(bound), int(cap), int(num_groups), Path(file)))
        return
    torch.set_num_threads(1)
    results = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trees.json"
        for values in cases():
            trees = grow(config(**values))
            file.write_text(json.dumps([tree.to_json() for tree in trees]))
            results += [learn_apart(kind, **values, file=file) for kind in KINDS]
    Console().print(show(results))
    setting = {name: version(name) for name in ("torch", "transformers")}
    setting |= {"python": platform.python_version(), "depth": DEPTH, "context": "full"}
    listed = [asdict(result) for result in results]
    record = {"setting": setting, "growth": growths(results), "results": listed}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
