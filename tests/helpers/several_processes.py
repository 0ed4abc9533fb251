"""What torchrun starts for `test_distributed.py`: updates on given trees, and whole runs.

Every process writes its results to a file; the test compares them with one another and with a
single process.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from sesa_agent.agents.logprobs import MAX_LOGITS
from sesa_agent.agents.sharding import whole
from sesa_agent.configs.load import config_from_dict
from sesa_agent.configs.schema import Config
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.training.distributed import own_block, rank, start_processes
from sesa_agent.training.optimizer import parameters_of
from sesa_agent.training.progress import Progress
from sesa_agent.training.rollout import rollout, step_player
from sesa_agent.training.setup import (
    build_dialogue,
    build_engine,
    build_policy,
    build_reference,
)
from sesa_agent.training.update import Learner, build_optimizer

from .runs import is_time, run

NUM_UPDATES = 2
STOP_AFTER = 2
UPDATES = {
    "tree": ("sesa", "loss.entropy_coef=0.01", "loss.kl_coef=0.01"),
    "rollouts": ("ragen", "sampling.max_trajectories=6"),
    "tokens chosen over the batch": ("ragen", "loss.exploration=kl_cov"),
    "groups chosen over the batch": ("ragen", "loss.filter_ratio=0.5"),
    "entropy measured over the batch": ("sesa", "loss.exploration=adaptive_entropy"),
    # Of a minibatch of one row nothing is left for the second process.
    "no rows for a process": ("sesa", "optim.num_minibatches=100"),
    "small micro-batches": ("sesa", "optim.max_batch_tokens=300"),
    # Of rows that are computed one by one, so that rounding is the same however they are dealt.
    "float32 copies": ("sesa", "model.dtype=bfloat16", "optim.max_batch_tokens=1"),
    "lora": ("sesa", "model.lora_rank=2"),
    "one step, not scored before": ("sesa", "optim.num_epochs=1", "optim.num_minibatches=1"),
}
TASKS = ("sampling.num_tasks=6", "optim.num_epochs=2", "optim.warmup_steps=0", "optim.lr=1e-4")


def grow(cfg):
    """Draw the trees of a step in a single process."""
    policy = build_policy(cfg)
    return rollout(
        cfg, 0, step_player(cfg, 0, build_engine(cfg, policy), build_dialogue(cfg, policy))
    ).played


def update(
    cfg: Config, trees: list[TrajectoryTree], max_logits: int = MAX_LOGITS
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Update on the trees a few times; return the trained weights and the metrics.

    Every process updates on its share of the trees.
    """
    policy = build_policy(cfg)
    policy.max_logits = max_logits
    reference = build_reference(cfg, policy) if cfg.loss.kl_coef else None
    optimizer = build_optimizer(policy, cfg.optim)
    learner = Learner(policy, optimizer, reference)
    own = own_trees(trees)
    metrics = [learner.update(own, cfg, Progress(step=n)) for n in range(NUM_UPDATES)]
    weights = enumerate(parameters_of(optimizer))
    return {str(n): whole(weight.detach()) for n, weight in weights}, metrics


def check_learned(cfg: Config, weights: dict[str, Tensor]) -> None:
    """The trained weights are not those that an update begins with."""
    before = build_policy(cfg).parameters()
    pairs = zip(before, weights.values(), strict=True)
    assert max((old.float() - new).abs().max() for old, new in pairs) > 1e-4


def own_trees(trees: list[TrajectoryTree]) -> list[TrajectoryTree]:
    """Those that this process would have sampled."""
    return [trees[place] for place in own_block(len(trees))]


def read_case(path: Path) -> tuple[Config, list[TrajectoryTree]]:
    """The settings of a case, and its trees."""
    case = json.loads(path.read_text())
    return config_from_dict(case["config"]), [TrajectoryTree.from_json(t) for t in case["trees"]]


def watched_run(cfg: Config, folder: Path, stop_after: int = 0) -> list[dict[str, Any]]:
    """Train; return the metrics that this process saw at every step."""
    shown: list[dict[str, Any]] = []

    def watch(progress, metrics):
        shown.append({name: v for name, v in metrics.items() if not is_time(name)})
        return progress.step == stop_after and rank() == 1  # one process is enough

    policy = run(cfg, folder, watch)
    weights = {name: weight.contiguous() for name, weight in policy.weights()}
    save_file(weights, folder.with_name(f"{folder.name}-{rank()}.safetensors"))
    return shown


def refuse(values: Any) -> TrajectoryTree:
    raise AssertionError("a process reads trees that another has sampled")


def main(folder: Path) -> None:
    """Do all cases of a folder, and the runs if it has settings for them."""
    torch.set_num_threads(1)
    cases = sorted(folder.glob("case-*.json"))
    start_processes(read_case(cases[0])[0])
    results: dict[str, Any] = {}
    for path in cases:
        weights, results[path.stem] = update(*read_case(path))
        save_file(weights, folder / f"{path.stem}-{rank()}.safetensors")
    if (folder / "config.yaml").exists():
        cfg = config_from_dict(yaml.safe_load((folder / "config.yaml").read_text()))
        TrajectoryTree.from_json = refuse  # pyright: ignore[reportAttributeAccessIssue]
        results["whole"] = watched_run(cfg, folder / "whole")
        results["stopped"] = watched_run(cfg, folder / "stopped", STOP_AFTER)
        results["stopped"] += watched_run(cfg, folder / "stopped")
    (folder / f"results-{rank()}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
