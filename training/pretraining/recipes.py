"""Recipes of the bundled models: next-token prediction on the play of scripted players.

`sesa-tiny` learns games of several turns, `sesa-tiny-answers` tasks settled by a single answer.
`sesa-tiny-varied`, which does not ship, learns the games from players with many random moves. Their
data is in `training/pretraining/courses.py`. `sesa-agent pretrain` runs a recipe, with the same
result on the same machine.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...agents.chat import ChatFormat
from ...agents.policy import Policy
from ...agents.prompts import (
    SEPARATOR,
    SYSTEM,
    PromptStyle,
    follow,
    list_answers,
    outline,
    propose_another,
)
from ...configs.writing import writing
from ...environments import make_env
from ...environments.games.places import PLACES
from ...sampling.prompt_writer import prompt_style
from .courses import Course, Example, GameCourse, ListCourse, MethodCourse
from .players import METHOD_PLAYERS, rank_places
from .tiny_model import build_model, build_tokenizer


@dataclass(frozen=True)
class Recipe:
    """How a bundled model is made."""

    courses: tuple[Course, ...]
    phrases: Callable[["Recipe"], Iterator[str]]
    """Texts that become single tokens: the fixed phrases of prompts and answers."""
    steps: int
    lr: float = 4e-3
    hidden_size: int = 64
    num_layers: int = 3
    positions: str = "rotary"
    """Position encoding: `rotary` (Llama) or `learned` (GPT-2)."""
    seed: int = 0


def pretrain(
    folder: Path,
    recipe: Recipe,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Policy:
    """Train a bundled model from scratch and write it to `folder`.

    Args:
        folder: where the model is written, in Hugging Face format.
        recipe: its data and hyperparameters.
        report: called after every step with its number and its loss in nats per response token.

    Raises:
        DiskError: if it could not be written.
    """
    rng = random.Random(recipe.seed)
    tokenizer = build_tokenizer(recipe.phrases(recipe))
    model = build_model(
        tokenizer, recipe.hidden_size, recipe.num_layers, recipe.positions, recipe.seed
    )
    policy = Policy(model, tokenizer)
    chat = ChatFormat(tokenizer)
    examples = [list(course.examples(chat, rng)) for course in recipe.courses]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=recipe.lr, betas=(0.9, 0.95))
    for step in range(recipe.steps):
        warm_up = min(1.0, 8 * (step + 1) / recipe.steps)
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        optimizer.param_groups[0]["lr"] = recipe.lr * warm_up * decay
        loss = 0.0
        # Examples of one course have similar lengths: a batch per course needs little padding.
        for course, pool in zip(recipe.courses, examples, strict=True):
            batch = rng.choices(pool, k=course.batch_size)
            loss += add_gradients(policy, batch, 1 / len(recipe.courses))
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        report(step + 1, loss)
    with writing(folder):
        policy.save(folder)
    return policy


def game_phrases(recipe: Recipe) -> Iterator[str]:
    """Phrases of games: prompts with and without thoughts, lists of proposals, moves."""
    yield from ("<think>", "</think>", "<answer>", "</answer>", SEPARATOR, "√", SYSTEM)
    for thinking in (False, True):
        yield PromptStyle("", "", "", thinking=thinking).request()
    head, tail = propose_another(["|"]).split("|")
    yield from (head, "; ", tail, "Turn ", ":\nState:\n", "\nYou have ", " actions left. ")
    yield from ("Reward: ", "Numbers: ", "\nTarget: ", " + ", " - ", ", ")
    for course in recipe.courses:
        for options in (course.options, *_variants(course.env_id)):
            style = prompt_style(make_env(course.env_id, **options))
            yield from style.rules().splitlines(keepends=True)
    yield from ("Up", "Down", "Left", "Right")


def _variants(env_id: str) -> list[dict[str, Any]]:
    """Other options whose instructions should be single tokens too."""
    if "FrozenLake" in env_id:
        return [{"slippery": False}]
    return [{"answer": "grid"}] if "Sudoku" in env_id else []


def answer_phrases(recipe: Recipe) -> Iterator[str]:
    """Phrases of single answers: prompts, instructions of sequential sampling, methods, places."""
    yield from ("<answer>", "</answer>", "<sketch>", "</sketch>", SYSTEM)
    yield PromptStyle("", "", "").request()
    yield from ("Turn ", ":\nState:\n", "\nYou have ", " actions left. ", "; ")
    yield from propose_another(["|"]).split("|")
    yield from follow("|").split("|")
    for course in recipe.courses:
        env = make_env(course.env_id, **course.options)
        style = prompt_style(env)
        yield from style.rules().splitlines(keepends=True)
        yield from outline(style.sketch, ["|"]).split("|")
        yield outline(style.sketch, [])
        if isinstance(course, ListCourse):
            yield list_answers(course.list_length)
            yield env.reset(seed=0)[0]
        if isinstance(course, MethodCourse):
            yield from course.player.methods
    for place in PLACES:
        *above, name = place.split(" – ")
        yield from (f"{level} – " for level in above)
        yield name
    yield from (f"{row} {column} " for row in range(1, 5) for column in range(1, 5))
    yield from (" + ", " - ", " = ", "Compute ")


GAMES = (
    GameCourse("sesa/Sokoban-v0", {}, 4, 4000, 96),
    GameCourse("sesa/FrozenLake-v0", {}, 4, 3000, 48),
    GameCourse("sesa/Countdown-v0", {"max_number": 20}, 8, 20000, 64, max_turns=1),
    GameCourse(
        "sesa/Sudoku-v0",
        {"answer": "placements", "num_blanks": 6},
        num_proposals=6,
        num_puzzles=2000,
        batch_size=48,
        max_turns=12,
    ),
)
"""The courses of games, at the difficulty of the configs in `configs/`."""
VARIED_SHARE = 0.4
"""Random moves of the players that `sesa-tiny-varied` imitates: its policy has no strong habit."""
RECIPES = {
    "sesa-tiny": Recipe(GAMES, game_phrases, steps=800),
    "sesa-tiny-answers": Recipe(
        (
            ListCourse("sesa/PathExploration-v0", {}, *rank_places(), 16, 8000, 24),
            MethodCourse(
                "sesa/Sudoku-v0",
                {"answer": "fill"},
                METHOD_PLAYERS["sesa/Sudoku-v0"],
                num_puzzles=30000,
                batch_size=128,
            ),
            MethodCourse(
                "sesa/Math-v0",
                {},
                METHOD_PLAYERS["sesa/Math-v0"],
                num_puzzles=30000,
                batch_size=128,
            ),
        ),
        answer_phrases,
        steps=2600,
        num_layers=4,
        positions="learned",
    ),
    "sesa-tiny-varied": Recipe(
        tuple(replace(course, random_share=VARIED_SHARE) for course in GAMES),
        game_phrases,
        steps=800,
    ),
}
"""Recipes by model name. The first two ship with the package (`BUNDLED`)."""


def add_gradients(policy: Policy, examples: list[Example], weight: float) -> float:
    """Add the weighted gradients of the mean token loss; return that loss in nats."""
    width = max(len(example.token_ids) for example in examples)
    first = min(example.start for example in examples)
    ids = torch.full((len(examples), width), policy.tokenizer.pad_token_id)
    labels = torch.full((len(examples), width), -100)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    for row, example in enumerate(examples):
        end = len(example.token_ids)
        ids[row, :end] = torch.tensor(example.token_ids)
        labels[row, example.start : end] = ids[row, example.start : end]
        mask[row, :end] = 1
    output = policy.model(input_ids=ids, attention_mask=mask, logits_to_keep=width - first + 1)
    logits = output.logits[:, :-1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, labels[:, first:].flatten())
    (loss * weight).backward()
    return loss.item()
