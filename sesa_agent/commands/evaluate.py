"""`sesa-agent evaluate`: measures a run or a model on held-out puzzles."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sesa_agent.agents.chat import Chat
from sesa_agent.agents.engines.api import MessagesChat
from sesa_agent.agents.policy import Policy
from sesa_agent.commands.evaluate_api import PREFIX, ApiOptions, evaluate_api, report_calls
from sesa_agent.commands.evaluate_options import EvaluateOptions
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.configs.writing import replace_text
from sesa_agent.environments.workers.pool import close_pools
from sesa_agent.evaluation.evaluate import Evaluation, evaluate
from sesa_agent.option_settings import with_options
from sesa_agent.runs import find_policy
from sesa_agent.screen import console, result_table, say, say_success, warn
from sesa_agent.training.prompt_choices import describe_choice
from sesa_agent.training.readability import describe_unreadable, is_unreadable
from sesa_agent.training.rollout import describe_cut_prompts
from sesa_agent.training.setup import (
    Agent,
    build_chat,
    build_dialogue,
    build_engine,
    build_policy,
    for_evaluation,
    resolve_auto,
    sampling_params,
    settle_prompts,
)


def run_evaluation(
    target: str, env: str, overrides: list[str], options: EvaluateOptions, api: ApiOptions
) -> None:
    """Evaluate a run's newest checkpoint, or a model; print the result, then write it."""
    api.check(target)
    options.check()
    if target.startswith(PREFIX):
        check(bool(env), "--env", env, "given with a model", "Try --env sokoban.")
        words = with_options(overrides, {"model.path": ("the model", target)})
        cfg = for_evaluation(resolve_auto(load_config(env, "sesa", words)))
        say_success(cfg)
        cfg = _settled(cfg, MessagesChat())
        result, account = evaluate_api(target, cfg, options, api)
        _show(target, cfg, result, options)
        report_calls(result, account, cfg)
        _write(target, cfg, result, options, api=account)
        return
    cfg, path = find_policy(target, env, overrides)
    say_success(cfg)
    policy = build_policy(cfg, path)
    cfg = _settled(cfg, build_chat(cfg, policy))
    with console.status(f"playing {options.episodes} held-out puzzles"):
        result = evaluate_policy(
            cfg, policy, options.episodes, options.samples, options.seed, options.ks
        )
    _show(target, cfg, result, options)
    _write(target, cfg, result, options)


def _settled(cfg: Config, chat: Chat) -> Config:
    """Decide what prompts show as far as it depends on the model, and say so."""
    settled = settle_prompts(cfg, chat)
    if choice := describe_choice(cfg, settled):
        say(choice)
    return settled


def _show(target: str, cfg: Config, result: Evaluation, options: EvaluateOptions) -> None:
    """Print the result."""
    name = Path(target).name or target
    console.print(result_table(cfg.env.id, {name: result}, options.ks, cfg.eval.split))
    if is_unreadable(result.readable_rate):
        say(describe_unreadable(result.unreadable_response, result.cut_rate or 0.0, cfg))
    if result.num_env_errors:
        say(
            f"The environment failed {result.num_env_errors} times. Attempts that ended with a "
            f"failure count as not solved; {len(result.left_out)} puzzles that could not be opened "
            "are left out."
        )
    if result.num_cut_prompts:
        warn(f"Warning: {describe_cut_prompts(result.num_cut_prompts, cfg.engine)}")


def _write(
    target: str, cfg: Config, result: Evaluation, options: EvaluateOptions, **more: Any
) -> None:
    """Write the result to the JSON file, if one is wanted, together with `more`."""
    if options.json_file:
        played = {"env": cfg.env.id, "split": cfg.eval.split, "seed": options.seed}
        values = {"target": target, **played, **result.to_json(), **more}
        replace_text(options.json_file, json.dumps(values, indent=2) + "\n")


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
    try:
        return evaluate_agent(cfg, agent, episodes, samples, seed, ks)
    finally:
        close_pools()


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
    stop = agent.dialogue.style.stop
    params = sampling_params(cfg.engine, cfg.eval.temperature, seed, stop)
    result = evaluate(agent.engine, agent.dialogue, cfg.env.id, seeds, params, samples, ks)
    agent.engine.sleep()
    return result
