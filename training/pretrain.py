"""Makes the bundled model: next-token training on the play of scripted, short-sighted players.

The players (`environments/players.py`) follow a habit, make a random move now and then, and a good
one rarely. The model sees their games through the very prompts that it will be asked with, and
lists of distinct proposals through the "propose another one" prompt. `sesa-agent pretrain` runs the
recipe, with the same result on the same machine.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..agents.bundled import build_model, build_tokenizer
from ..agents.chat import ChatFormat
from ..agents.engine import Completion
from ..agents.policy import Policy
from ..agents.prompts import SEPARATOR, SYSTEM, PromptStyle, propose_another
from ..environments import make_env
from ..environments.players import PLAYERS, ScriptedPlayer
from ..sampling.dialogue import Dialogue, Position, prompt_style
from ..sampling.seeds import puzzle_seeds
from ..sampling.trajectory import Task


@dataclass(frozen=True)
class Example:
    """A prompt, its response, and from where on the tokens are learnt."""

    token_ids: tuple[int, ...]
    start: int
    """First token to be predicted: the first listed proposal, or the first of the response."""


@dataclass(frozen=True)
class Course:
    """What the model is to learn of one environment."""

    env_id: str
    options: dict[str, Any]
    num_proposals: int
    """Longest list of distinct proposals."""
    num_puzzles: int
    batch_size: int
    """Examples of a training step."""
    max_turns: int = 10


COURSES = (
    Course("sesa/Sokoban-v0", {}, 4, 4000, 96),
    Course("sesa/FrozenLake-v0", {}, 4, 3000, 48),
    Course("sesa/Countdown-v0", {"max_number": 20}, 8, 20000, 64, max_turns=1),
    Course("sesa/Sudoku-v0", {}, 6, 2000, 48, max_turns=12),
)
"""All four games, at the difficulty that `configs/` trains them at."""


@dataclass(frozen=True)
class PretrainConfig:
    """How the bundled model is made."""

    steps: int = 800
    lr: float = 4e-3
    hidden_size: int = 64
    num_layers: int = 3
    list_share: float = 0.5
    """Share of examples that ask for another proposal."""
    seed: int = 0


def pretrain(
    folder: Path,
    cfg: PretrainConfig,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Policy:
    """Train the bundled model from scratch and write it to `folder`.

    Args:
        folder: where the model goes, in Hugging Face format.
        cfg: the recipe's numbers.
        report: called after every step with its number and its loss in nats per response token.
    """
    rng = random.Random(cfg.seed)
    tokenizer = build_tokenizer(phrases())
    policy = Policy(build_model(tokenizer, cfg.hidden_size, cfg.num_layers, cfg.seed), tokenizer)
    chat = ChatFormat(tokenizer)
    examples = [list(play_course(course, chat, cfg.list_share, rng)) for course in COURSES]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=cfg.lr, betas=(0.9, 0.95))
    for step in range(cfg.steps):
        warm_up = min(1.0, 8 * (step + 1) / cfg.steps)
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))
        optimizer.param_groups[0]["lr"] = cfg.lr * warm_up * decay
        loss = 0.0
        # Examples of one course are nearly of one length: a batch per course wastes no padding.
        for course, known in zip(COURSES, examples, strict=True):
            batch = rng.choices(known, k=course.batch_size)
            loss += _backward(policy, batch) / len(COURSES)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        report(step + 1, loss)
    policy.save(folder)
    return policy


def phrases() -> Iterator[str]:
    """Texts that are one token each: all fixed words of prompts and answers."""
    yield from ("<think>", "</think>", "<answer>", "</answer>", SEPARATOR, "√", SYSTEM)
    for thinking in (False, True):
        yield PromptStyle("", "", "", thinking=thinking).request()
    head, tail = propose_another(["|"]).split("|")
    yield from (head, "; ", tail, "Turn ", ":\nState:\n", "\nYou have ", " actions left. ")
    yield from ("Reward: ", "Numbers: ", "\nTarget: ", " + ", " - ", ", ")
    for course in COURSES:
        for options in (course.options, *_variants(course.env_id)):
            style = prompt_style(make_env(course.env_id, **options))
            yield from style.rules().splitlines(keepends=True)
    yield from ("Up", "Down", "Left", "Right")


def _variants(env_id: str) -> list[dict[str, Any]]:
    """Settings with other instructions, whose words are worth a token too."""
    if "FrozenLake" in env_id:
        return [{"slippery": False}]
    return [{"answer": "grid"}] if "Sudoku" in env_id else []


def play_course(
    course: Course, chat: ChatFormat, list_share: float, rng: random.Random
) -> Iterator[Example]:
    """Examples from every state that a scripted player passes through."""
    player = PLAYERS[course.env_id]
    dialogue = Dialogue(lambda: make_env(course.env_id, **course.options), chat, course.max_turns)
    for seed in puzzle_seeds("pretraining", course.num_puzzles):
        position = dialogue.start(Task(course.env_id, seed))
        is_over = False
        while not is_over:
            game = position.env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
            moves = player.choose_distinct(game, rng, course.num_proposals)
            num_earlier = rng.randrange(1, len(moves)) if len(moves) > 1 else 0
            yield _example(dialogue, position, moves, 0)
            if num_earlier and rng.random() < list_share / (1 - list_share):
                yield _example(dialogue, position, moves, num_earlier)
            move = _wander(player, game, moves[0], rng)
            completion = Completion(f"<answer>{move}</answer>", (), (), "stop")
            turn, position = dialogue.play(position, completion, in_place=True)
            is_over = turn.terminated or turn.truncated


def _example(dialogue: Dialogue, position: Position, moves: list[str], place: int) -> Example:
    """The move at a place of the list, asked for with the earlier ones in view."""
    tokenizer = dialogue.chat.tokenizer
    answer = f"<answer>{moves[place]}</answer>{tokenizer.eos_token}"
    prompt = dialogue.proposal_prompt(position, moves[:place])
    response = tuple(tokenizer.encode(answer, add_special_tokens=False))
    # The list itself is play too: its items are drawn as the responses are.
    shared = len(position.prompt_ids) - len(dialogue.chat.tail_ids) + 1
    return Example(prompt + response, shared if place else len(prompt))


def _wander(player: ScriptedPlayer, game: Any, move: str, rng: random.Random) -> str:
    """Play more widely than the player would, so that the model knows the states around."""
    way = rng.random()
    if way < 0.3:
        return player.expert(game, rng) or move
    return (player.anything(game, rng) or move) if way < 0.5 else move


def _backward(policy: Policy, examples: list[Example]) -> float:
    """Add the gradients of the mean token loss; return that loss in nats."""
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
    (loss / len(COURSES)).backward()
    return loss.item()
