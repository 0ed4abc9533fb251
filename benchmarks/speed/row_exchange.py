"""What it costs that every process gets the rows that it computes.

    python benchmarks/speed/row_exchange.py [--turns 20000] [--processes 4]

Turns of 600 prompt tokens and 200 sampled ones, in trees that the processes own in unequal numbers,
are collated, numbered and dealt as in an update. The same work is done by one process for a single
share of the turns, which is what memory is compared with. No process parses the turns of another.
Writes `results/row_exchange.json`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from peak_memory import peak_bytes, reset_peak

from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import load_config
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree, Turn
from sesa_agent.training import distributed
from sesa_agent.training.advantages import leaf_returns, trajectory_credit
from sesa_agent.training.batch import collate
from sesa_agent.training.micro_batches import deal_rows
from sesa_agent.training.row_exchange import number_across_ranks
from sesa_agent.training.tree_summary import TreeSummary, summarize

RESULTS = Path(__file__).parents[2] / "results" / "row_exchange.json"
PROMPT, RESPONSE, DEPTH, WIDTH = 600, 200, 10, 4
VOCABULARY = 150_000


def grow(number: int) -> TrajectoryTree:
    """A tree of `WIDTH` independent trajectories, one of which wins."""
    rng = np.random.default_rng(number)
    tree = TrajectoryTree(Task("", number))
    for leaf in range(WIDTH):
        node = ROOT
        for depth in range(DEPTH):
            is_last = depth == DEPTH - 1
            turn = Turn(
                "x" * 120,
                tuple(rng.integers(0, VOCABULARY, PROMPT).tolist()),
                tuple(rng.integers(0, VOCABULARY, RESPONSE).tolist()),
                tuple((-rng.random(RESPONSE)).tolist()),
                "y" * 4 * RESPONSE,
                "Up",
                float(leaf == 0 and is_last),
                False,
                is_last,
                proposal_index=leaf,
            )
            node = tree.add(node, turn)
    return tree


def own_trees(num_turns: int) -> list[TrajectoryTree]:
    """This process's trees, some more or less than an equal share."""
    num, size = num_turns // (DEPTH * WIDTH), distributed.world_size()
    ends = np.cumsum(np.random.default_rng(0).dirichlet([30] * size) * num).round().astype(int)
    starts = [0, *ends[:-1]]
    return [grow(n) for n in range(starts[distributed.rank()], ends[distributed.rank()])]


def measure(num_turns: int) -> list[dict[str, Any]]:
    """Exchange once; returns what each process needed."""
    trees = own_trees(num_turns)
    cfg = load_config("sokoban", "sesa", ["loss.credit=trajectory"])
    policy = cast(Policy, SimpleNamespace(can_share_prefix=True))
    distributed.barrier()
    reset_peak()
    before, started, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    own = [summarize(tree, 0.0, RESPONSE) for tree in trees]
    everyones = distributed.gather_lists(own, TreeSummary.to_json, TreeSummary.from_json)
    credits = [trajectory_credit(tree, leaf_returns(tree, 0.0), cfg.loss) for tree in trees]
    total = sum(distributed.all_gather(sum(credit.denominator for credit in credits)))
    batch = deal_rows(policy, number_across_ranks(collate(trees, credits, 0, denominator=total)))
    found = {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mb": round((peak_bytes() - before) / 1e6),
        "turns_sampled": sum(map(len, trees)),
        "turns_known": sum(map(len, everyones)),
        "rows": len(batch),
        "tokens": int(batch.attention_mask.sum()),
    }
    return distributed.all_gather(found)


def run(num_turns: int, num_processes: int) -> list[dict[str, Any]]:
    """Start the processes; returns what each needed."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(num_processes), __file__, "--turns", str(num_turns)]
    words = torchrun if num_processes > 1 else [sys.executable, __file__, "--turns", str(num_turns)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "SESA_EXCHANGE": "1"}
    done = subprocess.run(words, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure both sizes and write the results; or be one of the processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    if "SESA_EXCHANGE" in os.environ:
        torch.set_num_threads(1)
        if dist.is_torchelastic_launched():
            dist.init_process_group("gloo")
        found = measure(options.turns)
        if distributed.is_rank_zero():
            print(json.dumps(found))
        return
    several = run(options.turns, options.processes)
    (alone,) = run(options.turns // options.processes, 1)
    tokens = [one["tokens"] for one in several]
    values = {
        "command": f"python benchmarks/speed/row_exchange.py --turns {options.turns} "
        f"--processes {options.processes}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "processes": several,
        "one_process_with_a_share": alone,
        "most_tokens_by_mean": round(max(tokens) * len(tokens) / sum(tokens), 3),
        "most_memory_by_share": round(max(p["peak_mb"] for p in several) / alone["peak_mb"], 2),
    }
    RESULTS.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
