"""`sesa-agent check-env ID`: checks an environment against the contract and says how to fix it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from sesa_agent.agents.model_folder import locate_model
from sesa_agent.agents.prompts import replace_surrogates
from sesa_agent.configs.errors import SettingError, check, first_line
from sesa_agent.configs.load import code_words, load_config
from sesa_agent.configs.task_files import is_task_file
from sesa_agent.environments import close_env
from sesa_agent.environments.checks import run_checks
from sesa_agent.environments.checks.subject import Finding, passed, skipped, warned
from sesa_agent.environments.descriptions import describe_value
from sesa_agent.environments.text_env import text_game
from sesa_agent.screen import console, say
from sesa_agent.training.setup import build_env

STYLES = {"passed": "green", "failed": "red", "warned": "yellow", "skipped": "dim"}
MAX_LENGTH = 500
"""Maximum number of characters of a finding to print; it may quote a long observation."""
NUM_OWN_ANSWERS = 20
"""Rows of a task file whose own answers are judged."""
SLOW = 1.0
"""Seconds from which on the time of a check is shown."""
MAX_EPISODES = 100_000
"""Maximum number of puzzles to play in a check."""


def run_check_env(
    env: str,
    overrides: Sequence[str],
    actions: Sequence[str],
    episodes: int,
    seed: int,
    model: str,
    seconds: float,
) -> bool:
    """Print the findings of every check; return whether all passed.

    Raises:
        SettingError: for an unknown environment, setting or model.
    """
    check(1 <= episodes <= MAX_EPISODES, "--episodes", episodes, f"from 1 to {MAX_EPISODES}")
    check(seed >= 0, "--seed", seed, "0 or more")
    cfg = load_config(env, overrides=overrides)
    count_tokens = token_counter(model) if model else None
    check(seconds > 0, "--seconds", seconds, "above 0")
    game = build_env(cfg)
    try:
        with console.status("") as status:
            findings = run_checks(
                game,
                episodes,
                seed,
                actions,
                count_tokens,
                seconds=seconds,
                before=lambda name: status.update(f"checking: {name}"),
                after=_tell_slow,
            )
        if is_task_file(env):
            findings["own answers"] = check_own_answers(text_game(game))
    finally:
        close_env(game)
    console.print(findings_table(cfg.env.id, findings))
    counts = Counter(finding.status for finding in findings.values())
    say(", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status]) + ".")
    if not counts["failed"]:
        reward = [f"--reward {word.partition('=')[2]}" for word in code_words(cfg)]
        say(" ".join([f"Ready: sesa-agent train --env {env}", *reward]))
    return not counts["failed"]


def check_own_answers(game: Any) -> Finding:
    """Whether the first rows of a task file have right answers of their own.

    Args:
        game: the environment's `TaskGame`.
    """
    judged = list(game.own_answers(NUM_OWN_ANSWERS))
    if not judged:
        return skipped("the file has no column of right answers")
    wrong = [item for item in judged if item[2]]
    if not wrong:
        return passed(f"{len(judged)} rows: their own answer counts as right")
    number, answer, fault = wrong[0]
    seen = f"{len(wrong)} of {len(judged)} rows: their own answer does not count as right; "
    seen += f"row {number}, {describe_value(answer)}: {fault}"
    return warned(
        seen,
        "Check the function of --reward, the column env.options.answer, and "
        "env.options.success_score.",
    )


def _tell_slow(name: str, seconds: float) -> None:
    """Say how long a check took, if one had to wait for it."""
    if seconds >= SLOW:
        say(f"{name}: {seconds:.0f} s")


def findings_table(env_id: str, findings: Mapping[str, Finding]) -> Table:
    """One row per check: its name, its result, what was observed and, if needed, how to fix it."""
    table = Table(title=escape(env_id))
    for column in ("check", "result", "observed, and how to fix it"):
        table.add_column(column)
    for name, finding in findings.items():
        seen = finding.seen
        seen = seen if len(seen) <= MAX_LENGTH else f"{seen[:MAX_LENGTH]} ..."
        text = escape(seen) + (f"\n[bold]→ {escape(finding.advice)}[/]" if finding.advice else "")
        table.add_row(name, f"[{STYLES[finding.status]}]{finding.status}[/]", text)
    return table


def token_counter(model: str) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text for a model; no weights are loaded.

    Raises:
        SettingError: if the model has no tokenizer.
    """
    place = locate_model(model)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # whatever transformers and tokenizers raise
        reason = first_line(error)
        raise SettingError(f"--model {model!r}: no tokenizer could be loaded: {reason}.") from error

    def count(text: str) -> int:
        return len(tokenizer.encode(replace_surrogates(text), add_special_tokens=False))

    return count
