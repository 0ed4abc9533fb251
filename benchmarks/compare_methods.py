"""Trains methods to one number of policy calls and compares their success on held-out puzzles.

    python benchmarks/compare_methods.py --env sokoban --methods sesa ragen --seeds 0 1 2

Every method is first tuned on validation puzzles, with a training seed of its own, over
`--learning-rates` times its `--variants`; then it is trained with the best setting
and each seed, and measured on the test puzzles. Arms run in processes of one thread each; an
interrupted comparison goes on where it stopped, and finished arms are not run again.
"""

import argparse
import itertools
import json
import math
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console
from rich.table import Table

TUNING_SEED = 100
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
"""Student's t quantiles of a 95 % interval, by number of seeds."""


@dataclass(frozen=True)
class Arm:
    """One training run of a comparison."""

    env: str
    method: str
    settings: tuple[str, ...]
    seed: int
    calls: int
    episodes: int
    split: str
    folder: Path

    @property
    def run_folder(self) -> Path:
        """Where the run lies; its name says everything that makes it differ from others."""
        words = "_".join(word.replace("=", "-") for word in self.settings)
        return self.folder / f"{self.env}_{self.method}_{self.calls}_{words}_seed{self.seed}"


def run_arm(arm: Arm) -> dict[str, Any]:
    """Train an arm, or read its result if it has been trained before."""
    result_file = arm.run_folder / f"{arm.split}.json"
    if result_file.is_file():
        return json.loads(result_file.read_text(encoding="utf-8"))
    import torch

    from sesa_agent.configs.load import load_config
    from sesa_agent.evaluation.evaluate import evaluate
    from sesa_agent.training import trainer
    from sesa_agent.training.setup import sampling_params

    torch.set_num_threads(1)
    fixed = ["optim.steps=1000000", f"optim.max_policy_calls={arm.calls}", f"seed={arm.seed}"]
    cfg = load_config(arm.env, arm.method, [*arm.settings, *fixed])
    progress = trainer.Progress()

    def watch(now: trainer.Progress, metrics: dict[str, float]) -> bool:
        vars(progress).update(vars(now))
        return False

    def measure(engine: Any, dialogue: Any, seeds: list[int]) -> dict[str, float]:
        params = sampling_params(cfg.engine, cfg.eval.temperature)
        found = evaluate(engine, dialogue, cfg.env.id, seeds, params)
        return {"eval/success_rate": found.success_rate}

    policy = trainer.train(cfg, arm.run_folder, measure, watch)
    result: dict[str, Any] = {"method": arm.method, "settings": arm.settings, "seed": arm.seed}
    result |= success(cfg, policy, arm.split, arm.episodes)
    result |= {
        "policy_calls": progress.num_policy_calls,
        "response_tokens": progress.num_response_tokens,
        "steps": progress.step,
        "curve": read_curve(arm.run_folder),
    }
    result_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def success(cfg: Any, policy: Any, split: str, episodes: int) -> dict[str, Any]:
    """Measure success at T = .5, and at T = 1 with four attempts at a quarter of the puzzles."""
    from sesa_agent.evaluation.evaluate import evaluate
    from sesa_agent.sampling.seeds import puzzle_seeds
    from sesa_agent.training.setup import build_dialogue, build_engine, sampling_params

    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    found = {}
    for temperature, num_puzzles, num_samples in ((0.5, episodes, 1), (1.0, episodes // 4, 4)):
        seeds = puzzle_seeds(split, num_puzzles)
        params = sampling_params(cfg.engine, temperature)
        result = evaluate(engine, dialogue, cfg.env.id, seeds, params, num_samples)
        found[f"T={temperature:g}"] = result.to_json()
    return found


def read_curve(folder: Path) -> list[list[float]]:
    """Policy calls, validation success at T = .5 and share of groups with signal along a run."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    names = ("progress/policy_calls", "eval/success_rate", "rollout/signal_groups")
    rows = [json.loads(line) for line in lines]
    return [[round(row[name], 4) for name in names] for row in rows if names[1] in row]


def base_result(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the policy before training, and the optimum where it can be computed."""
    from sesa_agent.configs.load import load_config
    from sesa_agent.sampling.seeds import puzzle_seeds
    from sesa_agent.training.setup import build_env, build_policy

    cfg = load_config(args.env)
    result: dict[str, Any] = success(cfg, build_policy(cfg), "test", args.episodes)
    if args.env == "frozen_lake":
        from sesa_agent.environments.frozen_lake import optimal_success

        env: Any = build_env(cfg).unwrapped
        values = []
        for seed in puzzle_seeds("test", args.episodes):
            env.reset(seed=seed)
            values.append(optimal_success(env.game, env.max_steps))
        result["optimum by value iteration"] = statistics.mean(values)
    return result


def tune(args: argparse.Namespace, run: Callable[[list[Arm]], list[Any]]) -> dict[str, Any]:
    """Find the best setting of every method, by success at T = .5 on validation puzzles.

    Returns:
        `best` (settings by method) and `results` (every tuning run).
    """
    calls = args.tuning_calls or args.calls
    arms = []
    given = {pair.split(":", 1)[0]: pair.split(":", 1)[1].split(",") for pair in args.given}
    tuned = [method for method in args.methods if method not in given]
    for method in tuned:
        own = [v.partition(":")[2] for v in args.variants if v.startswith(f"{method}:")]
        for rate, variant in itertools.product(args.learning_rates, own or [""]):
            words = (f"optim.lr={rate}", *filter(None, variant.split(",")))
            arms.append(make_arm(args, method, words, TUNING_SEED, calls, "validation"))
    results = run(arms)
    best: dict[str, Sequence[str]] = dict(given)
    for method in tuned:
        tried = [result for result in results if result["method"] == method]
        best[method] = max(tried, key=lambda r: r["T=0.5"]["success_rate"])["settings"]
    return {"seed": TUNING_SEED, "policy_calls": calls, "best": best, "results": results}


def make_arm(
    args: argparse.Namespace, method: str, words: Sequence[str], seed: int, calls: int, split: str
) -> Arm:
    """Name one run of this comparison."""
    return Arm(args.env, method, tuple(words), seed, calls, args.episodes, split, args.runs)


def summarise(results: list[dict[str, Any]], temperature: str) -> dict[str, float]:
    """Mean success over seeds with its 95 % t interval, and mean pass@k of the largest k."""
    rates = [r[temperature]["success_rate"] for r in results]
    half = 0.0
    if len(rates) > 1:
        half = T_95.get(len(rates), 2.0) * statistics.stdev(rates) / math.sqrt(len(rates))
    passes = [r[temperature]["pass_at_k"] for r in results]
    return {
        "success": statistics.mean(rates),
        "low": statistics.mean(rates) - half,
        "high": statistics.mean(rates) + half,
        "pass@k": statistics.mean(list(p.values())[-1] for p in passes),
    }


def main() -> None:
    """Run the comparison; write the JSON file and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--env", default="sokoban")
    parser.add_argument("--methods", nargs="+", default=["sesa", "ragen"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--calls", type=int, default=150_000, help="policy calls of every arm")
    parser.add_argument("--tuning-calls", type=int, default=0, help="those of tuning; 0: the same")
    parser.add_argument("--learning-rates", nargs="+", default=["3e-4", "1e-3", "2e-3"])
    parser.add_argument(
        "--variants", nargs="*", default=[], help="METHOD:KEY=VALUE[,...] to tune over"
    )
    parser.add_argument(
        "--given", nargs="*", default=[], help="METHOD:KEY=VALUE[,...] of a method not to be tuned"
    )
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"))
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    output = args.output or Path(f"results/{args.env}.json")
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:

        def run(arms: list[Arm]) -> list[dict[str, Any]]:
            return list(pool.map(run_arm, arms))

        tuning = tune(args, run)
        arms = [
            make_arm(args, method, tuning["best"][method], seed, args.calls, "test")
            for method in args.methods
            for seed in args.seeds
        ]
        results = run(arms)
    values = {
        "env": args.env,
        "policy_calls": args.calls,
        "episodes": args.episodes,
        "seeds": args.seeds,
        "base": base_result(args),
        "tuning": tuning,
        "arms": {m: [r for r in results if r["method"] == m] for m in args.methods},
    }
    output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    Console().print(table(values))


def table(values: dict[str, Any]) -> Table:
    """Success of every arm at both temperatures."""
    shown = Table(title=f"{values['env']}: {values['policy_calls']} policy calls")
    for column in ("method", "setting", "T = .5", "95 % over seeds", "T = 1", "pass@4 at T = 1"):
        shown.add_column(column)
    base = values["base"]
    rates = [f"{base[t]['success_rate']:.3f}" for t in ("T=0.5", "T=1")]
    shown.add_row("base", "", rates[0], "", rates[1], "")
    for method, results in values["arms"].items():
        cold, warm = summarise(results, "T=0.5"), summarise(results, "T=1")
        shown.add_row(
            method,
            " ".join(results[0]["settings"]),
            f"{cold['success']:.3f}",
            f"{cold['low']:.3f} to {cold['high']:.3f}",
            f"{warm['success']:.3f}",
            f"{warm['pass@k']:.3f}",
        )
    return shown


if __name__ == "__main__":
    main()
