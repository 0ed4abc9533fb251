"""How long the commands take to start, each in a new process.

    python benchmarks/speed/startup.py [--rounds 3]

Also the time of `train` to its first step and to its first line of metrics, including the
evaluation of the untrained policy; and, for comparison, the import of torch and of transformers.
All alternate; figures are medians of wall-clock seconds on one thread, so the file also records the
load of the machine. Writes `results/startup.json`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[2] / "results" / "startup.json"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
OURS = (sys.executable, "-m", "sesa_agent")
COMMANDS = {
    "python": (sys.executable, "-c", "pass"),
    "import torch": (sys.executable, "-c", "import torch"),
    "import transformers": (sys.executable, "-c", "import transformers"),
    "import torch and a Llama": (
        sys.executable,
        "-c",
        "import torch; from transformers import LlamaForCausalLM, PreTrainedTokenizerFast",
    ),
    "sesa-agent --version": (*OURS, "--version"),
    "sesa-agent --help": (*OURS, "--help"),
    "sesa-agent train --help": (*OURS, "train", "--help"),
    "sesa-agent envs": (*OURS, "envs"),
}
FIRST_STEP, FIRST_LINE = "train: first step begins", "train: first metrics written"
MOST_S = 120
"""Time limit of a command."""


@dataclass(frozen=True)
class Result:
    """Wall-clock seconds of one command."""

    name: str
    median_s: float
    rounds: list[float]


def answer(command: Sequence[str], folder: Path) -> float:
    """Seconds that a command takes in a folder."""
    start = time.perf_counter()
    subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, check=True, timeout=MOST_S
    )
    return time.perf_counter() - start


def first_line(folder: Path) -> tuple[float, float]:
    """Seconds until `train` starts its first step, and until its metrics are written.

    A step starts with the evaluation, if one is due; the metrics contain the time of its parts.
    """
    run = folder / "run"
    metrics = run / "metrics.jsonl"
    command = (*OURS, "train", "--env", "sokoban", "model.device=cpu", "--output", str(run))
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        while not (metrics.is_file() and metrics.read_text().endswith("\n")):
            if process.poll() is not None or time.perf_counter() - start > MOST_S:
                raise SystemExit("train wrote no metrics.")
            time.sleep(0.005)
        seconds = time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
    line = json.loads(metrics.read_text().splitlines()[0])
    step = sum(line[f"time/{part}_s"] for part in ("evaluate", "rollout", "learn"))
    return seconds - step, seconds


def measure(num_rounds: int) -> list[Result]:
    """Run all commands alternately, after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in (*COMMANDS, FIRST_STEP, FIRST_LINE)}
    for _ in range(num_rounds + 1):
        with TemporaryDirectory() as folder:
            for name, command in COMMANDS.items():
                seconds[name].append(answer(command, Path(folder)))
            for name, value in zip((FIRST_STEP, FIRST_LINE), first_line(Path(folder)), strict=True):
                seconds[name].append(value)
    return [
        Result(name, round(statistics.median(rounds[1:]), 3), [round(s, 3) for s in rounds[1:]])
        for name, rounds in seconds.items()
    ]


def show(results: Sequence[Result]) -> Table:
    """A table of the results."""
    table = Table("what", "seconds", "min", "max")
    for result in results:
        numbers = result.median_s, min(result.rounds), max(result.rounds)
        table.add_row(result.name, *(f"{number:.2f}" for number in numbers))
    return table


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    num_rounds = parser.parse_args().rounds
    results, load = measure(num_rounds), os.getloadavg()[1]
    Console().print(show(results))
    setting = {name: version(name) for name in ("torch", "transformers")}
    setting |= {"python": platform.python_version(), "rounds": num_rounds}
    setting |= {"load": round(load, 1), "cores": os.cpu_count()}
    record = {"setting": setting, "results": [asdict(result) for result in results]}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
