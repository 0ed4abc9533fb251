"""What a few minutes on one GPU can show: tests, the speed of an update, three games.

    python -m benchmarks.gpu_day --model FOLDER [--minutes 12] [--output results]

The most valuable comes first, and every part is written when it ends:

1. the tests that are marked `gpu`;
2. an update on shared-prefix rows against padded rows, in seconds and memory, with this model;
3. the same update with weights that FSDP2 has split, as under torchrun, against whole ones: one
   process holds the only part, so results must be equal, and what gathering costs shows;
4. `sesa` against `ragen` on Countries, Countdown and Sokoban (the games of `reproduce real-llm`),
   a hundred steps each from a warm start.

Where the time does not suffice, parts are missing or runs are shorter: the same command goes on
with them. FOLDER holds SmolLM2-135M-Instruct (`sesa-agent models fetch smollm2`) or a model like
it. vLLM generates where it is installed, else transformers (`--engine`). With transformers the two
runs of a game are side by side; vLLM measures the memory that it may take when it starts, so there
one run follows the other, and each pays for that start. Writes `gpu.md` and `gpu.json`.
"""

import argparse
import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from sesa_agent.commands.experiment_tables import markdown_table
from sesa_agent.evaluation.experiments.real_llm import COMMON, GAMES, LESSONS, SCALE
from sesa_agent.screen import show_number
from sesa_agent.training.run_log import read_metrics

from .speed.device_updates import compare_split, time_updates

ROOT = Path(__file__).parents[1]
METHODS = ("ragen", "sesa")
STEPS = 100
FOUND = {
    "countries": "eval/coverage_at_128",
    "countdown": "eval/pass_at_8",
    "sokoban": "eval/pass_at_4",
}
"""What repeated attempts find, by game, besides success."""
GPU_WORDS = {
    "countries": ("sampling.num_tasks=8",),
    "countdown": ("sampling.num_tasks=32",),
    "sokoban": ("sampling.num_tasks=16",),
}
"""A GPU has room for more groups than two cores."""
START_S = 60.0
"""What a run takes besides its steps: imports, the model, the engine, evaluations."""
STOP_S = 30.0
"""Seconds that a run has to save itself after Ctrl-C."""
TOY_WORDS = (
    "sampling.num_tasks=2",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=2",
    "engine.max_new_tokens=3",
    "env.max_turns=4",
    "eval.episodes=2",
    "optim.checkpoint_every=1",
)


@dataclass(frozen=True)
class Day:
    """What is run, and until when."""

    model: Path
    device: str
    engine: str
    work: Path
    """Folder of warm starts and runs."""
    output: Path
    """Folder of the results."""
    end: float
    """On the clock of `time.monotonic`."""
    is_toy: bool

    @property
    def seconds_left(self) -> float:
        """Until the end."""
        return self.end - time.monotonic()

    @property
    def games(self) -> list[str]:
        """The games that are played."""
        return ["sokoban"] if self.is_toy else list(GAMES)

    @property
    def steps(self) -> int:
        """Steps of a run; its last evaluation is before the hundredth."""
        return 1 if self.is_toy else STEPS

    def words(self, env: str) -> list[str]:
        """The settings of a game's runs."""
        own = (*GAMES[env].words, *GPU_WORDS[env], *COMMON)
        words = [*own, f"model.device={self.device}", f"engine.name={self.engine}"]
        words += ["optim.max_batch_tokens=32768", "engine.max_batch_tokens=131072"]
        words += ["loss.engine_importance_cap=2.0"] if self.engine == "vllm" else []
        words += ["eval.every=33", "optim.checkpoint_every=20", "optim.keep_checkpoints=1"]
        return [*words, "engine.memory_fraction=0.2", *(TOY_WORDS if self.is_toy else ())]


# ---- the tests ----


def gpu_tests() -> list[str]:
    """The files with tests that are marked `gpu`; collecting all others would take a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [path for path in files if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]
    return [path.relative_to(ROOT).as_posix() for path in marked]


def run_tests(day: Day) -> dict[str, Any]:
    """Run the tests that are marked `gpu`; returns pytest's last line, and how the others ended."""
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfE", "--tb=line", *gpu_tests()]
    try:
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, day.seconds_left / 4)
        )
    except subprocess.TimeoutExpired:
        return {"summary": "took too long", "failures": []}
    lines = (done.stdout or done.stderr).strip().splitlines()
    return {
        "summary": lines[-1].strip("= ") if lines else "pytest said nothing",
        "failures": [line for line in lines if line.startswith(("FAILED", "ERROR"))],
    }


# ---- the games ----


def warm_start(day: Day, env: str) -> Path:
    """The folder of a game's warm start."""
    return day.work / f"{env}-start"


def start_games(day: Day) -> None:
    """Teach the model the form of answers, for all games side by side."""
    commands = []
    for env in day.games:
        folder = warm_start(day, env)
        if (folder / "README.md").is_file():  # the card is written last
            continue
        shutil.rmtree(folder, ignore_errors=True)
        words = [word for word in GAMES[env].words if word.startswith("env.")]
        words += [f"model.device={day.device}", "engine.max_new_tokens=32"]
        words += TOY_WORDS[3:5] if day.is_toy else ()
        options = ["--lessons", "2" if day.is_toy else str(LESSONS)]
        options += ["--episodes", "2" if day.is_toy else "16", "--output", str(folder)]
        commands.append(["warm-start", "--env", env, "--model", str(day.model), *options, *words])
    run_side_by_side(day, commands, day.seconds_left / 2)


def play(day: Day, env: str, limit_s: float) -> None:
    """Train both methods, or go on with their runs, for some seconds."""
    if not (warm_start(day, env) / "README.md").is_file():
        return
    commands = []
    is_alone = day.engine == "vllm"
    limit_s /= len(METHODS) if is_alone else 1
    for method in METHODS:
        run = day.work / f"{env}-{method}"
        lines = read_metrics(run) if (run / "config.yaml").is_file() else []
        if len(lines) >= day.steps:
            continue
        spent = lines[-1]["progress/seconds"] if lines else 0.0
        limit = f"optim.max_seconds={spent + max(1.0, limit_s - START_S):.0f}"
        if lines:
            commands.append(["train", "--resume", str(run), limit])
            continue
        shutil.rmtree(run, ignore_errors=True)
        start = ["train", "--env", env, "--method", method, "--scale", SCALE]
        start += ["--model", str(warm_start(day, env)), "--steps", str(day.steps)]
        commands.append([*start, "--output", str(run), *day.words(env), limit])
    for together in [[command] for command in commands] if is_alone else [commands]:
        run_side_by_side(day, together, limit_s)


def run_side_by_side(day: Day, commands: Sequence[Sequence[str]], limit_s: float) -> None:
    """Run some commands to their end, or interrupt them, so that they save what there is."""
    day.work.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + limit_s
    with (day.work / "log.txt").open("a", encoding="utf-8") as log:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "sesa_agent", *words], stdout=log, stderr=subprocess.STDOUT
            )
            for words in commands
        ]
        for process in running:
            try:
                process.wait(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
        until = max(until, time.monotonic()) + STOP_S
        for process in running:
            try:
                process.wait(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def describe_run(folder: Path, found: str) -> dict[str, Any]:
    """The numbers of a run; empty if it has no step yet.

    Args:
        folder: the run folder.
        found: the name of what repeated attempts find.
    """
    lines = read_metrics(folder) if folder.is_dir() else []
    if not lines:
        return {}
    measured = [line for line in lines if "eval/success_rate" in line]
    return {
        "steps": len(lines),
        "success": [measured[0]["eval/success_rate"], measured[-1]["eval/success_rate"]],
        "found": [measured[0].get(found), measured[-1].get(found)],
        "measured_at": measured[-1]["step"],
        "signal_groups": fmean(line["rollout/signal_groups"] for line in lines),
        "distinct_answers": fmean(line["rollout/distinct_answers"] for line in lines),
        "readable_rate": fmean(line["rollout/readable_rate"] for line in lines),
        "policy_calls": lines[-1]["progress/policy_calls"],
        "rollout_s": median(line["time/rollout_s"] for line in lines),
        "learn_s": median(line["time/learn_s"] for line in lines),
    }


# ---- the page ----


def write_page(day: Day, record: dict[str, Any], command: str) -> None:
    """Write what there is so far, as JSON and as a page."""
    day.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1) + "\n"
    (day.output / "gpu.json").write_text(text, encoding="utf-8")
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    lines = ["# What was measured on a GPU", "", machine, ""]
    if "tests" in record:
        lines += [f"Tests marked `gpu`: {record['tests']['summary']}.", ""]
        lines += [f"- {failure}" for failure in record["tests"]["failures"]]
    if "updates" in record:
        lines += ["## An update on 16 trajectories, shared-prefix rows against padded rows", ""]
        names = ("shape", "packed_tokens", "row_tokens", "packed_s", "padded_s", "packed_gib")
        names += ("padded_gib", "gain")
        rows = [[update[name] for name in names] for update in record["updates"]]
        names = [name.replace("_", " ") for name in names]
        lines += [markdown_table(names, [list(map(str, row)) for row in rows]), ""]
    if "split" in record:
        split = record["split"]
        lines += ["## The same update with weights that FSDP2 has split, one process", ""]
        lines += [f"{split['split_s']} s and {split['split_gib']} GiB at the peak; whole weights"]
        lines += [f"{split['whole_s']} s and {split['whole_gib']} GiB. Log-probabilities differ by"]
        lines += [f"at most {split['logprobs']:.2g} nats, the gradient by {split['gradient']:.2g}"]
        lines += ["of its norm. Split weights are float32 and rounded when they are gathered.", ""]
    if record.get("runs"):
        lines += ["## Two methods from one warm start", ""]
        lines += ["Success and what several attempts find: validation puzzles, T = 1, at the first"]
        beside = "one after the other" if day.engine == "vllm" else "side by side"
        lines += [f"and the last evaluation. The two runs of a game were {beside}.", ""]
        columns = ("run", "steps", "success", "found", "groups with signal", "distinct answers")
        columns += ("readable", "policy calls", "rollout, s", "update, s")
        rows = [
            (
                f"{name} ({found['name']})",
                str(found["steps"]),
                " to ".join(map(show_number, found["success"])),
                " to ".join(map(show_number, found["found"])),
                *(show_number(found[key]) for key in ("signal_groups", "distinct_answers")),
                show_number(found["readable_rate"]),
                f"{found['policy_calls']:.0f}",
                *(show_number(found[key]) for key in ("rollout_s", "learn_s")),
            )
            for name, found in record["runs"].items()
        ]
        lines += [markdown_table(columns, rows), ""]
    lines += ["Made by", "", "```", command, "```", ""]
    (day.output / "gpu.md").write_text("\n".join(lines), encoding="utf-8")


def read_record(day: Day) -> dict[str, Any]:
    """What an earlier call on such a machine has measured; else only the machine."""
    name = torch.cuda.get_device_name() if day.device == "cuda" else platform.machine()
    machine = {"device": name, "torch": version("torch")}
    machine |= {"transformers": version("transformers"), "engine": day.engine}
    machine |= {"vllm": version("vllm")} if day.engine == "vllm" else {}
    path = day.output / "gpu.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return record if record.get("machine") == machine else {"machine": machine}


def run_day(day: Day, command: str) -> None:
    """Run every part that is not done yet, and write the page after each."""
    record = read_record(day)
    if "tests" not in record:
        record["tests"] = run_tests(day)
        write_page(day, record, command)
    if "updates" not in record:
        record["updates"] = time_updates(day.model, day.device, day.is_toy)
        write_page(day, record, command)
    if "split" not in record:
        record["split"] = compare_split(day.model, day.device, day.is_toy)
        write_page(day, record, command)
    start_games(day)
    for place, env in enumerate(day.games):
        share = day.seconds_left - STOP_S
        play(day, env, max(1.0, share / (len(day.games) - place)))
        for method in METHODS:
            found = describe_run(day.work / f"{env}-{method}", FOUND[env])
            if found:
                name = FOUND[env].removeprefix("eval/").replace("_at_", "@")
                record.setdefault("runs", {})[f"{env}, {method}"] = {**found, "name": name}
        write_page(day, record, command)


def main() -> None:
    """Read the options and run the day."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--minutes", type=float, default=12.0, help="when to end")
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="of the page")
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu-day"), help="of the runs")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--engine", default="", choices=("hf", "vllm"), help="what generates")
    parser.add_argument("--toy", action="store_true", help="one small game, as a test of this file")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU; --device cpu --toy is a test of this file")
    if not (options.model / "config.json").is_file():
        parser.error(f"--model must be the folder of a model, got {options.model}")
    engine = "vllm" if find_spec("vllm") and options.device == "cuda" else "hf"
    engine = options.engine or engine
    end = time.monotonic() + 60 * options.minutes
    day = Day(
        options.model,
        options.device,
        engine,
        options.runs,
        options.output,
        end,
        options.toy,
    )
    words = [f"--model {options.model.name}", f"--minutes {options.minutes:g}"]
    words += ["--device cpu"] if options.device == "cpu" else []
    words += [f"--engine {options.engine}"] if options.engine else []
    words += ["--toy"] if options.toy else []
    run_day(day, f"python -m benchmarks.gpu_day {' '.join(words)}")


if __name__ == "__main__":
    main()
