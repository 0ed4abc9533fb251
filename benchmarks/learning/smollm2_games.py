"""Trains a real small language model on a CPU: its answers before and after.

    python benchmarks/learning/smollm2_games.py [--steps 8]

SmolLM2-135M-Instruct never answers in the required format, so it has no success to learn from. So
it is first fine-tuned on a few moves of the scripted players that the bundled models were trained
on (`training/pretraining/courses.py`), then trained with `sesa-agent train ... engine.name=vllm` in
bfloat16. Writes `results/smollm2.md`. Needs `make vllm`, `make smollm` and 20 minutes.
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.fetched import fetched_folder
from sesa_agent.agents.policy import Policy
from sesa_agent.agents.prompts import STOP
from sesa_agent.configs.load import load_config
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.pretraining.courses import GameCourse
from sesa_agent.training.pretraining.recipes import add_gradients

PAGE = Path(__file__).parents[2] / "results" / "smollm2.md"
WORK = Path("runs/smollm2")
COURSES = {
    "sokoban": GameCourse("sesa/Sokoban-v0", {}, 4, 60, 4),
    "countdown": GameCourse("sesa/Countdown-v0", {"max_number": 20}, 4, 300, 4, max_turns=1),
}
SETTINGS = (
    "engine.name=vllm",
    "engine.max_new_tokens=20",
    "engine.max_prompt_tokens=500",
    "engine.max_batch_tokens=4096",
    "optim.max_batch_tokens=2048",
    "optim.lr=2e-5",
    "optim.warmup_steps=0",
    "optim.num_epochs=1",
    "sampling.num_tasks=8",
    "sampling.max_trajectories=6",
    "env.max_turns=4",
    "eval.episodes=32",
    "eval.final_episodes=64",
    "model.dtype=bfloat16",
    "eval.every=100",
    "model.device=cpu",
)
LESSONS, LEARNING_RATE = 12, 1e-4
SHOWN = (
    "eval/success_rate",
    "rollout/success_rate",
    "rollout/signal_groups",
    "rollout/readable_rate",
    "rollout/legal_rate",
    "rollout/actions_per_decision",
    "rollout/response_tokens",
    "gap/engine_max",
    "train/entropy",
    "time/rollout_s",
    "time/learn_s",
)


def show_moves(env: str, start: Path, folder: Path) -> None:
    """Fine-tune the model on some moves, and save it to a folder."""
    rng, course = random.Random(0), COURSES[env]
    policy = Policy.load(str(start), device="cpu")
    examples = list(course.examples(ChatFormat(policy.tokenizer), rng))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=LEARNING_RATE)
    for _ in range(LESSONS):
        add_gradients(policy, rng.sample(examples, course.batch_size), 1.0)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    policy.save(folder)


def first_answers(env: str, folder: Path, num_puzzles: int = 4) -> tuple[list[str], list[str]]:
    """The first observations of held-out puzzles, and a model's answers at T = .5."""
    cfg = load_config(env)
    policy = Policy.load(str(folder), device="cpu", temperature=0.5)
    dialogue = Dialogue(
        lambda: make_env(cfg.env.id, **cfg.env.options), ChatFormat(policy.tokenizer)
    )
    seeds = dialogue.evaluation_seeds("test", num_puzzles)
    starts = [dialogue.start(Task(cfg.env.id, seed)) for seed in seeds]
    boards = [dialogue.make().reset(seed=seed)[0] for seed in seeds]
    params = SamplingParams(temperature=0.5, max_new_tokens=32, stop=(STOP,))
    said = HFEngine(policy).generate([start.prompt_ids for start in starts], params)
    return boards, [completion.text for completion in said]


def train(env: str, method: str, model: Path, steps: int) -> tuple[Path, list[dict[str, float]]]:
    """Train with the command line; return the run folder and its metrics."""
    run = WORK / f"{env}-{method}"
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "sesa_agent", "train", "--env", env, "--method", method]
    command += ["--model", str(model), "--steps", str(steps), "--output", str(run), *SETTINGS]
    subprocess.run(command, check=True)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return run, [json.loads(line) for line in lines]


def metrics_table(lines: list[dict[str, float]]) -> Iterable[str]:
    """One row per metric, one column per step."""
    yield "| | " + " | ".join(str(round(line["step"])) for line in lines) + " |"
    yield "|---" * (len(lines) + 1) + "|"
    for name in SHOWN:
        if any(name in line for line in lines):
            cells = (f"{line[name]:.3g}" if name in line else "" for line in lines)
            yield f"| `{name}` | " + " | ".join(cells) + " |"


def section(env: str, method: str, steps: int, base: Path) -> Iterable[str]:
    """One game: the metrics, and the answers before and after."""
    taught = WORK / f"{env}-taught"
    if not taught.exists():
        show_moves(env, base, taught)
    run, lines = train(env, method, taught, steps)
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    stages = {"as it is": base, "after the moves": taught, "trained": checkpoint / "model"}
    yield f"\n## {env}, {method}\n"
    settings = " ".join(SETTINGS)
    yield (
        f"`sesa-agent train --env {env} --method {method} --model FOLDER --steps {steps} "
        f"{settings}`\n"
    )
    yield from metrics_table(lines)
    boards, _ = first_answers(env, base)
    answers = {name: first_answers(env, folder)[1] for name, folder in stages.items()}
    for row, board in enumerate(boards):
        yield f"\n```\n{board}\n```\n"
        yield from (f"- {name}: `{json.dumps(said[row])}`" for name, said in answers.items())


def main() -> None:
    """Run both games and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=10)
    steps = parser.parse_args().steps
    base = fetched_folder("smollm2")
    if not base.is_dir():
        raise SystemExit("SmolLM2-135M is missing: run make smollm first.")
    text = [
        "# SmolLM2-135M-Instruct in Sokoban and Countdown, on two CPU cores",
        "",
        f"`python benchmarks/learning/smollm2_games.py --steps {steps}`: bfloat16, vLLM as the "
        f"engine, {LESSONS * 4} moves of scripted players shown first. {steps} steps of 8 puzzles "
        "are far too few to become good; the page shows that a real model goes through every part.",
    ]
    for env, method in (("sokoban", "sesa"), ("countdown", "sesa")):
        text += section(env, method, steps, base)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        text.append(f"\nPeak memory of training so far: {peak:.1f} GiB.")
        PAGE.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
