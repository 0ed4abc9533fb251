"""Runs all speed benchmarks one after another, and writes one table of the results.

    python benchmarks/speed/table.py [--table]

Each script has a time limit. A script that fails, because a peer is missing or its time is over,
leaves its last results file and does not stop the others. Then the table is made from all
`results/*.json` that exist and written to `results/speed.md`; `--table` only does this. `make
bench` installs the peers first.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results"
TABLE = RESULTS / "speed.md"
MINUTES = {
    "environments": 2.5,
    "forks": 0.5,
    "engines": 5.5,
    "shared_prefix": 3.5,
    "trl_step": 7.0,
    "vllm_rollout": 5.5,
    "scaling": 2.0,
    "memory": 2.0,
    "startup": 1.5,
}
"""Time limit of each script: 30 minutes in total."""
ARGUMENTS = {
    "shared_prefix": ("--rounds", "2"),
    "trl_step": ("--rounds", "2"),
    "vllm_rollout": ("--trees", "24", "--rounds", "1"),
}
"""Arguments for scripts that would take longer otherwise."""
HEAD = """# Speed

Made by `make bench` on CPU cores; `docs/speed.md` says what is measured and how. The ratio is ours
to the other's, as the column says; what is wanted holds for it.

| what | against | ratio | wanted | met |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    against: str
    ratio: float
    wanted: float
    at_most: bool = False
    """Whether `wanted` is a maximum instead of a minimum."""

    @property
    def is_met(self) -> bool:
        """Whether the ratio meets `wanted`."""
        return self.ratio <= self.wanted if self.at_most else self.ratio >= self.wanted


def contest_rows(report: dict[str, Any], peer: str) -> Iterator[Row]:
    """A row for every result with a target; `peer` is the default peer."""
    for r in report["results"]:
        if r.get("target"):
            yield Row(r["name"], r.get("peer", peer), r["ratio"], r["target"])


def shared_prefix_rows(report: dict[str, Any]) -> Iterator[Row]:
    """The gain of shared-prefix rows, by the token ratio; and over a dense mask."""
    results = report["results"]
    for r in results:
        name = f"shared-prefix update, {r['shape']}, {r['prompt']} + 6 x {r['turn']} tokens"
        against = f"padded rows, by the {r['token_ratio']:.2f} times as many tokens"
        yield Row(name, against, r["share"], 0.8)
    mean = sum(r["share"] for r in results) / len(results)
    yield Row("shared-prefix update, mean of these", "padded rows, by the tokens", mean, 0.9)
    longest = max(results, key=lambda r: r["prompt"])
    shape = f"{longest['shape']}, {longest['prompt']} + 6 x {longest['turn']} tokens"
    yield Row(f"shared-prefix update, {shape}", "a dense mask", longest["gain_over_dense"], 1.4)


def step_rows(report: dict[str, Any]) -> Iterator[Row]:
    """A whole step, in wall-clock and in CPU seconds."""
    for r in report["results"]:
        name = f"GRPO step, engine {r['engine']}, threads: {r['threads']}"
        peer = "TRL, logits of responses alone" if r["trl_is_lean"] else "TRL"
        yield Row(f"{name}, wall time", peer, r["wall_ratio"], 4.0)
        yield Row(f"{name}, CPU time", peer, r["cpu_ratio"], 4.0)


def vllm_rows(report: dict[str, Any]) -> Iterator[Row]:
    """Rollouts on vLLM, and its weight update."""
    for name, r in report["results"].items():
        yield Row(f"vLLM: {name}", "the same requests at once", r["stream_by_flat"], 0.95)
        yield Row(f"vLLM: {name}", "a barrier per turn", r["stream_by_waves"], 1.3)
        yield Row(
            f"vLLM: {name}", "all prompt tokens, those from its cache", r["cached_share"], 0.7
        )
    for dtype, seconds in report["update_seconds"].items():
        median = statistics.median(seconds)
        yield Row(f"vLLM: weight update, {dtype}", "a second", median, 0.5, at_most=True)


def scaling_rows(report: dict[str, Any]) -> Iterator[Row]:
    """The exponent with which seconds grow with work: 1 is linear, attention to all turns is 2."""
    for r in report["growth"]:
        work = "weights" if r["kind"] == "model" else "turns"
        is_square = r["kind"] == "depth" and r["context"] == "full"
        for way, name in (("rollout", "rollout"), ("packed", "update")):
            what = f"{name}, growing {r['kind']}, context {r['context']}"
            against = f"power of the {work} that seconds grow by"
            yield Row(what, against, r[way], 2.0 if is_square else 1.2, at_most=True)


def memory_rows(report: dict[str, Any]) -> Iterator[Row]:
    """Growth of the peak memory when only the rollout grows."""
    for r in report["growth"]:
        if r["grown"] != "optim.max_batch_tokens":
            what = f"peak memory of an update, {r['rows']} rows"
            against = f"{r['grown']} {r['from']} instead of {r['to']}"
            yield Row(what, against, r["ratio"], 1.25, at_most=True)


def startup_rows(report: dict[str, Any]) -> Iterator[Row]:
    """Commands without a model against torch, and the way to the first step against a model's."""
    seconds = {r["name"]: r["median_s"] for r in report["results"]}
    for name in ("sesa-agent --version", "sesa-agent --help", "sesa-agent envs"):
        ratio = seconds[name] / seconds["import torch"]
        yield Row(name, "import torch", ratio, 0.5, at_most=True)
    llama, first = "import torch and a Llama", "train: first step begins"
    yield Row(first, llama, seconds[first] / seconds[llama], 2.0, at_most=True)


FILES: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "environments": lambda report: contest_rows(report, ""),
    "forks": lambda report: contest_rows(report, ""),
    "engines": lambda report: contest_rows(report, "generate of transformers"),
    "shared_prefix": shared_prefix_rows,
    "trl_step": step_rows,
    "vllm": vllm_rows,
    "scaling": scaling_rows,
    "memory": memory_rows,
    "startup": startup_rows,
}
"""The rows of each results file."""


def all_rows() -> Iterator[Row]:
    """The rows of all results files that exist."""
    for name, rows in FILES.items():
        file = RESULTS / f"{name}.json"
        if file.is_file():
            yield from rows(json.loads(file.read_text(encoding="utf-8")))


def as_markdown(rows: Iterable[Row]) -> str:
    """The table in Markdown."""
    lines = []
    for row in rows:
        wanted = f"at {'most' if row.at_most else 'least'} {row.wanted:g}"
        cells = (row.what, row.against, f"{row.ratio:.2f}", wanted, "yes" if row.is_met else "no")
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(lines)


def run(name: str, minutes: float) -> str:
    """Run a script and end all its processes; returns how it ended, in words."""
    started = time.perf_counter()
    command = [sys.executable, HERE / f"{name}.py", *ARGUMENTS.get(name, ())]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(60 * minutes)
    except subprocess.TimeoutExpired:
        return f"was stopped after {minutes:g} minutes"
    finally:
        with suppress(ProcessLookupError):  # all its processes have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    seconds = time.perf_counter() - started
    return f"took {seconds:.0f} s" if code == 0 else f"ended with code {code} after {seconds:.0f} s"


def main() -> None:
    """Run the scripts, then write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--table", action="store_true", help="only write the table")
    ends = {}
    if not parser.parse_args().table:
        for name, minutes in MINUTES.items():
            print(f"\n{name}.py, at most {minutes:g} minutes", flush=True)
            ends[name] = run(name, minutes)
    table = as_markdown(all_rows())
    TABLE.write_text(table, encoding="utf-8")
    print(table)
    for name, end in ends.items():
        print(f"{name}.py {end}")


if __name__ == "__main__":
    main()
