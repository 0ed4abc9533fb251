"""`sesa-agent evaluate`: success of a run or a model on held-out puzzles."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sesa_agent.agents.policy import Policy
from sesa_agent.commands.evaluate_api import PREFIX, ApiOptions, evaluate_api, report_calls
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.evaluation.evaluate import Evaluation, evaluate
from sesa_agent.runs import check_writable, find_policy
from sesa_agent.screen import console, result_table, say
from sesa_agent.training.setup import (
    Agent,
    build_dialogue,
    build_engine,
    build_policy,
    resolve_auto,
    sampling_params,
)


def run_evaluation(
    target: str,
    env: str,
    overrides: list[str],
    episodes: int,
    samples: int,
    k: str,
    seed: int,
    json_file: Path | None,
    api: ApiOptions,
) -> None:
    """Evaluate a run's newest checkpoint, or a model, and print the result."""
    api.check(target)
    check(episodes >= 1, "--episodes", episodes, "at least 1")
    check(samples >= 1, "--samples", samples, "at least 1")
    ks = read_ks(k, samples)
    puzzle_seeds("test", episodes)  # raises if there are not so many
    if json_file:
        check(not json_file.is_dir(), "--json", str(json_file), "a file, not a folder")
        check_writable(json_file.parent, "--json")
    if target.startswith(PREFIX):
        check(bool(env), "--env", env, "given with a model", "Try --env sokoban.")
        cfg = resolve_auto(load_config(env, "sesa", overrides))
        result, account = evaluate_api(target, cfg, api, episodes, samples, seed, ks, json_file)
        _report(target, cfg, result, ks, seed, json_file, api=account)
        report_calls(result, account, cfg)
        return
    cfg, path = find_policy(target, env, overrides)
    policy = build_policy(cfg, path)
    with console.status(f"playing {episodes} held-out puzzles"):
        result = evaluate_policy(cfg, policy, episodes, samples, seed, ks)
    _report(target, cfg, result, ks, seed, json_file)


def _report(
    target: str,
    cfg: Config,
    result: Evaluation,
    ks: Sequence[int],
    seed: int,
    json_file: Path | None,
    **more: Any,
) -> None:
    """Print the result and write it, with what else there is to say."""
    console.print(result_table(cfg.env.id, {Path(target).name or target: result}, ks))
    if result.num_env_errors:
        say(
            f"The environment failed {result.num_env_errors} times; what it ended is not won, and "
            f"{len(result.left_out)} puzzles that it could not open are left out."
        )
    if json_file:
        values = {"target": target, "env": cfg.env.id, "seed": seed, **result.to_json(), **more}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_ks(text: str, samples: int) -> list[int]:
    """Read the k of pass@k, as in "1,5,10"; none if the text is empty.

    Raises:
        SettingError: if one of them is not a whole number from 1 to `samples`.
    """
    words = [word.strip() for word in text.split(",")] if text else []
    for word in words:
        check(
            word.isdecimal() and len(word) < 10 and 1 <= int(word) <= samples,
            "--k",
            text,
            f"whole numbers from 1 to --samples ({samples}), as in 1,5,10",
            "Raise --samples or leave out what is above it.",
        )
    return sorted({int(word) for word in words})


def evaluate_policy(
    cfg: Config,
    policy: Policy,
    episodes: int,
    samples: int = 1,
    seed: int = 0,
    ks: Sequence[int] = (),
) -> Evaluation:
    """Measure a policy on the held-out puzzles of an environment; `ks` as in `evaluate`."""
    agent = Agent(policy, build_engine(cfg, policy), build_dialogue(cfg, policy))
    return evaluate_agent(cfg, agent, episodes, samples, seed, ks)


def evaluate_agent(
    cfg: Config,
    agent: Agent,
    episodes: int,
    samples: int = 1,
    seed: int = 0,
    ks: Sequence[int] = (),
) -> Evaluation:
    """`evaluate_policy` of one that has an engine already."""
    agent.engine.load_weights(agent.policy)
    seeds = agent.dialogue.evaluation_seeds("test", episodes)
    params = sampling_params(cfg.engine, cfg.eval.temperature, seed)
    result = evaluate(agent.engine, agent.dialogue, cfg.env.id, seeds, params, samples, ks)
    agent.engine.sleep()
    return result
