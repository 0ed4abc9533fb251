"""`sesa-agent check-env ID`: does an environment keep the contract, and what to do where not."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from sesa_agent.agents.policy import BUNDLED, bundled_model_folder, check_model_path
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.load import load_config
from sesa_agent.environments.checks import run_checks
from sesa_agent.environments.checks.subject import Finding
from sesa_agent.screen import console, say
from sesa_agent.training.setup import build_env

STYLES = {"passed": "green", "failed": "red", "warned": "yellow", "skipped": "dim"}
MAX_LENGTH = 500
"""Characters of a finding that are shown; it may quote a long observation."""


def run_check_env(
    env: str,
    overrides: Sequence[str],
    actions: Sequence[str],
    episodes: int,
    seed: int,
    model: str,
) -> bool:
    """Print the findings of every check; return whether none failed.

    Raises:
        SettingError: for an unknown environment, setting or model.
    """
    check(episodes >= 1, "--episodes", episodes, "at least 1")
    cfg = load_config(env, overrides=overrides)
    count_tokens = token_counter(model) if model else None
    findings = run_checks(build_env(cfg), episodes, seed, actions, count_tokens)
    console.print(findings_table(cfg.env.id, findings))
    counts = Counter(finding.status for finding in findings.values())
    say(", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status]) + ".")
    if not counts["failed"]:
        say(f"Ready: sesa-agent train --env {env}")
    return not counts["failed"]


def findings_table(env_id: str, findings: Mapping[str, Finding]) -> Table:
    """A row a check: its name, its result, what was seen and, if need be, what to do about it."""
    table = Table(title=escape(env_id))
    for column in ("check", "result", "seen, and what to do"):
        table.add_column(column)
    for name, finding in findings.items():
        seen = finding.seen
        seen = seen if len(seen) <= MAX_LENGTH else f"{seen[:MAX_LENGTH]} ..."
        text = escape(seen) + (f"\n[bold]→ {escape(finding.advice)}[/]" if finding.advice else "")
        table.add_row(name, f"[{STYLES[finding.status]}]{finding.status}[/]", text)
    return table


def token_counter(model: str) -> Callable[[str], int]:
    """Return what counts a text's tokens for a model; no weights are loaded.

    Raises:
        SettingError: if there is no such tokenizer.
    """
    folder = str(bundled_model_folder(model)) if model in BUNDLED else model
    check_model_path(folder)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # whatever transformers and tokenizers raise
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise SettingError(f"--model {model!r} has no tokenizer to load: {reason}.") from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
