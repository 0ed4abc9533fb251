"""A small game and a player for it, so that samplers are tested without a model."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Discrete, Space

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import Completion, SamplingParams, Usage
from sesa_agent.environments import TextEnv, make_env
from sesa_agent.environments.text_env import TextGame, TextSpec
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.training.pretraining.tiny_model import build_tokenizer

MOVES = ("Left", "Right", "Jump", "Rest")
WORDS = (*(f"<answer>{move}</answer>" for move in MOVES), "<answer>", "</answer>", " || ")
TOKENIZER = build_tokenizer([*WORDS, "Already proposed: ", "Propose a different answer."])
CHAT = ChatFormat(TOKENIZER)


class LineGame(TextGame[int]):
    """Seven cells in a row, start at 3: cell 0 is a pit (lost, -1), cell 6 the goal (won, 1).

    Left and Right go one cell, Jump goes two cells to the right (no further than the goal), Rest is
    against the rules.
    """

    text_spec = TextSpec("Reach the goal.", "", ", ".join(MOVES))
    observation_space = Discrete(7)
    action_space = cast(Space[int], Discrete(len(MOVES)))

    def __init__(self, is_deterministic: bool = True):
        self.is_deterministic = is_deterministic
        self.cell = 3

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 3
        return self.cell, {}

    def step(self, action):
        before = self.cell
        self.cell = min(self.cell + (-1, 1, 2, 0)[action], 6)
        reward = {0: -1.0, 6: 1.0}.get(self.cell, 0.0)
        info = {"success": self.cell == 6, "legal": self.cell != before}
        return self.cell, reward, self.cell in (0, 6), False, info

    def to_text(self):
        return f"You are at {self.cell}."

    def read_action(self, text):
        readings = {move.lower(): (move, number) for number, move in enumerate(MOVES)}
        return readings.get(text.strip().lower())

    def fork(self):
        twin = LineGame(self.is_deterministic)
        twin.cell = self.cell
        return twin

    def state_key(self):
        return self.cell


def line_dialogue(
    max_steps: int = 10, deterministic: bool = True, chat: ChatFormat = CHAT, **options: Any
) -> Dialogue:
    return Dialogue(lambda: TextEnv(LineGame(deterministic), max_steps), chat, **options)


def sokoban_dialogue(**options: Any) -> Dialogue:
    return Dialogue(lambda: make_env("sesa/Sokoban-v0"), CHAT, **options)


def lake_dialogue(slippery: bool, **options: Any) -> Dialogue:
    return Dialogue(lambda: make_env("sesa/FrozenLake-v0", slippery=slippery), CHAT, **options)


@dataclass(frozen=True)
class Call:
    """One call of `generate`."""

    prompts: list[tuple[int, ...]]
    params: SamplingParams
    excluded: list[list[Completion]]

    @property
    def texts(self) -> list[str]:
        return [TOKENIZER.decode(prompt) for prompt in self.prompts]


@dataclass
class RecordingEngine:
    """Remembers every call and answers by `choose(prompt text, random numbers of the row)`.

    As in `HFEngine`, a row's random numbers follow from the call's seed and the row's place. Every
    response claims to have the same probability.
    """

    choose: Callable[[str, random.Random], str]
    probability: float = 0.5
    calls: list[Call] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        call = Call([tuple(p) for p in prompts], params, [list(e) for e in excluded or []])
        self.calls.append(call)
        completions = []
        for row, text in enumerate(call.texts):
            reply = self.choose(text, random.Random(f"{params.seed} {row}"))
            ids = tuple(TOKENIZER.encode(reply, add_special_tokens=False))
            logprobs = (math.log(self.probability) / max(len(ids), 1),) * len(ids)
            completions.append(Completion(reply, ids, logprobs, "stop", logprobs))
        self.usage.add(prompts, completions)
        return completions

    def load_weights(self, policy: Any) -> None:
        """A recording has no weights."""

    def sleep(self) -> None:
        """It needs no memory."""


@dataclass
class StreamingEngine(RecordingEngine):
    """Answers request by request, in an order that `order` shuffles."""

    order: random.Random = field(default_factory=lambda: random.Random(0))
    open: dict[str, Completion] = field(default_factory=dict)
    num_open: list[int] = field(default_factory=list)
    """Requests that were open at each step."""

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        seed: int,
        excluded: Sequence[Completion] = (),
    ) -> str:
        name = str(self.usage.calls)
        self.open[name] = self.generate([prompt], replace(params, seed=seed), [excluded])[0]
        return name

    def step(self) -> list[tuple[str, Completion]]:
        self.num_open.append(len(self.open))
        names = self.order.sample(sorted(self.open), self.order.randint(1, len(self.open)))
        return [(name, self.open.pop(name)) for name in names]


def answers(*moves: str) -> Callable[[str, random.Random], str]:
    """Answer the first of `moves` that the prompt does not name as proposed."""

    def choose(prompt: str, _: random.Random) -> str:
        proposed = prompt.rpartition("Already proposed: ")[2] if "Already" in prompt else ""
        return next((f"<answer>{move}</answer>" for move in moves if move not in proposed), "none")

    return choose


def in_order(*replies: str) -> Callable[[str, random.Random], str]:
    """Answer with these replies in order, one per row."""
    left = iter(replies)
    return lambda prompt, _: next(left)


def at_random(*actions: str, nonsense: float = 0.1) -> Callable[[str, random.Random], str]:
    """Answer with a random action, sometimes with unreadable text."""

    def choose(_: str, numbers: random.Random) -> str:
        if numbers.random() < nonsense:
            return numbers.choice(["", "Up", "<answer></answer>", "<answer>fly</answer>"])
        return f"<answer>{numbers.choice(actions)}</answer>"

    return choose


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
