"""How the cost of a step grows with the cap U, the depth, the number of trees and the model.

    python benchmarks/speed/scaling.py [--rounds 2]

Real rollouts in Sokoban with the bundled model. The trees neither merge states nor stop at a
success, so that cap and depth determine their size; the context is `state`, where every turn is a
row of its own, or `full`, where a turn continues its parent's row. The update is `learn` with one
pass and one optimizer step, on shared-prefix ("packed") and on padded rows. Models of other sizes
are random Llamas, which answer the same calls with as many tokens and are updated on the same
trees.

The cases alternate in one process on one thread; figures are minimum CPU seconds over rounds. The
last row is the exponent with which the seconds grow with the work, between the two largest cases of
a kind: 1 is linear. Work is the number of turns in the trees, or of weights in the model. Writes
`results/scaling.json`.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from engines import NotingEngine
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.agents.prefix_rows import share_prefixes
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.training.advantages import leaf_returns, trajectory_credit
from sesa_agent.training.batch import collate
from sesa_agent.training.micro_batches import merge_equal_rows
from sesa_agent.training.progress import Progress
from sesa_agent.training.rollout import rollout, step_player
from sesa_agent.training.setup import build_dialogue, build_policy, resolve_auto
from sesa_agent.training.update import Learner, build_optimizer

RESULTS = Path(__file__).parents[2] / "results" / "scaling.json"
SETTINGS = (
    "model.device=cpu",
    "env.options.max_steps=100",
    "sampling.merge_states=off",
    "sampling.stop_on_success=off",
    "loss.credit=trajectory",
    "loss.entropy_coef=0.001",  # trains on every turn
    "optim.num_epochs=1",
    "optim.num_minibatches=1",
    "optim.lr=1e-12",  # the same policy in every round
)
BASE = {"trees": 2, "U": 8, "depth": 6}
VALUES = {"U": (4, 8, 16, 32), "depth": (2, 4, 8, 16), "trees": (1, 2, 4, 8)}
SMALL = {"trees": 2, "U": 4, "depth": 4}
"""Size of the trees for models of other sizes."""
SIZES = ((96, 2), (192, 4), (320, 5), (512, 8))
"""Width and number of layers: .3 to 25 million weights."""
RESPONSE_TOKENS = 3
"""Tokens of an action of the bundled model."""


@dataclass(frozen=True)
class Case:
    """A case of one size, and what is timed."""

    kind: str
    """What grows: U, depth, trees or model."""
    context: str
    size: float
    """The cap, the number of turns or of trees, or millions of weights."""
    work: float
    """The number of turns or of weights."""
    num_trajectories: int
    num_turns: int
    row_tokens: int
    """Tokens in the rows of an update, without duplicate rows."""
    packed_tokens: int
    ways: dict[str, Callable[[], Any]]
    seconds: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Minimum CPU seconds of a case."""

    kind: str
    context: str
    size: float
    num_trajectories: int
    num_turns: int
    row_tokens: int
    packed_tokens: int
    rollout_s: float
    packed_s: float
    """Seconds of an update on shared-prefix rows."""
    padded_s: float
    gain: float
    """Padded seconds by packed seconds."""
    step_ms: float
    """Rollout and update on shared-prefix rows, per trajectory."""


def make_config(context: str, trees: int, U: int, depth: int) -> Config:  # noqa: N803
    """The settings of a run with trees of this shape."""
    shape = (f"sampling.num_tasks={trees}", f"sampling.max_trajectories={U}")
    words = (*SETTINGS, *shape, f"env.max_turns={depth}", f"model.context={context}")
    return resolve_auto(load_config("sokoban", "sesa", list(words)))


def count_tokens(trees: Sequence[TrajectoryTree], cfg: Config) -> tuple[int, int]:
    """Tokens in the rows of an update, padded and shared-prefix."""
    credits = [trajectory_credit(tree, leaf_returns(tree, 0.0), cfg.loss) for tree in trees]
    batch = merge_equal_rows(collate(trees, credits, 0, keep_zero_advantage=True))
    packed = share_prefixes(batch.token_ids, batch.attention_mask)
    return int(batch.attention_mask.sum()), len(packed)


def updates(
    policy: Policy, trees: list[TrajectoryTree], cfg: Config
) -> dict[str, Callable[[], Any]]:
    """One update, on shared-prefix and on padded rows."""
    optimizer = build_optimizer(policy, cfg.optim)

    def update(padding_reason: str) -> None:
        policy.padding_reason = padding_reason
        Learner(policy, optimizer).update(trees, cfg, Progress())

    return {"packed": lambda: update(""), "padded": lambda: update("this side is padded")}


def make_case(
    kind: str, context: str, size: float, work: float, trees: list[TrajectoryTree], **rest: Any
) -> Case:
    """A case with the counts of its trees."""
    num_trajectories, num_turns = sum(len(t.leaves()) for t in trees), sum(map(len, trees))
    return Case(kind, context, size, work or num_turns, num_trajectories, num_turns, **rest)


def draw_trees(cfg: Config, engine: HFEngine, dialogue: Dialogue) -> list[TrajectoryTree]:
    """The rollout of a step; clears the cache for the next one."""
    trees = rollout(cfg, 0, step_player(cfg, 0, engine, dialogue)).trees
    engine.sleep()
    return trees


def tree_cases(context: str) -> Iterator[Case]:
    """Cases of growing trees, with the bundled model."""
    for kind, sizes in VALUES.items():
        for size in sizes:
            cfg = make_config(context, **{**BASE, kind: size})
            policy = build_policy(cfg)
            dialogue, engine = build_dialogue(cfg, policy), HFEngine(policy)
            draw = partial(draw_trees, cfg, engine, dialogue)
            trees = draw()
            row_tokens, packed_tokens = count_tokens(trees, cfg)
            yield make_case(
                kind,
                context,
                size,
                0,
                trees,
                row_tokens=row_tokens,
                packed_tokens=packed_tokens,
                ways={"rollout": draw, **updates(policy, trees, cfg)},
            )


def model_cases(context: str) -> Iterator[Case]:
    """Cases of growing models, with the calls and trees of the bundled one."""
    cfg = make_config(context, **SMALL)
    bundled = build_policy(cfg)
    noting = NotingEngine(bundled)
    trees = rollout(cfg, 0, step_player(cfg, 0, noting, build_dialogue(cfg, bundled))).trees
    row_tokens, packed_tokens = count_tokens(trees, cfg)
    params = SamplingParams(max_new_tokens=RESPONSE_TOKENS)
    for width, num_layers in SIZES:
        policy = random_policy(width, num_layers, bundled.tokenizer)
        engine = HFEngine(policy)

        def answer(engine: HFEngine = engine) -> None:
            for call in noting.calls:
                engine.generate(call.prompts, params)

        num_weights = sum(weight.numel() for weight in policy.parameters())
        yield make_case(
            "model",
            context,
            round(num_weights / 1e6, 2),
            num_weights,
            trees,
            row_tokens=row_tokens,
            packed_tokens=packed_tokens,
            ways={"rollout": answer, **updates(policy, trees, cfg)},
        )


def random_policy(width: int, num_layers: int, tokenizer: Any) -> Policy:
    """A Llama with random weights and the vocabulary of the bundled model."""
    torch.manual_seed(0)
    heads = width // 32
    shape = LlamaConfig(
        vocab_size=300,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=num_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
    )
    return Policy(LlamaForCausalLM(shape), tokenizer)


def measure(cases: Sequence[Case], num_rounds: int) -> list[Result]:
    """Measure all cases alternately; each has run once before."""
    for _ in range(num_rounds):
        for case in cases:
            for name, way in case.ways.items():
                start = time.process_time()
                way()
                case.seconds.setdefault(name, []).append(time.process_time() - start)
    return [summarise(case) for case in cases]


def summarise(case: Case) -> Result:
    """The minimum seconds of a case."""
    least = {name: min(seconds) for name, seconds in case.seconds.items()}
    step = least["rollout"] + least["packed"]
    return Result(
        kind=case.kind,
        context=case.context,
        size=case.size,
        num_trajectories=case.num_trajectories,
        num_turns=case.num_turns,
        row_tokens=case.row_tokens,
        packed_tokens=case.packed_tokens,
        rollout_s=round(least["rollout"], 4),
        packed_s=round(least["packed"], 4),
        padded_s=round(least["padded"], 4),
        gain=round(least["padded"] / least["packed"], 3),
        step_ms=round(1000 * step / case.num_trajectories, 2),
    )


def growth(cases: Sequence[Case]) -> dict[str, float]:
    """The exponent of the growth of seconds with work, between the two largest cases."""
    last, before = sorted(cases, key=lambda case: -case.work)[:2]
    return {
        name: round(
            math.log(min(last.seconds[name]) / min(before.seconds[name]))
            / math.log(last.work / before.work),
            2,
        )
        for name in last.ways
    }


def show(results: Sequence[Result], powers: dict[str, float]) -> Table:
    """A table of the cases of a kind; the last row has the exponents."""
    kind, context = results[0].kind, results[0].context
    names = ("leaves", "turns", "tokens", "rollout", "packed", "padded", "gain", "ms each")
    table = Table(
        kind, *names, title=f"context {context}: tokens by packed ones; CPU s, ms by leaf"
    )
    for r in results:
        tokens = f"{r.row_tokens / r.packed_tokens:.2f}"
        seconds = (f"{value:.3f}" for value in (r.rollout_s, r.packed_s, r.padded_s))
        counts = f"{r.size:g}", str(r.num_trajectories), str(r.num_turns)
        table.add_row(*counts, tokens, *seconds, f"{r.gain:.2f}x", f"{r.step_ms:.1f}")
    table.add_row("power", "", "", "", *(f"{power:.2f}" for power in powers.values()), "", "")
    return table


def main() -> None:
    """Measure, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    num_rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cases = [case for c in ("state", "full") for case in (*tree_cases(c), *model_cases(c))]
    results = measure(cases, num_rounds)
    growths = []
    for context in ("state", "full"):
        for kind in (*VALUES, "model"):
            of_kind = [case for case in cases if (case.context, case.kind) == (context, kind)]
            powers = growth(of_kind)
            growths.append({"kind": kind, "context": context, **powers})
            shown = [r for r in results if (r.context, r.kind) == (context, kind)]
            Console().print(show(shown, powers))
    setting = {name: version(name) for name in ("torch", "transformers")}
    setting |= {"python": platform.python_version(), "rounds": num_rounds}
    record = {"setting": setting, "growth": growths, "results": [asdict(r) for r in results]}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
