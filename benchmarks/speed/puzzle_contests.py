"""Contests of puzzle generation with its text, and of scoring an answer. Run by `environments.py`.

Every new puzzle has a seed of its own.
"""

import itertools
import random
from typing import Any

import gymnasium
import numpy as np
from contest import Call, Contest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv, generate_random_map

from sesa_agent.environments import fork
from sesa_agent.environments.games.countdown import expert_action, habit_action

NUM_ITEMS = 10**9
"""More than are used: reasoning-gym generates an item on access."""
NUM_ANSWERS = 64
SEEDS = itertools.count()
"""Seeds of our puzzles. None is repeated, in any contest: some puzzles are cached."""


# ---- puzzles ----


def new_puzzle(env_id: str, **knobs: Any) -> Call:
    """Our next puzzle, with its text."""
    env = gymnasium.make(env_id, **knobs)
    return lambda: env.reset(seed=next(SEEDS))


def next_item(dataset: str, **knobs: Any) -> Call:
    """reasoning-gym's next puzzle, with its text; skips those that it fails to generate."""
    from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

    items, indices = create_dataset(dataset, seed=0, size=NUM_ITEMS, **knobs), itertools.count()
    return until_done(lambda: items[next(indices)], ValueError)


def until_done(call: Call, *errors: type[Exception]) -> Call:
    """Repeat a call after an error: peers sometimes fail to generate a room, and retry too."""

    def persist() -> Any:
        while True:
            try:
                return call()
            except errors:
                continue

    return persist


def lake_gymnasium() -> Contest:
    """A solvable random map and its text; Gymnasium needs a new environment for each."""
    seeds = itertools.count()

    def peer_lake() -> None:
        seed = next(seeds)
        peer = FrozenLakeEnv(desc=generate_random_map(4, seed=seed), render_mode="ansi")
        peer.reset(seed=seed)
        peer.render()

    name = "FrozenLake 4x4: new lake"
    return Contest(name, new_puzzle("sesa/FrozenLake-v0"), "Gymnasium", peer_lake)


def lake_textarena() -> Contest:
    """A solvable random map and its text."""
    from textarena.envs.FrozenLake.env import (  # pyright: ignore[reportMissingImports]
        FrozenLakeEnv as PeerLake,
    )

    peer, seeds = PeerLake(size=4), itertools.count()

    def peer_lake() -> None:
        peer.reset(num_players=1, seed=next(seeds))
        peer.get_observation()

    name = "FrozenLake 4x4: new lake"
    return Contest(name, new_puzzle("sesa/FrozenLake-v0"), "TextArena", peer_lake)


def sokoban_gym() -> Contest:
    """A solvable room with one box; gym-sokoban's without text or picture."""
    from gym_sokoban.envs.room_utils import (  # pyright: ignore[reportMissingImports]
        generate_room,
    )

    random.seed(0)
    np.random.seed(0)

    def peer_level() -> None:
        generate_room(dim=(6, 6), num_steps=int(1.7 * 12), num_boxes=1)

    level = until_done(peer_level, RuntimeError, RuntimeWarning)
    name = "Sokoban 6x6, one box: new level"
    return Contest(name, new_puzzle("sesa/Sokoban-v0"), "gym-sokoban", level, target=10)


def sokoban_gem() -> Contest:
    """A solvable room with two boxes and its text; GEM does not bound the length of a solution."""
    import gem  # pyright: ignore[reportMissingImports]

    peer, seeds = gem.make("game:Sokoban-v0-easy"), itertools.count()
    level = until_done(lambda: peer.reset(seed=next(seeds)), RuntimeError)
    return Contest("Sokoban 6x6, two boxes: new level", two_boxes(), "GEM", level)


def sokoban_reasoning_gym() -> Contest:
    """A solvable room with two boxes, a solution of at most 80 moves, and its text."""
    size = {"min_w": 6, "max_w": 6, "min_h": 6, "max_h": 6}
    level = next_item("sokoban", **size, min_boxes=2, max_boxes=2, max_depth=80)
    return Contest("Sokoban 6x6, two boxes: new level", two_boxes(), "reasoning-gym", level)


def two_boxes() -> Call:
    """Our next level with two boxes."""
    return new_puzzle("sesa/Sokoban-v0", num_boxes=2, max_solution=80)


def countdown_puzzle() -> Contest:
    """Three or four numbers and a target up to 99, reachable with + and -, and the text."""
    return countdown("3 or 4 numbers, + and -", (3, 4), 99, "+-")


def countdown_hard() -> Contest:
    """Four or five numbers and a target up to 999, reachable with all operators, and the text."""
    return countdown("4 or 5 numbers, + - * /", (4, 5), 999, "+-*/")


def countdown(kind: str, count: tuple[int, int], max_target: int, operators: str) -> Contest:
    """A puzzle of one kind; reasoning-gym's includes the expression that it was made from."""
    knobs = {"max_target": max_target, "operators": operators}
    ours = new_puzzle("sesa/Countdown-v0", min_count=count[0], max_count=count[1], **knobs)
    numbers = {"min_numbers": count[0], "max_numbers": count[1], "min_value": 1, "max_value": 99}
    peer = next_item(
        "countdown", **numbers, **knobs | {"operators": tuple(operators)}, min_target=1
    )
    return Contest(f"Countdown, {kind}: new puzzle", ours, "reasoning-gym", peer, target=50)


def sudoku() -> Contest:
    """A 4x4 grid with eight blanks and one solution, and its text."""
    peer = next_item("mini_sudoku", min_empty=8, max_empty=8)
    name = "Sudoku 4x4, 8 blanks: new puzzle"
    return Contest(name, new_puzzle("sesa/Sudoku-v0"), "reasoning-gym", peer)


def sudoku_9x9() -> Contest:
    """A 9x9 grid with forty blanks and one solution, and its text."""
    peer = next_item("sudoku", min_empty=40, max_empty=40)
    name = "Sudoku 9x9, 40 blanks: new puzzle"
    return Contest(name, new_puzzle("sesa/Sudoku-v0", size=9), "reasoning-gym", peer)


# ---- scores ----


def countdown_score() -> Contest:
    """Score a text answer: the same answers to the same puzzles, half of them correct.

    Each of ours is played on a fork of the puzzle, as in training.
    """
    from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

    dataset, rng = create_dataset("countdown", seed=0, size=1), random.Random(0)
    answers = []
    for seed in range(NUM_ANSWERS):
        env = gymnasium.make("sesa/Countdown-v0")
        env.reset(seed=seed)
        game: Any = env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
        answer = habit_action(game, rng) if seed % 2 else expert_action(game)
        entry = {"metadata": {"numbers": list(game.numbers), "target": game.target}}
        answers.append((env, entry, answer))
    ours, theirs = itertools.cycle(answers), itertools.cycle(answers)

    def score() -> None:
        env, _, answer = next(ours)
        fork(env).step(answer)

    def peer_score() -> None:
        _, entry, answer = next(theirs)
        dataset.score_answer(answer, entry)

    name = "Countdown: score of an answer"
    return Contest(name, score, "reasoning-gym", peer_score, target=10)


CONTESTS = (
    lake_gymnasium,
    lake_textarena,
    sokoban_gym,
    sokoban_gem,
    sokoban_reasoning_gym,
    countdown_puzzle,
    countdown_hard,
    sudoku,
    sudoku_9x9,
    countdown_score,
)
