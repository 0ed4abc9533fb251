"""Trees and rollouts request by request, for engines that need not answer all at once.

A decision's next proposal is asked for the moment the one before has ended, a tree's next layer the
moment its own is done, and a rollout's next turn likewise: nothing waits for the slowest response
of all trees, so the engine's batch stays full. Within a tree a layer is still a layer, since the
cap is split over its open nodes (`allocate_widths`) and states are merged in their order. Every
decision has random numbers of its own: what is drawn does not depend on which request ends first.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import numpy as np

from ..agents.engines.base import Completion, EngineError, SamplingParams, StreamEngine
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, Position
from .proposer import Decision, accept, next_request
from .trajectory import ROOT, Task, TrajectoryTree, Turn
from .tree import GrowingTree, decide, expand, start_tree

Found = TypeVar("Found")


class Stream:
    """Lets coroutines wait for responses of one engine.

    Args:
        engine: answers them.
        params: how all of them are drawn.
    """

    def __init__(self, engine: StreamEngine, params: SamplingParams):
        self.engine = engine
        self.params = params
        self._waiting: dict[str, asyncio.Future[Completion]] = {}

    async def draw(
        self,
        prompt: Sequence[int],
        rng: np.random.Generator,
        excluded: Sequence[Completion] = (),
    ) -> Completion:
        """Draw one response, while others are being drawn."""
        name = self.engine.submit(prompt, self.params, int(rng.integers(2**62)), excluded)
        self._waiting[name] = asyncio.get_running_loop().create_future()
        return await self._waiting[name]

    def run(self, *jobs: Awaitable[Found]) -> list[Found]:
        """Run the coroutines to their ends.

        Raises:
            EngineError: if the engine fails.
        """
        return asyncio.run(self._run(jobs))

    async def _run(self, jobs: Sequence[Awaitable[Found]]) -> list[Found]:
        results = asyncio.gather(*jobs)
        try:
            while not results.done():
                await asyncio.sleep(0)  # whoever can go on does, and asks for more
                if self._waiting:
                    for name, completion in self.engine.step():
                        self._waiting.pop(name).set_result(completion)
        except EngineError:
            results.cancel()
            await asyncio.gather(results, return_exceptions=True)  # all coroutines end in order
            raise
        return await results


def stream_trees(
    tasks: Sequence[Task],
    engine: StreamEngine,
    dialogue: Dialogue,
    cfg: SamplingConfig,
    params: SamplingParams,
    rng: np.random.Generator,
) -> list[TrajectoryTree]:
    """Grow one tree per task; args and returns are those of `grow_trees`."""
    stream = Stream(engine, params)
    jobs = [_grow(task, stream, dialogue, cfg, own) for task, own in _split(tasks, rng)]
    return stream.run(*jobs)


def stream_parallel(
    tasks: Sequence[Task],
    engine: StreamEngine,
    dialogue: Dialogue,
    cfg: SamplingConfig,
    params: SamplingParams,
    rng: np.random.Generator,
) -> list[TrajectoryTree]:
    """Play independent episodes of every task; args and returns are those of `sample_parallel`."""
    stream = Stream(engine, params)
    jobs = [_play_group(task, stream, dialogue, cfg, own) for task, own in _split(tasks, rng)]
    return stream.run(*jobs)


async def _grow(
    task: Task, stream: Stream, dialogue: Dialogue, cfg: SamplingConfig, rng: np.random.Generator
) -> TrajectoryTree:
    growth: GrowingTree = start_tree(task, dialogue, cfg)
    for depth in range(dialogue.max_turns):
        decisions = decide(growth, depth, dialogue.max_turns, cfg, rng)
        if not decisions:
            break
        await asyncio.gather(
            *(
                _fill(decision, stream, dialogue, cfg, own)
                for decision, own in _split(decisions, rng)
            )
        )
        expand(growth, decisions, dialogue, cfg, rng)
    return growth.tree


async def _fill(
    decision: Decision,
    stream: Stream,
    dialogue: Dialogue,
    cfg: SamplingConfig,
    rng: np.random.Generator,
) -> None:
    """Fill a decision with up to `width` distinct actions, as `propose` does."""
    if cfg.proposer == "independent":
        prompt = decision.position.prompt_ids
        draws = (stream.draw(prompt, own) for _, own in _split(range(decision.width), rng))
        for completion in await asyncio.gather(*draws):
            accept(decision, completion, dialogue.read(decision.position, completion.text))
        return
    while len(decision.proposals) < decision.width:
        request = next_request(dialogue, decision, cfg.proposer)
        decision.num_cut_prompts += request.is_cut
        excluded = list(decision.proposals) if cfg.proposer == "without_replacement" else []
        for _ in range(cfg.max_retries + 1):
            completion = await stream.draw(request.prompt_ids, rng, excluded)
            if accept(decision, completion, dialogue.read(decision.position, completion.text)):
                break
            excluded.append(completion)
        else:
            return  # it repeats itself: fewer actions than wanted


async def _play_group(
    task: Task, stream: Stream, dialogue: Dialogue, cfg: SamplingConfig, rng: np.random.Generator
) -> TrajectoryTree:
    tree = TrajectoryTree(task)
    start = dialogue.open(tree)
    if start is None:
        return tree
    episodes = []
    for member, own in _split(range(cfg.max_trajectories), rng):
        independent = cfg.fork_noise == "independent" and member > 0
        noise = int(own.integers(2**31)) if independent else None
        episodes.append(_play_episode(start, noise, stream, dialogue, own))
    for turns in await asyncio.gather(*episodes):
        node = ROOT
        for turn in turns:
            node = tree.add(node, turn)
        tree.num_calls += len(turns)
    return tree


async def _play_episode(
    position: Position,
    noise: int | None,
    stream: Stream,
    dialogue: Dialogue,
    rng: np.random.Generator,
) -> list[Turn]:
    """Play on from a start that others play on from as well."""
    turns: list[Turn] = []
    while not turns or not (turns[-1].terminated or turns[-1].truncated):
        completion = await stream.draw(position.prompt_ids, rng)
        is_own = bool(turns)
        turn, position = dialogue.play(position, completion, in_place=is_own, noise=noise)
        turns.append(turn)
    return turns


def _split(
    items: Sequence[Found], rng: np.random.Generator
) -> list[tuple[Found, np.random.Generator]]:
    """Give each item random numbers of its own."""
    seeds = rng.integers(2**62, size=len(items)).tolist()
    return [(item, np.random.default_rng(seed)) for item, seed in zip(items, seeds, strict=True)]
