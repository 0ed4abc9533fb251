"""Speed of the engine against `generate` of transformers, on the requests of real rollouts.

    python benchmarks/speed/engines.py [--quick]

The requests of a rollout are recorded and answered again by both sides, which alternate in one
process on one thread; a figure is the median over rounds in CPU seconds, a ratio is the ratio of
two medians. `generate` gets the left-padded prompts of each call, generates as many tokens and
scores them. Our engine also excludes the earlier responses, which `generate` does not have to do.
Writes `results/engines.json`. The real small model comes from `make smollm`; without it its
contests are left out.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contest import coloured_ratio, take_turns, write_report
from rich.console import Console
from rich.table import Table

from sesa_agent.agents.engines.base import Completion, SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.fetched import fetched_folder
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import load_config
from sesa_agent.environments.splits import training_seeds
from sesa_agent.sampling import SAMPLERS
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.setup import (
    build_dialogue,
    build_policy,
    resolve_auto,
    sampling_params,
)

RESULTS = Path(__file__).parents[2] / "results" / "engines.json"
STOP = "</answer>"
NUM_CALLS = 6


@dataclass(frozen=True)
class Call:
    """One call of the engine."""

    prompts: list[tuple[int, ...]]
    excluded: list[list[Completion]] | None
    """For each prompt, responses that must not be sampled again."""


@dataclass(frozen=True)
class Contest:
    """Calls that both sides answer."""

    name: str
    policy: Policy
    calls: list[Call]
    max_new_tokens: int
    ends: bool
    """Whether responses end by themselves; otherwise all have `max_new_tokens`."""
    num_rounds: int
    target: float = 1.5
    """Minimum ratio of our speed to that of `generate`."""


@dataclass(frozen=True)
class Result:
    """CPU seconds for all calls, medians and all rounds."""

    name: str
    num_calls: int
    num_responses: int
    num_different: int
    """Number of distinct prompts per call, summed."""
    ours_s: float
    peer_s: float
    ratio: float
    target: float
    ours_rounds: list[float]
    peer_rounds: list[float]


class NotingEngine(HFEngine):
    """An engine that records every call."""

    def __init__(self, policy: Policy):
        super().__init__(policy)
        self.calls: list[Call] = []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        excluded: Sequence[Sequence[Completion]] | None = None,
    ) -> list[Completion]:
        """Record the call, then generate."""
        noted = [list(row) for row in excluded] if excluded else None
        self.calls.append(Call([tuple(prompt) for prompt in prompts], noted))
        return super().generate(prompts, params, excluded)


def rollout_contest(
    env: str, method: str, model: str, name: str, num_tasks: int, *settings: str, ends: bool
) -> Contest:
    """The first `NUM_CALLS` calls of a rollout of a method."""
    overrides = [f"model.path={model}", "model.device=cpu", *settings]
    cfg = resolve_auto(load_config(env, method, overrides))
    policy = build_policy(cfg)
    engine, params = NotingEngine(policy), sampling_params(cfg.engine)
    tasks = [Task(cfg.env.id, seed) for seed in training_seeds(0, 0, num_tasks)]
    sample = SAMPLERS[cfg.sampling.name].sample
    dialogue = build_dialogue(cfg, policy)
    Player(engine, dialogue, params, np.random.default_rng(0)).run(sample, tasks, cfg.sampling)
    num_rounds = 9 if ends else 3  # small models have short rounds
    return Contest(
        name, policy, engine.calls[:NUM_CALLS], cfg.engine.max_new_tokens, ends, num_rounds
    )


def answer_by_engine(contest: Contest) -> None:
    """Answer all calls with our engine."""
    engine = HFEngine(contest.policy)
    stop = (STOP,) if contest.ends else ()
    params = SamplingParams(max_new_tokens=contest.max_new_tokens, stop=stop)
    for call in contest.calls:
        engine.generate(call.prompts, params, call.excluded)


@torch.inference_mode()
def answer_by_generate(contest: Contest) -> None:
    """Answer all calls with `generate`, including log-probabilities and texts."""
    tokenizer: Any = contest.policy.tokenizer
    for call in contest.calls:
        width = max(map(len, call.prompts))
        rows = [{"input_ids": list(prompt)} for prompt in call.prompts]
        batch = tokenizer.pad(rows, padding_side="left", return_tensors="pt")
        output = contest.policy.model.generate(
            **batch,
            do_sample=True,
            top_k=0,
            max_new_tokens=contest.max_new_tokens,
            eos_token_id=end_ids(contest),
            pad_token_id=tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_scores=True,
        )
        contest.policy.model.compute_transition_scores(
            output.sequences, output.scores, normalize_logits=True
        )
        tokenizer.batch_decode(output.sequences[:, width:])


def end_ids(contest: Contest) -> list[int] | None:
    """Tokens that end a response; in the bundled models the stop string is one token."""
    tokenizer: Any = contest.policy.tokenizer
    if not contest.ends:
        return None
    stop = tokenizer.encode(STOP, add_special_tokens=False)
    assert len(stop) == 1, "generate is slow with stop strings, which would favour our engine"
    return [*stop, tokenizer.eos_token_id]


def never_end(policy: Policy) -> None:
    """Make both sides generate the maximum number of tokens."""
    policy.tokenizer.eos_token = None
    policy.model.generation_config.eos_token_id = None


def cpu_seconds(call: Callable[[], None]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def run(contest: Contest, quick: bool) -> Result:
    """Measure both sides alternately, after a warm-up round."""
    if not contest.ends:
        never_end(contest.policy)
    ours, peer = take_turns(
        lambda: cpu_seconds(lambda: answer_by_engine(contest)),
        lambda: cpu_seconds(lambda: answer_by_generate(contest)),
        2 if quick else contest.num_rounds + 1,
    )
    ours_median, peer_median = statistics.median(ours[1:]), statistics.median(peer[1:])
    return Result(
        contest.name,
        len(contest.calls),
        sum(len(call.prompts) for call in contest.calls),
        sum(len(set(call.prompts)) for call in contest.calls),
        ours_median,
        peer_median,
        peer_median / ours_median,
        contest.target,
        ours[1:],
        peer[1:],
    )


def contests(smollm2: Path | None) -> list[Callable[[], Contest]]:
    """All contests; each loads its model when it is called."""

    def bundled(env: str, method: str, model: str, name: str) -> Callable[[], Contest]:
        name = f"{model}, {name}"
        return lambda: rollout_contest(env, method, model, name, 24, ends=True)

    def smol(env: str, dtype: str) -> Callable[[], Contest]:
        name = f"SmolLM2-135M {dtype}, {env}: 24 puzzles, an answer each, one turn"
        settings = (f"model.dtype={dtype}", "env.max_turns=1", "sampling.max_trajectories=1")
        return lambda: rollout_contest(env, "ragen", str(smollm2), name, 24, *settings, ends=False)

    listed = [
        bundled("sokoban", "ragen", "sesa-tiny", "Sokoban: 24 puzzles, 16 episodes each, 6 turns"),
        bundled("sokoban", "sesa", "sesa-tiny", "Sokoban: trees of 24 puzzles, the first 6 calls"),
        bundled("sudoku", "ragen", "sesa-tiny-answers", "Sudoku: 24 puzzles, 16 answers each"),
    ]
    if smollm2:
        settings = (("sokoban", "bfloat16"), ("sokoban", "float32"), ("countdown", "bfloat16"))
        listed += [smol(*setting) for setting in settings]
    return listed


def show(results: list[Result]) -> Table:
    """A table of the results."""
    table = Table(
        "what", "responses (different prompts)", "ours CPU-s", "generate", "ratio", "wanted"
    )
    for result in results:
        counts = f"{result.num_responses} ({result.num_different})"
        times = f"{result.ours_s:.2f}", f"{result.peer_s:.2f}"
        ratio = coloured_ratio(result.ratio, result.target, ".2f")
        table.add_row(result.name, counts, *times, ratio, f"{result.target:.1f}x")
    return table


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round, no file")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    console = Console()
    smollm2 = fetched_folder("smollm2")
    if not smollm2.is_dir():
        console.print("SmolLM2-135M is missing; to measure it too, run make smollm.")
    results = []
    for make in contests(smollm2 if smollm2.is_dir() else None):
        results.append(run(make(), quick))
        console.print(show(results[-1:]))
    if not quick:
        write_report(RESULTS, results, ("torch", "transformers"))


if __name__ == "__main__":
    main()
