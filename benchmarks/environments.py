"""Sokoban's speed against its peers: a step with its text, a fork, a level.

    python benchmarks/environments.py [--quick]

Ours and the peer take turns, several rounds each, in one process; a figure is the median of its
rounds in calls per CPU second, a ratio is the ratio of two medians. Both step through the same
board with the same legal moves, and every level has a seed of its own. Writes
`results/environments.json`.
"""

import argparse
import copy
import itertools
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich.console import Console
from rich.table import Table

from sesa_agent.environments import fork
from sesa_agent.environments.sokoban import SokobanKnobs, generate_level

PEERS = ("textarena==0.7.4", "gym-sokoban==0.0.6", "gym==0.26.2")
RESULTS = Path(__file__).parent.parent / "results" / "environments.json"
NO_LIMIT = 10**9
CORRIDOR = "######\n#P___#\n#__X_#\n#_#__#\n#___O#\n######"
"""The player walks right and left again, for ever."""
Call = Callable[[], Any]


@dataclass(frozen=True)
class Contest:
    """Two calls that do the same thing."""

    name: str
    ours: Call
    peer_name: str
    peer: Call
    target: float
    """Least ratio of our speed to the peer's."""


@dataclass(frozen=True)
class Result:
    """Speeds in calls per CPU second, medians and all rounds."""

    name: str
    peer: str
    ours_per_s: float
    peer_per_s: float
    ratio: float
    target: float
    ours_rounds: list[float]
    peer_rounds: list[float]


def text_step() -> Contest:
    """One action as text in, the next board as text out."""
    from textarena.envs.Sokoban.env import SokobanEnv  # pyright: ignore[reportMissingImports]

    env = gymnasium.make("sesa/Sokoban-v0", max_steps=NO_LIMIT)
    env.reset(options={"level": CORRIDOR})
    moves = itertools.cycle(["Right", "Left"])

    peer = SokobanEnv(dim_room=(6, 6), max_turns=NO_LIMIT, num_boxes=1)
    peer.reset(num_players=1, seed=0)
    peer.room_state = np.array([["#_O√XP".index(c) for c in row] for row in CORRIDOR.split("\n")])
    peer.room_fixed = np.where(peer.room_state > 2, 1, peer.room_state)
    peer.player_position = np.array([1, 1])
    peer_moves = itertools.cycle(["[right]", "[left]"])

    def peer_step() -> None:
        is_over, _ = peer.step(next(peer_moves))
        assert not is_over
        peer.get_observation()

    name = "Sokoban 6x6, step with its text"
    return Contest(name, lambda: env.step(next(moves)), "textarena 0.7.4", peer_step, target=15)


def live_fork() -> Contest:
    """A copy of a live environment."""
    env = gymnasium.make("sesa/Sokoban-v0")
    env.reset(seed=0)
    name = "Sokoban 6x6, fork of a live environment"
    return Contest(name, lambda: fork(env), "copy.deepcopy", lambda: copy.deepcopy(env), target=10)


def new_level() -> Contest:
    """A solvable room of 6x6 cells with one box."""
    from gym_sokoban.envs.room_utils import (  # pyright: ignore[reportMissingImports]
        generate_room,
    )

    random.seed(0)
    np.random.seed(0)
    seeds, knobs = itertools.count(), SokobanKnobs()

    def peer_level() -> None:
        while True:
            try:
                generate_room(dim=(6, 6), num_steps=int(1.7 * 12), num_boxes=1)
                return
            except (RuntimeError, RuntimeWarning):
                continue  # it gives up on a room now and then; its environment tries again too

    def level() -> None:
        generate_level(next(seeds), knobs)

    name = "Sokoban 6x6, one box, new level"
    return Contest(name, level, "gym-sokoban 0.0.6", peer_level, target=10)


def calls_per_cpu_second(call: Call, seconds: float) -> float:
    """Call for so many CPU seconds and return the speed."""
    count, elapsed, start = 0, 0.0, time.process_time()
    while elapsed < seconds:
        for _ in range(50):
            call()
        count += 50
        elapsed = time.process_time() - start
    return count / elapsed


def run(contest: Contest, num_rounds: int, seconds: float) -> Result:
    """Let both sides take turns."""
    ours, peer = [], []
    for _ in range(num_rounds):
        ours.append(calls_per_cpu_second(contest.ours, seconds))
        peer.append(calls_per_cpu_second(contest.peer, seconds))
    ours_median, peer_median = statistics.median(ours), statistics.median(peer)
    ratio = ours_median / peer_median
    names = contest.name, contest.peer_name
    return Result(*names, ours_median, peer_median, ratio, contest.target, ours, peer)


def show(results: list[Result]) -> Table:
    """Lay the results out as a table."""
    table = Table("what", "ours /CPU-s", "peer", "peer /CPU-s", "ratio", "wanted")
    for result in results:
        colour = "green" if result.ratio >= result.target else "red"
        ratio = f"[{colour}]{result.ratio:.1f}x[/]"
        speeds = f"{result.ours_per_s:,.0f}", f"{result.peer_per_s:,.0f}"
        target = f"{result.target:.0f}x"
        table.add_row(result.name, speeds[0], result.peer, speeds[1], ratio, target)
    return table


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description="Sokoban's speed against its peers.")
    parser.add_argument("--quick", action="store_true", help="three short rounds, no file")
    quick = parser.parse_args().quick
    console = Console()
    try:
        contests = [text_step(), live_fork(), new_level()]
    except ImportError as error:
        line = f"{error}. The peers are missing: pip install {' '.join(PEERS)}"
        console.print(line, soft_wrap=True)
        raise SystemExit(2) from error
    rounds = {"num_rounds": 3, "seconds": 0.2} if quick else {"num_rounds": 9, "seconds": 1.0}
    results = [run(contest, **rounds) for contest in contests]
    console.print(show(results))
    if not quick:
        packages = {name: version(name) for name in ("gymnasium", "numpy", "textarena", "gym")}
        setting = {"python": platform.python_version(), **packages, **rounds}
        report = {"setting": setting, "results": [asdict(result) for result in results]}
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
