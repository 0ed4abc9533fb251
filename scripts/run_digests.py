"""Digests of the final weights of short runs: they stay the same if a change moves no result.

    python scripts/run_digests.py > before.txt      # then change the code
    python scripts/run_digests.py | diff before.txt -

One thread each, so that sums have a fixed order; other processors have other digests.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = {
    "sesa, Sokoban": ["--env", "sokoban"],
    "ragen, Sokoban": ["--env", "sokoban", "--method", "ragen"],
    "dapo, sums": ["--env", "math", "--method", "dapo"],
    "sesa-two-stage, Sudoku": ["--env", "sudoku", "--method", "sesa-two-stage"],
    "sesa, FrozenLake": ["--env", "frozen_lake"],
    "sesa-paper, Countdown": ["--env", "countdown", "--method", "sesa-paper"],
}
SETTINGS = ["--steps", "5", "eval.final_episodes=8", "eval.episodes=8"]


def digest(words: list[str], folder: Path) -> str:
    """SHA-256 of the final weights of a run of five steps."""
    command = [sys.executable, "-m", "sesa_agent", "train", *words, *SETTINGS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--output", folder], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    (newest,) = (folder / "checkpoints").glob("*5/model/model.safetensors")
    return hashlib.sha256(newest.read_bytes()).hexdigest()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for number, (name, words) in enumerate(RUNS.items()):
            print(f"{digest(words, Path(place) / str(number))}  {name}", flush=True)
