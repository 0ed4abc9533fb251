"""`sesa-agent evaluate`: measures a run or a model on held-out puzzles."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and where the result is written."""

    episodes: int
    """Held-out puzzles."""
    samples: int
    """Attempts at each puzzle."""
    k: str
    """Values of k for pass@k, such as "1,5,10"; empty for the default."""
    seed: int
    """Seed of sampling."""
    json_file: Path | None

    @property
    def ks(self) -> list[int]:
        """The values of k."""
        return read_ks(self.k, self.samples)

    def check(self) -> None:
        """Check every option.

        Raises:
            SettingError: in one line, for a value that is not allowed or a file that is not
                writable.
        """
        check(self.episodes >= 1, "--episodes", self.episodes, "at least 1")
        check(self.samples >= 1, "--samples", self.samples, "at least 1")
        read_ks(self.k, self.samples)
        puzzle_seeds("test", self.episodes)  # raises if there are not enough puzzles
        if self.json_file:
            is_file = not self.json_file.is_dir()
            check(is_file, "--json", str(self.json_file), "a file, not a folder")
            check_writable(self.json_file.parent, "--json")


def run_evaluation(
    target: str, env: str, overrides: list[str], options: EvaluateOptions, api: ApiOptions
) -> None:
    """Evaluate a run's newest checkpoint, or a model, and print the result."""
    api.check(target)
    options.check()
    if target.startswith(PREFIX):
        check(bool(env), "--env", env, "given with a model", "Try --env sokoban.")
        cfg = resolve_auto(load_config(env, "sesa", overrides))
        result, account = evaluate_api(target, cfg, options, api)
        _report(target, cfg, result, options, api=account)
        report_calls(result, account, cfg)
        return
    cfg, path = find_policy(target, env, overrides)
    policy = build_policy(cfg, path)
    with console.status(f"playing {options.episodes} held-out puzzles"):
        result = evaluate_policy(
            cfg, policy, options.episodes, options.samples, options.seed, options.ks
        )
    _report(target, cfg, result, options)


def _report(
    target: str, cfg: Config, result: Evaluation, options: EvaluateOptions, **more: Any
) -> None:
    """Print the result and write it to the JSON file, together with `more`."""
    console.print(result_table(cfg.env.id, {Path(target).name or target: result}, options.ks))
    if result.num_env_errors:
        say(
            f"The environment failed {result.num_env_errors} times. Attempts that ended with a "
            f"failure count as not solved; {len(result.left_out)} puzzles that could not be opened "
            "are left out."
        )
    if options.json_file:
        values = {"target": target, "env": cfg.env.id, "seed": options.seed}
        values |= {**result.to_json(), **more}
        options.json_file.parent.mkdir(parents=True, exist_ok=True)
        options.json_file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_ks(text: str, samples: int) -> list[int]:
    """Parse the values of k for pass@k, such as "1,5,10"; none if the text is empty.

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
            "Raise --samples, or leave out larger k.",
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
