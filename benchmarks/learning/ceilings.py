"""Upper bounds and baselines on the held-out puzzles that all methods are measured on.

    python benchmarks/learning/ceilings.py

The optimal policy of the slippery lake, by value iteration; and in Countdown the success of each
fixed pattern of signs for all puzzles (numbers in their order): a policy that collapses onto the
best pattern succeeds as often.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from sesa_agent.configs.load import load_config
from sesa_agent.environments.games.countdown import CountdownGame
from sesa_agent.environments.games.frozen_lake import FrozenLakeGame, optimal_success
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.training.setup import build_env


def lake_optimum(num_puzzles: int) -> float:
    """Mean success of the optimal policy."""
    cfg = load_config("frozen_lake")
    env = build_env(cfg)
    game = env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(game, FrozenLakeGame)
    values = []
    for seed in puzzle_seeds("test", num_puzzles):
        env.reset(seed=seed)
        values.append(optimal_success(game, cfg.env.max_turns))
    return float(np.mean(values))


def sign_patterns(num_puzzles: int) -> dict[str, float]:
    """Success of every pattern of signs, the best first; with fewer numbers its prefix is used."""
    env = build_env(load_config("countdown"))
    game = env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(game, CountdownGame)
    patterns = ["".join(signs) for signs in itertools.product("+-", repeat=3)]
    wins = dict.fromkeys(patterns, 0)
    for seed in puzzle_seeds("test", num_puzzles):
        env.reset(seed=seed)
        first, *others = game.numbers
        for pattern in patterns:
            steps = (
                number if sign == "+" else -number
                for sign, number in zip(pattern, others, strict=False)
            )
            wins[pattern] += first + sum(steps) == game.target
    rates = {pattern: count / num_puzzles for pattern, count in wins.items()}
    return dict(sorted(rates.items(), key=lambda pair: -pair[1]))


def main() -> None:
    """Write the JSON file and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--puzzles", type=int, default=1024)
    parser.add_argument("--output", type=Path, default=Path("results/ceilings.json"))
    args = parser.parse_args()
    found = {
        "num_puzzles": args.puzzles,
        "frozen_lake_optimum": round(lake_optimum(args.puzzles), 4),
        "countdown_sign_patterns": {
            pattern: round(rate, 4) for pattern, rate in sign_patterns(args.puzzles).items()
        },
    }
    args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
