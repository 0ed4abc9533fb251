"""Processes that hold a model together, for `test_sharding.py`.

They are forked from one that has imported everything, with the environment that torchrun would give
them. `python -m tests.helpers.sharded FOLDER STAGE` does what `asked.json` of a folder asks.
"""

import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.speed.peak_memory import peak_bytes, reset_peak
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.logprobs import MAX_LOGITS
from sesa_agent.agents.policy import Policy
from sesa_agent.agents.sharding import own_part, whole
from sesa_agent.configs.schema import Config
from sesa_agent.training import distributed
from sesa_agent.training.checkpoint import latest_checkpoint, save_checkpoint
from sesa_agent.training.distributed import rank, start_processes
from sesa_agent.training.progress import Progress
from sesa_agent.training.setup import build_policy, build_reference
from sesa_agent.training.update import Learner, build_optimizer

from .several_processes import own_trees, read_case, update

PARAMS = SamplingParams(max_new_tokens=6, seed=3)


def run_together(num: int, work: Callable[[], None]) -> list[int]:
    """Do work in `num` processes of torchrun's environment; return their exit codes."""
    return [wait(child) for child in fork(num, work)]


def fork(num: int, work: Callable[[], None]) -> list[int]:
    """Start the processes; returns their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(num):
        child = os.fork()
        if child == 0:
            os.environ |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(number),
                "LOCAL_RANK": str(number),
                "WORLD_SIZE": str(num),
                "LOCAL_WORLD_SIZE": str(num),
                "TORCHELASTIC_RUN_ID": "test",
            }
            try:
                work()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return children


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write_updates(folder: Path, names: list[str], shard: int = 0) -> None:
    """Update on the trees of some cases; write weights and metrics of this process."""
    for name in names:
        cfg, trees = read_case(folder / f"case-{name}.json")
        weights, metrics = update(cfg, trees, max_logits(name))
        stem = f"{name}-{dist.get_world_size()}-{shard}"
        save_file(weights, folder / f"{stem}-{rank()}.safetensors")
        (folder / f"{stem}-{rank()}.json").write_text(json.dumps(metrics))


def max_logits(name: str) -> int:
    """Few in the cases that must compute logits in chunks."""
    return 3000 if "chunks" in name else MAX_LOGITS


def whole_weights(policy: Policy) -> dict[str, Tensor]:
    named = policy.model.named_parameters()
    return {name: whole(weight.detach()).clone() for name, weight in named}


def make_learner(cfg: Config, checkpoint: Path | None = None) -> Learner:
    policy = build_policy(cfg, str(checkpoint / "model") if checkpoint else "")
    reference = build_reference(cfg, policy) if cfg.loss.kl_coef else None
    return Learner(policy, build_optimizer(policy, cfg.optim, checkpoint), reference)


def share_held(learner: Learner) -> float:
    """This process's share of all numbers of weights and of moments."""
    weights = list(learner.policy.model.parameters())
    states = learner.optimizer.state.values()
    moments = [value for state in states for value in state.values() if value.ndim]
    assert len(moments) == 2 * len(learner.policy.parameters())
    numbers = [*weights, *moments]
    return sum(own_part(n).numel() for n in numbers) / sum(n.numel() for n in numbers)


def save_and_go_on(folder: Path, name: str) -> None:
    """Update, save a checkpoint and a model for others, and update again."""
    cfg, trees = read_case(folder / f"case-{name}.json")
    learner = make_learner(cfg)
    learner.update(own_trees(trees), cfg, Progress(step=0))
    save_step(folder / f"run-{name}", learner, 1)
    learner.policy.save(folder / f"export-{name}")
    saved = whole_weights(learner.policy)
    share = share_held(learner)
    learner.update(own_trees(trees), cfg, Progress(step=1))
    after = whole_weights(learner.policy)
    if rank() == 0:
        save_file(saved, folder / f"saved-{name}.safetensors")
        save_file(after, folder / f"after-{name}.safetensors")
    (folder / f"share-{name}-{rank()}.json").write_text(json.dumps(share))


def save_step(run: Path, learner: Learner, step: int, keep: int = 2) -> None:
    save_checkpoint(
        run,
        save_model=learner.policy.save_parts,
        optimizer=learner.optimizer,
        state=vars(Progress(step=step)),
        keep=keep,
    )


def load_and_go_on(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Load the checkpoint and update; return the weights before and after it."""
    cfg, trees = read_case(folder / f"case-{name}.json")
    checkpoint = latest_checkpoint(folder / f"run-{name}", repair=True)
    assert checkpoint is not None
    learner = make_learner(cfg, checkpoint)
    loaded = whole_weights(learner.policy)
    learner.update(own_trees(trees), cfg, Progress(step=1))
    return loaded, whole_weights(learner.policy)


def write_loaded(folder: Path, names: list[str]) -> None:
    for name in names:
        loaded, after = load_and_go_on(folder, name)
        if rank() == 0:
            num = dist.get_world_size()
            save_file(loaded, folder / f"loaded-{name}-{num}.safetensors")
            save_file(after, folder / f"went-on-{name}-{num}.safetensors")


def write_samples(folder: Path, name: str) -> None:
    """Generate with the trainer's own model, each process another number of prompts."""
    cfg, _ = read_case(folder / f"case-{name}.json")
    policy = build_policy(cfg)
    before = whole_weights(policy)
    engine = HFEngine(policy)
    engine.load_weights(policy)
    found = engine.generate([[5, 6, 7]] * (1 + rank()), PARAMS)
    engine.sleep()
    after = whole_weights(policy)
    assert all(torch.equal(before[key], after[key]) for key in before)
    texts: list[Any] = [completion.token_ids for completion in found]
    (folder / f"samples-{name}-{rank()}.json").write_text(json.dumps(texts))


def join(folder: Path, name: str, shard: int = 0) -> None:
    """Join the other processes; the trees are there, so any number of tasks will do."""
    cfg, _ = read_case(folder / f"case-{name}.json")
    sampling = replace(cfg.sampling, num_tasks=8)
    start_processes(replace(cfg, sampling=sampling, optim=replace(cfg.optim, shard=shard)))


def two(folder: Path) -> None:
    asked = json.loads((folder / "asked.json").read_text())
    join(folder, asked["two"][0])
    write_updates(folder, asked["two"])
    for name in asked["saved"]:
        save_and_go_on(folder, name)
    write_loaded(folder, asked["loaded"])
    for name in asked["samples"]:
        write_samples(folder, name)
    reshape(folder, asked["copies"], shard=1)


def four(folder: Path) -> None:
    asked = json.loads((folder / "asked.json").read_text())
    join(folder, asked["four"][0])
    write_updates(folder, asked["four"])
    write_loaded(folder, asked["loaded"])
    reshape(folder, asked["four"], shard=2)


def reshape(folder: Path, names: list[str], shard: int) -> None:
    """Do the updates again with copies of the weights."""
    dist.destroy_process_group()
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    join(folder, names[0], shard)
    mesh = distributed.weights_mesh()
    assert mesh is not None and mesh.size(-1) == shard
    write_updates(folder, names, shard)


def kills(folder: Path) -> None:
    """Kill both processes while they save without pause, 20 times, and load what is there."""
    name = json.loads((folder / "asked.json").read_text())["saved"][0]
    cfg, trees = read_case(folder / f"case-{name}.json")
    run = folder / "killed"

    def save_on() -> None:
        start_processes(cfg)
        checkpoint = latest_checkpoint(run)
        learner = make_learner(cfg, checkpoint)
        learner.update(own_trees(trees), cfg, Progress(step=0))
        step = int(checkpoint.name[-6:]) if checkpoint else 0
        while True:
            step += 1
            save_step(run, learner, step, keep=1)

    steps = [0]
    for attempt in range(20):
        children = fork(2, save_on)
        while latest_name(run) <= f"step-{steps[-1]:06d}":
            time.sleep(0.002)
        time.sleep(0.007 * attempt)
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            wait(child)
        checkpoint = latest_checkpoint(run, repair=True)
        assert checkpoint is not None
        make_learner(cfg, checkpoint)
        steps.append(int(checkpoint.name[-6:]))
    assert not list((run / "checkpoints").glob("*.damaged*"))
    (folder / "kills.json").write_text(json.dumps(steps))


def hand_over(folder: Path) -> None:
    """Note how many bytes it takes above rest to pass all weights of a large model on."""
    cfg, _ = read_case(next(folder.glob("case-*.json")))
    join(folder, next(folder.glob("case-*.json")).stem.removeprefix("case-"))
    config = AutoConfig.from_pretrained(cfg.model.path)
    config.update({"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 6})
    config.update({"vocab_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 8})
    config.head_dim = 64
    model = AutoModelForCausalLM.from_config(config)
    size = sum(4 * weight.numel() for weight in model.parameters())
    policy = Policy(model, None)
    mesh = distributed.weights_mesh()
    assert mesh is not None and 270e6 < size < 300e6, size
    policy.split(mesh)
    policy.ask_head()
    gc.collect()
    reset_peak()
    before = peak_bytes()
    num = sum(4 * weight.numel() for _, weight in policy.weights())
    assert num == size
    if rank() == 0:
        (folder / "memory.json").write_text(json.dumps(peak_bytes() - before))


def latest_name(run: Path) -> str:
    found = (run / "checkpoints").glob("step-*")
    return max((path.name for path in found), default="")


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, stage = Path(sys.argv[1]), sys.argv[2]
    if stage == "kills":
        kills(place)
    else:
        num, work = {"two": (2, two), "four": (4, four), "hand over": (2, hand_over)}[stage]
        sys.exit(max(run_together(num, lambda: work(place))))
