"""Training on shared-prefix rows against padded rows, and against one dense attention mask.

    python benchmarks/speed/shared_prefix.py [--rounds 3]

Trees of context `full` in four shapes, with credit and loss as in training: one forward and
backward pass on one thread. The sides alternate in one process; padded rows get the best of several
micro-batch sizes. Shared-prefix rows ("packed" in the results) compute logits only at trained
positions; padded rows from the first trained position of a batch on, as in training, and on another
side ("lean") only at trained positions. Figures are minimum CPU seconds; the token ratio (tokens of
padded rows to tokens of shared-prefix rows) is the possible gain. Writes
`results/shared_prefix.json`.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from sesa_agent.agents import prefix_attention
from sesa_agent.agents.logprobs import MAX_LOGITS
from sesa_agent.agents.policy import Policy
from sesa_agent.agents.prefix_rows import share_prefixes
from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree, Turn
from sesa_agent.training.advantages import leaf_returns, trajectory_credit
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.losses import grpo_loss
from sesa_agent.training.micro_batches import computing_order, group_rows

RESULTS = Path(__file__).parents[2] / "results" / "shared_prefix.json"
SHAPES = {
    "early": (4, 2, 2, 1, 1, 1),
    "capped": (4, 4, 1, 1, 1, 1),
    "late": (1, 1, 2, 2, 2, 2),
    "at the start": (16, 1, 1, 1, 1, 1),
}
"""Number of children of every turn, by depth; each shape has 16 trajectories."""
VOCABULARY = 8192
SIZES: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
"""25 million weights."""
FEW_LOGITS = 2**22
"""A limit so low that padded rows compute logits only at trained positions, in chunks."""
ROWS_AT_ONCE = (4, 16)


@dataclass(frozen=True)
class Result:
    """CPU seconds for one shape, minimum over rounds."""

    shape: str
    prompt: int
    turn: int
    """Tokens of a turn and the observation after it; `prompt`: of the first prompt."""
    packed_tokens: int
    row_tokens: int
    token_ratio: float
    packed_s: float
    padded_s: float
    lean_s: float
    """Of padded rows with logits only at trained positions."""
    dense_s: float
    """With one dense mask over the shared-prefix sequence."""
    gain: float
    """Padded seconds by packed seconds."""
    share: float
    """The gain by the token ratio."""
    gain_over_lean: float
    gain_over_dense: float


def grow(
    shape: tuple[int, ...], prompt: int, turn: int, vocabulary: int = VOCABULARY
) -> TrajectoryTree:
    """A tree of random tokens; half of each turn is the response, half the observation."""
    rng = np.random.default_rng(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.integers(1, vocabulary, count).tolist())

    tree = TrajectoryTree(Task("sesa/Sokoban-v0", 0))
    level = [(ROOT, tokens(prompt))]
    for depth, num_children in enumerate(shape):
        below = []
        for parent, prompt_ids in level:
            for _ in range(num_children):
                response = tokens(turn // 2)
                is_last = depth == len(shape) - 1
                added = Turn(
                    "",
                    prompt_ids,
                    response,
                    (-1.0,) * len(response),
                    "",
                    "",
                    float(rng.normal()),
                    is_last,
                    False,
                )
                node = tree.add(parent, added)
                below.append((node, prompt_ids + response + tokens(turn - turn // 2)))
        level = below
    return tree


def update(policy: Policy, parts: list[Batch]) -> float:
    """Accumulate the gradients of all parts; returns CPU seconds."""
    policy.model.zero_grad()
    started = time.process_time()
    for part in parts:
        logprobs, entropy = policy.logprobs(part)
        part = replace(part, old_logprobs=logprobs.detach())
        grpo_loss(logprobs, entropy, part, LossConfig())[0].backward()
    return time.process_time() - started


def dense_inputs(packed: Any, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Inputs for transformers' own attention, which scores every pair of tokens."""
    inputs = prefix_attention.prefix_inputs(packed, device, dtype)
    mask = torch.zeros(len(packed), len(packed), dtype=torch.bool)
    for group in packed.groups:
        for own, path, num_before in zip(group.queries, group.keys, group.num_before, strict=True):
            for query, place in enumerate(own.tolist()):
                if query == 0 or place:  # the rest is padding
                    mask[place, path[: int(num_before) + query + 1]] = True
    del inputs["runs"]
    return inputs | {"attention_mask": mask[None, None]}


def measure(name: str, prompt: int, turn: int, num_rounds: int) -> Result:
    """Measure all sides alternately on one shape."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **SIZES))
    policy = Policy(model, None)
    tree = grow(SHAPES[name], prompt, turn)
    batch = collate([tree], [trajectory_credit(tree, leaf_returns(tree, 0.0), LossConfig())], 0)
    packed = share_prefixes(batch.token_ids, batch.attention_mask)
    dense = dense_inputs(packed, torch.device("cpu"), torch.float32)
    plain_inputs = prefix_attention.prefix_inputs

    def run_dense() -> float:
        prefix_attention.prefix_inputs = lambda *_: dense  # pyright: ignore
        seconds = update(policy, [batch])
        prefix_attention.prefix_inputs = plain_inputs
        return seconds

    def run_padded(rows_at_once: int, max_logits: int = MAX_LOGITS) -> float:
        policy.padding_reason, policy.max_logits = "this side is padded", max_logits
        rows = group_rows(batch, rows_at_once * batch.token_ids.shape[1], computing_order(batch))
        seconds = update(policy, [batch.select(part) for part in rows])
        policy.padding_reason, policy.max_logits = "", MAX_LOGITS
        return seconds

    sides: dict[str, Callable[[], float]] = {
        "packed": lambda: update(policy, [batch]),
        "dense": run_dense,
        "lean": lambda: run_padded(16, FEW_LOGITS),
        **{f"padded {n}": lambda n=n: run_padded(n) for n in ROWS_AT_ONCE},
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(num_rounds):
        for side, run in sides.items():
            seconds[side].append(run())
    least = {side: min(values) for side, values in seconds.items()}
    padded = min(value for side, value in least.items() if side.startswith("padded"))
    ratio = int(batch.attention_mask.sum()) / len(packed)
    return Result(
        shape=name,
        prompt=prompt,
        turn=turn,
        packed_tokens=len(packed),
        row_tokens=int(batch.attention_mask.sum()),
        token_ratio=round(ratio, 3),
        packed_s=round(least["packed"], 3),
        padded_s=round(padded, 3),
        lean_s=round(least["lean"], 3),
        dense_s=round(least["dense"], 3),
        gain=round(padded / least["packed"], 3),
        share=round(padded / least["packed"] / ratio, 3),
        gain_over_lean=round(least["lean"] / least["packed"], 3),
        gain_over_dense=round(least["dense"] / least["packed"], 3),
    )


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--rounds", type=int, default=3)
    num_rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cases = [(name, 100, 16) for name in SHAPES] + [("early", 200, 30)]
    results = [measure(*case, num_rounds) for case in cases]
    table = Table(
        "shape", "tokens", "token ratio", "gain", "gain / ratio", "over lean", "over mask"
    )
    for r in results:
        shown = (r.token_ratio, r.gain, r.share, r.gain_over_lean, r.gain_over_dense)
        tokens = f"{r.prompt} + 6 x {r.turn}"
        table.add_row(r.shape, tokens, *(f"{value:.2f}" for value in shown))
    Console().print(table)
    machine = {"torch": version("torch"), "transformers": version("transformers")}
    machine |= {"machine": platform.machine(), "rounds": num_rounds}
    record = {"measured_with": machine, "results": [asdict(result) for result in results]}
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
