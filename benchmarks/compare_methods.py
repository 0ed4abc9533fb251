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
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console
from rich.table import Table

from sesa_agent.evaluation.experiment import Arm, Measurement, measure
from sesa_agent.evaluation.run_arms import run_arms
from sesa_agent.evaluation.statistics import t_interval

TUNING_SEED = 100
NUM_SAMPLES = 4
"""Attempts at each puzzle at T = 1, on a quarter of the puzzles."""


def run_all(arms: Sequence[Arm], runs: Path, jobs: int) -> list[dict[str, Any]]:
    """Run arms, or read what was run before; results in the order of the arms."""
    results = run_arms(arms, runs, jobs)
    return [in_short(results[arm]) for arm in arms]


def in_short(result: dict[str, Any]) -> dict[str, Any]:
    """Keep what the results file holds, the curve as calls, success and groups with signal."""
    names = ("policy_calls", "eval/success_rate", "rollout/signal_groups")
    kept = ("policy_calls", "response_tokens", "steps")
    return {
        **{key: result[key] for key in ("method", "settings", "seed")},
        **result["measured"],
        **{key: result[key] for key in kept},
        "curve": [[round(row[name], 4) for name in names] for row in result["curve"]],
    }


def base_result(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the policy before training, and the optimum where it can be computed."""
    from sesa_agent.configs.load import load_config
    from sesa_agent.sampling.seeds import puzzle_seeds
    from sesa_agent.training.setup import build_env, build_policy

    cfg = load_config(args.env)
    result = measure(cfg, build_policy(cfg), measurements(args.episodes, "test"))
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
    """Describe one run of this comparison."""
    # Steps of the methods differ in calls, so only the calls bound a run.
    budget = ("optim.steps=1000000", f"optim.max_policy_calls={calls}")
    common = (*budget, f"eval.final_episodes={args.episodes}")
    how = measurements(args.episodes, split)
    return Arm(method, args.env, method, tuple(words), seed, how, common=common)


def measurements(episodes: int, split: str) -> tuple[Measurement, ...]:
    """Success at T = .5, and at T = 1 with several attempts at a quarter of the puzzles."""
    cold = Measurement(0.5, episodes, split=split)
    return cold, Measurement(1.0, episodes // 4, NUM_SAMPLES, split=split)


def summarise(results: list[dict[str, Any]], temperature: str) -> dict[str, float]:
    """Mean success over seeds with its 95 % t interval, and mean pass@k of the largest k."""
    centre, low, high = t_interval([r[temperature]["success_rate"] for r in results])
    passes = [r[temperature]["pass_at_k"] for r in results]
    best = statistics.mean(list(p.values())[-1] for p in passes)
    return {"success": centre, "low": low, "high": high, "pass@k": best}


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
    runs = args.runs / args.env

    def run(arms: list[Arm]) -> list[dict[str, Any]]:
        return run_all(arms, runs, args.jobs)

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
            f"{cold['low']:.3f} to {cold['high']:.3f}" if len(results) > 1 else "",
            f"{warm['success']:.3f}",
            f"{warm['pass@k']:.3f}",
        )
    return shown


if __name__ == "__main__":
    main()
