"""`sesa-agent evaluate api:MODEL`: measures a model behind a chat completions endpoint.

With `--json FILE` every answer is stored as soon as it arrives, in the file of the same name with
the ending `.answers.jsonl`. After Ctrl-C, a crash or failed calls the same command resumes.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sesa_agent.agents.engines.answer_cache import AnswerCache
from sesa_agent.agents.engines.api import APIEngine, MessagesChat
from sesa_agent.agents.engines.base import Usage
from sesa_agent.agents.engines.chat_endpoint import Endpoint
from sesa_agent.commands.evaluate_options import EvaluateOptions
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.json_text import read_json
from sesa_agent.configs.schema import Config
from sesa_agent.evaluation.evaluate import Evaluation, evaluate
from sesa_agent.screen import console, say
from sesa_agent.training.setup import build_chat_dialogue, sampling_params

PREFIX = "api:"
"""Prefix of the name of a model behind an endpoint."""


@dataclass(frozen=True)
class ApiOptions:
    """The options of an endpoint."""

    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    """The environment variable with the API key; unset or empty for a server without a key."""
    concurrency: int = 8
    requests_per_minute: float = 0.0
    timeout_s: float = 60.0
    request: str = ""
    """A JSON object with further fields of every request."""
    price_in: float = 0.0
    """Price of a million prompt tokens, in any currency."""
    price_out: float = 0.0
    """Price of a million response tokens."""

    def check(self, target: str) -> None:
        """Check every option.

        Raises:
            SettingError: in one line, for a value that is not allowed.
        """
        if not target.startswith(PREFIX):
            advice = f"Did you mean {PREFIX}{target}?"
            check(not self.base_url, "--base-url", self.base_url, "left out with a model", advice)
            return
        check(target != PREFIX, "RUN_OR_MODEL", target, "api:MODEL", "Name the endpoint's model.")
        advice = "Try https://api.openai.com/v1 or http://localhost:8000/v1."
        check(bool(self.base_url), "--base-url", "", f"given with {target}", advice)
        check(1 <= self.concurrency <= 1000, "--concurrency", self.concurrency, "from 1 to 1000")
        check(0 < self.timeout_s < 86400, "--timeout", self.timeout_s, "above 0, in seconds")
        limits = ("requests_per_minute", "price_in", "price_out")
        for name in limits:
            value = getattr(self, name)
            is_amount = 0 <= value < float("inf")
            check(is_amount, f"--{name.replace('_', '-')}", value, "at least 0 and finite")

    def fields(self) -> dict[str, Any]:
        """The fields that `--request` adds to every request.

        Raises:
            SettingError: if it is not a JSON object.
        """
        try:
            fields = read_json(self.request or "{}")
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            return fields
        raise SettingError(
            f"--request must be a JSON object, got {self.request!r}. "
            """Try '{"max_tokens": null, "max_completion_tokens": 500}'."""
        )


def evaluate_api(
    target: str, cfg: Config, options: EvaluateOptions, api: ApiOptions
) -> tuple[Evaluation, dict[str, Any]]:
    """Measure a model behind an endpoint on the held-out puzzles of an environment.

    Args:
        target: `api:MODEL`.
        cfg: the settings of the environment and of sampling.
        options: what to measure.
        api: the endpoint.

    Returns:
        The measurement, and the number, tokens and cost of the calls, as JSON values.

    Raises:
        SettingError: in one line, for a wrong option or an endpoint that does not answer.
        SystemExit: after Ctrl-C.
    """
    fields = api.fields()
    key = os.environ.get(api.key_env, "")
    endpoint = Endpoint(api.base_url, key, api.key_env, api.timeout_s, api.requests_per_minute)
    path = options.json_file.with_suffix(".answers.jsonl") if options.json_file else None
    log = AnswerCache(path, endpoint.base_url, options.seed)
    dialogue = build_chat_dialogue(cfg, MessagesChat(), max_prompt_tokens=sys.maxsize)
    seeds = dialogue.evaluation_seeds("test", options.episodes)
    params = sampling_params(cfg.engine, cfg.eval.temperature, options.seed)
    if "temperature" in fields:
        params = replace(params, temperature=_read_temperature(fields["temperature"]))
    with console.status("") as status, _reporting_stored_answers(log):

        def show(usage: Usage) -> None:
            failed = f", {usage.failed_calls} failed calls" if usage.failed_calls else ""
            status.update(f"playing {len(seeds)} held-out puzzles: {usage.calls} answers{failed}")

        model = target.removeprefix(PREFIX)
        engine = APIEngine(endpoint, model, api.concurrency, fields, log, show)
        show(engine.usage)
        result = evaluate(engine, dialogue, cfg.env.id, seeds, params, options.samples, options.ks)
    return result, _account(engine, api, fields)


def _read_temperature(value: Any) -> float:
    """The temperature in a request; without one an endpoint samples at 1."""
    is_number = value is None or isinstance(value, int | float)
    check(is_number, "--request temperature", value, "a number or null")
    return 1.0 if value is None else float(value)


@contextmanager
def _reporting_stored_answers(log: AnswerCache) -> Iterator[None]:
    """When an evaluation stops early, say how to resume it."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"Stopped. {_stored(log) or 'Nothing is stored: answers are, with --json FILE.'}")
        raise SystemExit(130) from None
    except SettingError as error:
        raise SettingError(" ".join(filter(None, [str(error), _stored(log)]))) from error


def _stored(log: AnswerCache) -> str:
    """Where the answers are stored, if there are any."""
    if log.path is None or not log.answers:
        return ""
    return f"{len(log.answers)} answers are stored in {log.path}: the same command resumes."


def _account(engine: APIEngine, api: ApiOptions, fields: dict[str, Any]) -> dict[str, Any]:
    """Calls, tokens and cost of all answers, including those stored by earlier commands."""
    usage = engine.usage
    has_prices = api.price_in or api.price_out
    cost = usage.prompt_tokens * api.price_in + usage.response_tokens * api.price_out
    return {
        "base_url": engine.endpoint.base_url,
        "request": fields,
        "calls": usage.calls,
        "failed_calls": usage.failed_calls,
        "last_failure": usage.last_failure,
        "cut_off": engine.num_cut,
        "prompt_tokens": usage.prompt_tokens,
        "response_tokens": usage.response_tokens,
        "uncounted_calls": engine.num_uncounted,
        "cost": cost / 1e6 if has_prices else None,
    }


def report_calls(result: Evaluation, account: dict[str, Any], cfg: Config) -> None:
    """Print tokens and cost of the calls, truncated answers, and puzzles that are left out."""
    cost = "" if account["cost"] is None else f", cost {account['cost']:.4g}"
    say(
        f"{account['calls']} answers, {account['prompt_tokens']} prompt tokens, "
        f"{account['response_tokens']} response tokens{cost}; "
        f"{result.readable_rate:.1%} of the answers were readable"
    )
    if account["uncounted_calls"]:
        say(f"The endpoint reported no token counts for {account['uncounted_calls']} answers.")
    if account["cut_off"]:
        say(
            f"{account['cut_off']} answers were truncated at "
            f"engine.max_new_tokens={cfg.engine.max_new_tokens}. Raise it if they need more tokens."
        )
    if account["failed_calls"]:
        say(
            f"{account['failed_calls']} calls failed, the last with {account['last_failure']}. "
            f"Their {len(result.left_out)} puzzles are left out: success is over the "
            f"{result.num_episodes} puzzles that were played to their end."
        )
