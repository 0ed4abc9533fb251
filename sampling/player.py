"""Plays games with a language model: the interface that all samplers are written against.

A sampler is an async function `(tasks, player, cfg) -> trees`. It awaits `player.ask(prompt)` for a
response, and `together(...)` for branches that can proceed independently. `Player.run` drives the
coroutine and answers its requests as suits the engine:

* A batch engine answers all pending requests in one call, once every branch waits for one.
* An environment in worker processes is played in threads, so that branches wait for it together:
  `play`, `open` and `read` are awaited too. Any other environment is played at once.
* A `StreamEngine` starts each request at once, and its branch resumes when that response ends, so
  nothing waits for the slowest response. Each task, and each item of `split`, then has its own
  random numbers, so results do not depend on the order in which responses end.

The branches run in one thread, without an event loop (a notebook already runs one).
"""

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..agents.engines.base import (
    Completion,
    DistinctEngine,
    Engine,
    SamplingParams,
    StreamEngine,
)
from ..configs.errors import SettingError
from ..configs.schema import SamplingConfig
from ..environments import EnvError
from ..environments.workers.pool import WorkerPool
from .dialogue import Dialogue, Position
from .trajectory import Task, TrajectoryTree, Turn

Item = TypeVar("Item")
Sample = Callable[[Sequence[Task], "Player", SamplingConfig], Awaitable[list[TrajectoryTree]]]
"""A sampler's function; it returns one tree per task."""
Phase = Callable[[str], AbstractContextManager[None]]
"""Makes a context that is timed under the given name."""


def untimed(name: str) -> AbstractContextManager[None]:
    """Do not measure time."""
    return nullcontext()


@dataclass(frozen=True)
class Player:
    """An engine, the dialogue it plays, and the random numbers of a rollout.

    Args:
        engine: generates responses.
        dialogue: writes prompts, reads responses and plays them.
        params: sampling parameters; the seed is replaced by one from `rng`.
        rng: source of all random numbers of a rollout.
        phase: times "generate" and "environment".
    """

    engine: Engine
    dialogue: Dialogue
    params: SamplingParams
    rng: np.random.Generator
    phase: Phase = untimed

    @property
    def is_streaming(self) -> bool:
        """Whether the engine returns responses one by one."""
        return isinstance(self.engine, StreamEngine)

    async def ask(
        self, prompt_ids: Sequence[int], excluded: Sequence[Completion] = ()
    ) -> Completion:
        """Sample one response.

        Args:
            prompt_ids: the prompt.
            excluded: completions of the same prompt that must not be sampled again.
        """
        return await _Request(self, prompt_ids, list(excluded))

    @property
    def draws_distinct(self) -> bool:
        """Whether the engine draws several different responses to a prompt in one pass."""
        return isinstance(self.engine, DistinctEngine)

    async def ask_distinct(
        self, prompt_ids: Sequence[int], count: int, excluded: Sequence[Completion] = ()
    ) -> list[Completion]:
        """Draw up to `count` different responses without replacement; needs `draws_distinct`.

        Args:
            prompt_ids: the prompt.
            count: at least 1.
            excluded: completions of the same prompt that must not be drawn again.

        Returns:
            The responses in the order in which they would be drawn one after another.
        """
        return await _Request(self, prompt_ids, list(excluded), count)

    async def open(self, tree: TrajectoryTree) -> Position | None:
        """Open a tree's puzzle. If the environment fails, store the error in the tree."""
        try:
            outcome = await self._call(partial(self.dialogue.reset, tree.task))
        # A SettingError too: the settings were valid at startup, so the environment failed.
        except (EnvError, SettingError) as error:
            tree.error = str(error)
            return None
        with self.phase("environment"):
            return self.dialogue.first_position(outcome)

    async def read(self, position: Position, completion: Completion) -> str | None:
        """The canonical action of a response; see `Dialogue.read`."""
        return await self._call(partial(self.dialogue.read, position, completion))

    async def play(
        self,
        position: Position,
        completion: Completion,
        proposal_index: int = 0,
        in_place: bool = False,
        noise: int | None = None,
    ) -> tuple[Turn, Position]:
        """Play a response; see `Dialogue.play`."""
        outcome = await self._call(
            partial(self.dialogue.step, position, completion, in_place, noise)
        )
        with self.phase("environment"):
            return self.dialogue.record(position, completion, outcome, proposal_index)

    async def _call(self, call: Callable[[], Item]) -> Item:
        """Make a call into an environment: at once, or in a thread if it is in a worker."""
        if self.dialogue.pool is not None:
            return await _Call(call)
        with self.phase("environment"):
            return call()

    async def each(self, calls: Sequence[Awaitable[Item]]) -> list[Item]:
        """Await several `play`, `open` or `read`: in worker processes together, else in order."""
        if self.dialogue.pool is not None:
            return await together(*calls)
        return [await call for call in calls]

    def with_params(self, **changes: Any) -> "Player":
        """A copy with other sampling parameters, as in `with_params(max_new_tokens=8)`."""
        return replace(self, params=replace(self.params, **changes))

    def split(self, items: Sequence[Item]) -> list[tuple[Item, "Player"]]:
        """Pair each item with a player, which has its own rng if the engine streams."""
        if not self.is_streaming:
            return [(item, self) for item in items]
        seeds = self.rng.integers(2**62, size=len(items)).tolist()
        players = [replace(self, rng=np.random.default_rng(seed)) for seed in seeds]
        return list(zip(items, players, strict=True))

    def run(
        self, sample: Sample, tasks: Sequence[Task], cfg: SamplingConfig
    ) -> list[TrajectoryTree]:
        """Run a sampler on all tasks, and close the environments.

        Raises:
            EngineError: if the engine fails.
        """
        try:
            return self.drive(_sample_all(sample, tasks, self, cfg))
        finally:
            self.dialogue.release()

    def drive(self, work: Awaitable[Item]) -> Item:
        """Run a coroutine that calls `ask` to its end; return its result."""
        return _Run(self, work).finish()


async def together(*branches: Awaitable[Item]) -> list[Item]:
    """Await several coroutines at once; return their results in order."""
    return await _Fork(branches) if branches else []


def reseeded(params: SamplingParams, rng: np.random.Generator) -> SamplingParams:
    """The same parameters with the next seed."""
    return replace(params, seed=int(rng.integers(2**62)))


async def _sample_all(
    sample: Sample, tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Sample all tasks together, or each separately when streaming, so no tree waits for others."""
    if not player.is_streaming:
        return await sample(tasks, player, cfg)
    trees = await together(*(sample([task], own, cfg) for task, own in player.split(tasks)))
    return [tree for (tree,) in trees]


class _Wait:
    """What a coroutine yields to its `_Run` when it has to wait."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)


@dataclass(eq=False)
class _Request(_Wait):
    player: Player
    prompt_ids: Sequence[int]
    excluded: list[Completion]
    count: int = 0
    """Different responses wanted, as a list; 0 for a single response."""


@dataclass(eq=False)
class _Call(_Wait):
    call: Callable[[], Any]


@dataclass(eq=False)
class _Fork(_Wait):
    branches: Sequence[Awaitable[Any]]


@dataclass(eq=False)
class _Branch:
    """A running coroutine."""

    steps: Generator[Any, Any, Any]
    parent: "_Branch | None" = None
    """The branch that awaits this one."""
    place: int = 0
    """Index among the branches that `parent` awaits."""
    num_open: int = 0
    """Awaited branches that have not ended."""
    results: list[Any] | None = None
    """Results of the awaited branches; for the root, its own result at the end."""


@dataclass(frozen=True)
class _Raised:
    """What a call raised, to be raised in the branch that waits for it."""

    error: BaseException


class _Run:
    """Drives a coroutine and its branches to the end.

    Args:
        player: its engine answers the requests.
        work: the coroutine.
    """

    def __init__(self, player: Player, work: Awaitable[Any]):
        self.player = player
        self.root = _Branch(work.__await__())
        self.ready: deque[tuple[_Branch, Any]] = deque([(self.root, None)])
        self.open: dict[_Branch, None] = {self.root: None}  # an ordered set
        self.asked: list[tuple[_Branch, _Request]] = []
        self.started: dict[str, _Branch] = {}
        self.called: dict[Future[Any], _Branch] = {}

    def finish(self) -> Any:
        """Return the result of the coroutine; if anything raises, close all branches."""
        try:
            while self.root in self.open:
                self._advance()
                if self.player.is_streaming and (self.asked or self.started):
                    self._answer()
                    self._collect(timeout=0.0)
                elif self.called:
                    self._collect()
                elif self.asked:
                    self._answer()
            return self.root.results
        finally:
            for branch in reversed(self.open):
                branch.steps.close()
            if self.called:
                self._abandon()

    def _advance(self) -> None:
        """Advance every branch until it waits or ends."""
        while self.ready:
            branch, value = self.ready.popleft()
            try:
                if isinstance(value, _Raised):
                    waits_for = branch.steps.throw(value.error)
                else:
                    waits_for = branch.steps.send(value)
            except StopIteration as end:
                self._end(branch, end.value)
                continue
            if isinstance(waits_for, _Request):
                self.asked.append((branch, waits_for))
            elif isinstance(waits_for, _Call):
                self.called[self._pool.submit(waits_for.call)] = branch
            else:
                self._fork(branch, waits_for)

    @property
    def _pool(self) -> WorkerPool:
        pool = self.player.dialogue.pool
        assert pool is not None, "only calls into worker processes are waited for"
        return pool

    def _collect(self, timeout: float | None = None) -> None:
        """Wait for calls into environments.

        A stream waits for one of them. Otherwise all are waited for, because the engine waits too;
        so the order of requests, and with it their random numbers, is that of the calls.
        """
        with self.player.phase("environment"):
            until = FIRST_COMPLETED if self.player.is_streaming else ALL_COMPLETED
            done = wait(self.called, timeout, until).done if self.called else ()
        for future in [future for future in self.called if future in done]:
            branch, error = self.called.pop(future), future.exception()
            self.ready.append((branch, _Raised(error) if error else future.result()))

    def _abandon(self) -> None:
        """Stop the calls that are under way."""
        for future in self.called:
            future.cancel()
        self._pool.kill()
        wait(self.called)

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
        """Answer all requests, with one call per distinct sampling parameters."""
        groups: dict[tuple[SamplingParams, bool], list[tuple[_Branch, _Request]]] = {}
        for branch, request in asked:
            key = request.player.params, request.count > 0
            groups.setdefault(key, []).append((branch, request))
        for (params, is_distinct), group in groups.items():
            prompts = [request.prompt_ids for _, request in group]
            params, engine = reseeded(params, self.player.rng), self.player.engine
            excluded = [request.excluded for _, request in group]
            if is_distinct:
                assert isinstance(engine, DistinctEngine)
                counts = [request.count for _, request in group]
                answers: list[Any] = engine.generate_distinct(prompts, counts, params, excluded)
            else:
                answers = engine.generate(prompts, params, excluded)
            branches = [branch for branch, _ in group]
            self.ready.extend(zip(branches, answers, strict=True))

    def _stream(self, engine: StreamEngine, asked: Sequence[tuple[_Branch, _Request]]) -> None:
        """Start the new requests and wait until at least one response has ended."""
        for branch, request in asked:
            player = request.player
            seed = int(player.rng.integers(2**62))
            name = engine.submit(request.prompt_ids, player.params, seed, request.excluded)
            self.started[name] = branch
        for name, completion in engine.step():
            self.ready.append((self.started.pop(name), completion))
