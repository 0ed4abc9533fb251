"""Plays games by asking a language model: what every sampler works with.

A sampler is an async function `(tasks, player, cfg) -> trees`. Where it needs a response it awaits
`player.ask(prompt)`; what need not wait for each other it awaits `together(...)`. `Player.run`
drives the coroutine and answers its requests in the way that suits the engine:

* An engine that generates batches answers all open requests in one call, once every branch of the
  sampler waits for one.
* A `StreamEngine` starts each request at once and resumes its branch when that response ends, so
  nothing waits for the slowest response. Then each task, and each item of `split`, has random
  numbers of its own: what is sampled does not depend on which response ends first.

Nothing runs in parallel, and no event loop is needed (a notebook already runs one).
"""

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..agents.engines.base import Completion, Engine, SamplingParams, StreamEngine
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, Position
from .trajectory import Task, TrajectoryTree, Turn

Item = TypeVar("Item")
Sample = Callable[[Sequence[Task], "Player", SamplingConfig], Awaitable[list[TrajectoryTree]]]
"""The function of a sampler: one tree for each task."""
Phase = Callable[[str], AbstractContextManager[None]]
"""Times what happens inside, by name."""


def untimed(name: str) -> AbstractContextManager[None]:
    """Time nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Player:
    """An engine, the dialogue that it plays, and the random numbers of both.

    Args:
        engine: generates responses.
        dialogue: writes prompts, reads responses and plays them.
        params: how responses are sampled; the seed is replaced by one from `rng`.
        rng: all random numbers of a rollout.
        phase: told when time goes to "generate" and to "environment".
    """

    engine: Engine
    dialogue: Dialogue
    params: SamplingParams
    rng: np.random.Generator
    phase: Phase = untimed

    @property
    def is_streaming(self) -> bool:
        """Whether responses end one by one."""
        return isinstance(self.engine, StreamEngine)

    async def ask(
        self, prompt_ids: Sequence[int], excluded: Sequence[Completion] = ()
    ) -> Completion:
        """Sample one response.

        Args:
            prompt_ids: the prompt.
            excluded: completions of the very same prompt that must not be sampled again.
        """
        return await _Request(self, prompt_ids, list(excluded))

    def open(self, tree: TrajectoryTree) -> Position | None:
        """Open the puzzle of a tree; see `Dialogue.open`."""
        with self.phase("environment"):
            return self.dialogue.open(tree)

    def read(self, position: Position, response: str) -> str | None:
        """The canonical action of a response; see `Dialogue.read`."""
        with self.phase("environment"):
            return self.dialogue.read(position, response)

    def play(
        self,
        position: Position,
        completion: Completion,
        proposal_index: int = 0,
        in_place: bool = False,
        noise: int | None = None,
    ) -> tuple[Turn, Position]:
        """Play a response; see `Dialogue.play`."""
        with self.phase("environment"):
            return self.dialogue.play(position, completion, proposal_index, in_place, noise)

    def with_params(self, **changes: Any) -> "Player":
        """A player that samples otherwise, as in `with_params(max_new_tokens=8)`."""
        return replace(self, params=replace(self.params, **changes))

    def split(self, items: Sequence[Item]) -> list[tuple[Item, "Player"]]:
        """Pair each item with the player for it: with one that has its own rng, when streaming."""
        if not self.is_streaming:
            return [(item, self) for item in items]
        seeds = self.rng.integers(2**62, size=len(items)).tolist()
        players = [replace(self, rng=np.random.default_rng(seed)) for seed in seeds]
        return list(zip(items, players, strict=True))

    def run(
        self, sample: Sample, tasks: Sequence[Task], cfg: SamplingConfig
    ) -> list[TrajectoryTree]:
        """Run a sampler on all tasks.

        Raises:
            EngineError: if the engine fails.
        """
        return self.drive(_sample_all(sample, tasks, self, cfg))

    def drive(self, work: Awaitable[Item]) -> Item:
        """Run anything that asks, to its end."""
        return _Run(self, work).finish()


async def together(*branches: Awaitable[Item]) -> list[Item]:
    """Await several things at once; returns their results in this order."""
    return await _Fork(branches) if branches else []


def reseeded(params: SamplingParams, rng: np.random.Generator) -> SamplingParams:
    """The same parameters with the next seed."""
    return replace(params, seed=int(rng.integers(2**62)))


async def _sample_all(
    sample: Sample, tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """All tasks at once, or each by itself when streaming, so that no tree waits for another."""
    if not player.is_streaming:
        return await sample(tasks, player, cfg)
    trees = await together(*(sample([task], own, cfg) for task, own in player.split(tasks)))
    return [tree for (tree,) in trees]


class _Wait:
    """What a coroutine hands to its `_Run` when it has to wait."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)


@dataclass(eq=False)
class _Request(_Wait):
    player: Player
    prompt_ids: Sequence[int]
    excluded: list[Completion]


@dataclass(eq=False)
class _Fork(_Wait):
    branches: Sequence[Awaitable[Any]]


@dataclass(eq=False)
class _Branch:
    """A coroutine that is under way."""

    steps: Generator[Any, Any, Any]
    parent: "_Branch | None" = None
    """The branch that awaits it."""
    place: int = 0
    """Its place among the branches that `parent` awaits."""
    num_open: int = 0
    """Branches that it awaits itself, and their results."""
    results: list[Any] | None = None


class _Run:
    """Drives a coroutine, and those that it awaits, to the end.

    Args:
        player: whose engine answers.
        work: the coroutine.
    """

    def __init__(self, player: Player, work: Awaitable[Any]):
        self.player = player
        self.root = _Branch(work.__await__())
        self.ready: deque[tuple[_Branch, Any]] = deque([(self.root, None)])
        self.open: dict[_Branch, None] = {self.root: None}  # a set that keeps the order
        self.asked: list[tuple[_Branch, _Request]] = []
        self.started: dict[str, _Branch] = {}

    def finish(self) -> Any:
        """Return the result of the coroutine; if anything raises, close all branches."""
        try:
            while self.root in self.open:
                self._advance()
                if self.asked or self.started:
                    self._answer()
            return self.root.results
        finally:
            for branch in reversed(self.open):
                branch.steps.close()

    def _advance(self) -> None:
        """Let every branch go on that can."""
        while self.ready:
            branch, value = self.ready.popleft()
            try:
                wait = branch.steps.send(value)
            except StopIteration as end:
                self._end(branch, end.value)
                continue
            if isinstance(wait, _Request):
                self.asked.append((branch, wait))
            else:
                self._fork(branch, wait)

    def _fork(self, branch: _Branch, fork: _Fork) -> None:
        branch.num_open, branch.results = len(fork.branches), [None] * len(fork.branches)
        for place, work in enumerate(fork.branches):
            child = _Branch(work.__await__(), branch, place)
            self.open[child] = None
            self.ready.append((child, None))

    def _end(self, branch: _Branch, result: Any) -> None:
        del self.open[branch]
        parent = branch.parent
        if parent is None:
            branch.results = result
            return
        assert parent.results is not None
        parent.results[branch.place] = result
        parent.num_open -= 1
        if parent.num_open == 0:
            self.ready.append((parent, parent.results))

    def _answer(self) -> None:
        asked, self.asked = self.asked, []
        with self.player.phase("generate"):
            if isinstance(self.player.engine, StreamEngine):
                self._stream(self.player.engine, asked)
            else:
                self._generate(asked)

    def _generate(self, asked: Sequence[tuple[_Branch, _Request]]) -> None:
        """Answer all requests, in one call for each way of sampling."""
        groups: dict[SamplingParams, list[tuple[_Branch, _Request]]] = {}
        for branch, request in asked:
            groups.setdefault(request.player.params, []).append((branch, request))
        for params, group in groups.items():
            completions = self.player.engine.generate(
                [request.prompt_ids for _, request in group],
                reseeded(params, self.player.rng),
                [request.excluded for _, request in group],
            )
            branches = [branch for branch, _ in group]
            self.ready.extend(zip(branches, completions, strict=True))

    def _stream(self, engine: StreamEngine, asked: Sequence[tuple[_Branch, _Request]]) -> None:
        """Start the new requests, and wait until some response has ended."""
        for branch, request in asked:
            player = request.player
            seed = int(player.rng.integers(2**62))
            name = engine.submit(request.prompt_ids, player.params, seed, request.excluded)
            self.started[name] = branch
        for name, completion in engine.step():
            self.ready.append((self.started.pop(name), completion))
