"""How many held-out puzzles occur among the training puzzles of a run.

    python benchmarks/learning/overlap.py

For each game, with splits by seed alone and by content: how many of the first 1024 test puzzles
have the content of a training puzzle of a default run (`sesa`, run seed 0), and of a puzzle that
a bundled model was made from. Those of the tables were made when splits differed by seed alone.

And for each arm of the tables whose splits were by seed: its success on all test puzzles, and on
those without the content of one of its own training puzzles.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.environments.puzzle_finder import PuzzleFinder
from sesa_agent.environments.splits import puzzle_seeds, training_seeds
from sesa_agent.environments.text_env import Content, puzzle_content
from sesa_agent.training.pretraining.recipes import RECIPES
from sesa_agent.training.setup import build_env

RESULTS = Path(__file__).parents[2] / "results"
TABLES = ("sokoban", "countdown", "frozen_lake")
"""Tables of runs whose splits were by seed, by the names of their files."""
GAMES: dict[str, tuple[str, list[str], bool]] = {
    "Sokoban": ("sokoban", [], True),
    "Countdown": ("countdown", [], True),
    "FrozenLake": ("frozen_lake", [], True),
    "FrozenLake 3x3": ("frozen_lake", ["env.options.size=3"], False),
    "Sudoku": ("sudoku", [], True),
    "Math": ("math", [], True),
    "SqlQuestions": ("sql_questions", [], False),
}
"""Short name and settings of each game, and whether a bundled model has seen it. In Path
Exploration there is one puzzle."""


def overlap(cfg: Config, num_puzzles: int, num_shown: int) -> dict[str, int]:
    """Count the test puzzles of a game that are lessons too, by either kind of split.

    Args:
        cfg: the settings of the run.
        num_puzzles: test puzzles.
        num_shown: puzzles of this game that a bundled model was made from.
    """
    read = puzzle_content(build_env(cfg))
    assert read is not None
    known: dict[int, Content | None] = {}

    def contents(seeds: Iterable[int]) -> list[Content | None]:
        return [
            known[seed] if seed in known else known.setdefault(seed, read(seed)) for seed in seeds
        ]

    find = PuzzleFinder(lambda: build_env(cfg)).find
    count = cfg.sampling.num_tasks
    lessons = [seed for step in range(cfg.optim.steps) for seed in training_seeds(0, step, count)]
    tests = puzzle_seeds("test", num_puzzles)
    by_seed, by_content = contents(tests), contents(find(tests))
    taught_by_seed, taught_by_content = set(contents(lessons)), set(contents(find(lessons)))
    shown = set(contents(puzzle_seeds("pretraining", num_shown)))
    return {
        "training_puzzles": len(lessons),
        "different_training_puzzles": len(taught_by_content),
        "in_training_by_seed": sum(content in taught_by_seed for content in by_seed),
        "in_training_by_content": sum(content in taught_by_content for content in by_content),
        "pretraining_puzzles": num_shown,
        "in_pretraining_by_seed": sum(content in shown for content in by_seed),
        "in_pretraining_by_content": sum(content in shown for content in by_content),
    }


def shown_puzzles(env_id: str) -> int:
    """Count the puzzles of a game that a bundled model was made from: the largest course's."""
    courses = [course for recipe in RECIPES.values() for course in recipe.courses]
    return max(getattr(one, "num_puzzles", 0) for one in courses if one.env_id == env_id)


def flattery(env: str, arms: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Measure what the test puzzles that an arm was trained on add to its success.

    Args:
        env: short name of the game.
        arms: the runs of a table whose splits were by seed.

    Returns:
        By arm `success`, `success_on_unseen` and `share_seen`, means over its seeds.
    """
    read = puzzle_content(build_env(load_config(env)))
    assert read is not None
    known: dict[int, Content | None] = {}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for arm in arms:
        if not arm["method"]:
            continue
        wins = [int(win) for win in arm["measured"]["T=0.5"]["wins"].split()]
        count = load_config(env, arm["method"]).sampling.num_tasks
        steps = range(arm["steps"])
        lessons = [seed for step in steps for seed in training_seeds(arm["seed"], step, count)]
        tests = puzzle_seeds("test", len(wins))
        known |= {seed: read(seed) for seed in (*lessons, *tests) if seed not in known}
        taught = {known[seed] for seed in lessons}
        unseen = [win for seed, win in zip(tests, wins, strict=True) if known[seed] not in taught]
        numbers = fmean(wins), fmean(unseen), 1 - len(unseen) / len(wins)
        found.setdefault(arm["label"], []).append(numbers)
    names = ("success", "success_on_unseen", "share_seen")
    means = {label: map(fmean, zip(*runs, strict=True)) for label, runs in found.items()}
    return {
        label: {name: round(mean, 4) for name, mean in zip(names, own, strict=True)}
        for label, own in means.items()
    }


def main() -> None:
    """Print the counts and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--puzzles", type=int, default=1024)
    parser.add_argument("--output", type=Path, default=RESULTS / "overlap.json")
    args = parser.parse_args()
    found = {}
    for name, (env, settings, is_shown) in GAMES.items():
        cfg = load_config(env, "sesa", settings)
        found[name] = overlap(cfg, args.puzzles, shown_puzzles(cfg.env.id) if is_shown else 0)
        print(name, found[name], flush=True)
    tables = {}
    for env in TABLES:
        arms = json.loads((RESULTS / f"{env}.json").read_text(encoding="utf-8"))["arms"]
        tables[env] = flattery(env, arms)
        print(env, tables[env], flush=True)
    found = {"test_puzzles": args.puzzles, "games": found, "tables": tables}
    args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
