"""Speed of forks of well-known games against `copy.deepcopy`, and what that means for a tree.

    python benchmarks/speed/forks.py [--quick]

A figure is the median over rounds in calls per CPU second (`contest.py`). Forks are made as the
samplers make them, guard included; the deep copies are of the game alone. A tree is grown by
`grow_trees` with scripted answers, so that no time goes into a model. The last line gives the share
of its time that goes into forks. MiniGrid is left out where it is not installed, and then
`results/forks.json` is not written.
"""

import argparse
import copy
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from contest import Contest, run, show, write_report
from rich.console import Console

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments import fork, make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task
from sesa_agent.sampling.tree import grow_trees
from sesa_agent.training.pretraining.tiny_model import build_tokenizer

Copy = Callable[[Any], Any]
TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
GAMES = {
    "Taxi": TAXI,
    "CliffWalking": "CliffWalking-v1" if "CliffWalking-v1" in gymnasium.registry else "",
    "FrozenLake-v1": "FrozenLake-v1",
    "Blackjack": "Blackjack-v1",
    "MiniGrid DoorKey 5x5": "minigrid:MiniGrid-DoorKey-5x5-v0",
    "MiniGrid DoorKey 16x16": "minigrid:MiniGrid-DoorKey-16x16-v0",
}
RESULTS = Path(__file__).parents[2] / "results" / "forks.json"
MOVES = ("South", "North", "East", "West", "Pickup")
SEEDS = itertools.count()


def copy_without_table(env: Any) -> Any:
    """A deep copy that shares the transition table, as forks did before."""
    table = env.unwrapped.env.unwrapped.P
    return copy.deepcopy(env, {id(table): table})


def fork_contest(name: str, peer: str, copy_env: Copy) -> Contest:
    """A fork, with the guard, against a copy of the game alone."""
    env: Any = make_env(GAMES[name])
    env.reset(seed=0)
    target = 1 if name.startswith("MiniGrid") else 10
    return Contest(f"{name}: fork", lambda: fork(env), peer, lambda: copy_env(env.env), target)


class Timed(gymnasium.Wrapper):
    """Copies what it wraps in a given way and measures the time."""

    spent_s = 0.0

    def __init__(self, env: Any, copy_env: Copy):
        super().__init__(env)
        self.copy_env = copy_env

    def fork(self) -> "Timed":
        """Copy it."""
        start = time.process_time()
        twin = Timed(self.copy_env(self.env), self.copy_env)
        Timed.spent_s += time.process_time() - start
        return twin


def tree_grower(copy_env: Copy, is_guarded: bool) -> Callable[[], None]:
    """Return a function that grows the tree of another Taxi ride."""

    def make() -> gymnasium.Env[Any, Any]:
        env: Any = make_env(TAXI)
        return Timed(env if is_guarded else env.env, copy_env)

    tokenizer = build_tokenizer([f"<answer>{move}</answer>" for move in MOVES])
    answers = itertools.cycle([f"<answer>{move}</answer>" for move in MOVES])
    engine = ScriptedEngine(tokenizer, lambda _: next(answers))
    dialogue = Dialogue(make, ChatFormat(tokenizer))
    rng = np.random.default_rng(0)

    def grow() -> None:
        player = Player(engine, dialogue, SamplingParams(), rng)
        player.run(grow_trees, [Task(TAXI, next(SEEDS))], SamplingConfig())

    return grow


def share_of_forks(grow: Callable[[], None], num_trees: int) -> float:
    """Return the share of a tree's CPU time that goes into forks."""
    before, start = Timed.spent_s, time.process_time()
    for _ in range(num_trees):
        grow()
    return (Timed.spent_s - before) / (time.process_time() - start)


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, no file")
    quick = parser.parse_args().quick
    rounds = {"num_rounds": 1, "seconds": 0.05} if quick else {"num_rounds": 7, "seconds": 0.2}
    console, contests = Console(), list[Contest]()
    for name in filter(GAMES.get, GAMES):
        try:
            contests.append(fork_contest(name, "copy.deepcopy", copy.deepcopy))
        except ModuleNotFoundError as error:
            console.print(f"Left out: {name} ({error}).", markup=False, soft_wrap=True)
    contests.append(fork_contest("Taxi", "copy.deepcopy without the table", copy_without_table))
    ways = {
        "fork": tree_grower(fork, is_guarded=True),
        "copy.deepcopy": tree_grower(copy.deepcopy, is_guarded=False),
        "copy.deepcopy without the table": tree_grower(copy_without_table, is_guarded=False),
    }
    ours, *peers = ways
    contests += [Contest("Taxi: a tree", ways[ours], peer, ways[peer]) for peer in peers]
    results = [run(contest, **rounds) for contest in contests]
    console.print(show(results))
    shares = {name: share_of_forks(grow, 1 if quick else 20) for name, grow in ways.items()}
    said = ", ".join(f"{share:.1%} with {name}" for name, share in shares.items())
    console.print(f"Share of a tree's time that goes into forks: {said}.")
    if not quick and len(contests) == len(GAMES) + 3:
        packages = ("gymnasium", "minigrid", "numpy")
        write_report(RESULTS, results, packages, **rounds, share_of_forks_in_a_tree=shares)


if __name__ == "__main__":
    main()
