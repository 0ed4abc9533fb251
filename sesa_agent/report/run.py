"""The report of one run."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import (
    config_to_dict,
    env_names,
    load_config,
    override_word,
    short_env_name,
)
from sesa_agent.evaluation.experiments.arms import without_folder
from sesa_agent.report.episodes import sample_episodes
from sesa_agent.report.page import (
    SPENT_NAMES,
    ArmRow,
    Page,
    Value,
    settings_text,
    show_count,
    show_value,
    shown_tree,
)
from sesa_agent.run_files import RunFiles
from sesa_agent.screen import differs_from_success, show_number
from sesa_agent.training.setup import resolve_auto


def run_page(run: RunFiles, versions: Mapping[str, str]) -> Page:
    """Build the report of a run.

    Args:
        run: its files.
        versions: versions of the packages that are installed now; a run folder does not hold its
            own.
    """
    rows = _measured_rows(run)
    last = run.line.rows[-1] if run.line.rows else {}
    spent = {text: show_count(last.get(f"progress/{key}")) for key, text in SPENT_NAMES.items()}
    facts = {
        "model": Path(str(run.settings["model"]["path"])).name,
        "steps": show_count(len(run.line.rows)),
        **{text: count for text, count in spent.items() if count != "–"},
    }
    start = run.arm.get("start_from")
    return Page(
        kind="Training run",
        title=run.title,
        verdict=verdict(rows, run),
        remarks=(f"It continued from the last checkpoint of {start}.",) if start else (),
        notes=("95 % Wilson intervals over puzzles, for this run and not for other seeds.",),
        facts=tuple(facts.items()),
        rows=tuple(rows),
        lines=(run.line,) if run.line.rows else (),
        events=run.events,
        episodes=tuple(sample_episodes(run)),
        tree=shown_tree(run),
        command=repeat_command(run.settings),
        versions=versions,
        settings=(("Settings", settings_text(run.settings)),),
    )


def verdict(rows: Sequence[ArmRow], run: RunFiles) -> str:
    """Say in one sentence what training changed, as far as the intervals show it."""
    if len(rows) == 2:
        base, trained = (next(iter(row.values.values())) for row in rows)
        before, after = show_number(base.mean), show_number(trained.mean)
        puzzles = f"{run.result['trained']['num_episodes']} held-out puzzles"
        verb = "lifted" if trained.mean > base.mean else "lowered"
        if not are_apart(base, trained):
            return (
                f"No significant change on {puzzles}: success was {before} before training and is "
                f"{after} now, and the 95 % intervals overlap."
            )
        return (
            f"Training {verb} success on {puzzles} from {before} to {after}; "
            "the 95 % intervals do not overlap."
        )
    if rows:
        name, value = next(iter(rows[0].values.items()))
        return f"On held-out puzzles {name} is {show_value(value)[0]} ({show_value(value)[1]})."
    rates = [row["eval/success_rate"] for row in run.line.rows if "eval/success_rate" in row]
    if not rates:
        return "Nothing has been measured yet."
    return (
        "Not measured on held-out puzzles yet. On validation puzzles success went from "
        f"{show_number(rates[0])} to {show_number(rates[-1])} within {len(run.line.rows)} steps."
    )


def are_apart(first: Value, second: Value) -> bool:
    """Whether both numbers have intervals that do not overlap."""
    if first.interval is None or second.interval is None:
        return False
    lows, highs = zip(first.interval, second.interval, strict=True)
    return max(lows) > min(highs)


def repeat_command(settings: Mapping[str, Any]) -> str:
    """Return the command that repeats a run: its presets and the settings that differ from them.

    Args:
        settings: the run's `config.yaml`.
    """
    env = short_env_name(settings["env"]["id"])
    scale, method = settings.get("scale", ""), settings["method"]
    try:
        preset = load_config(env, method, scale=scale)
    except SettingError:  # its method file is gone: all that differs from another preset is listed
        method = "sesa"
        preset = load_config(env, method, scale=scale)
    if env in env_names():  # another environment may not be installed where the page is made
        preset = resolve_auto(preset)
    before, after = _flat(config_to_dict(preset)), _flat(settings)
    words = ["sesa-agent", "train", "--env", env, "--method", without_folder(method)]
    words += ["--scale", scale] if scale else []
    for key, value in after.items():
        is_setting = key not in ("method", "scale", "env.id", "output", "model.device")
        if is_setting and before.get(key) != value:
            words.append(without_folder(override_word(key, value)))
    return shlex.join(words)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        is_group = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if is_group else {f"{prefix}{key}": value}
    return flat


def _measured_rows(run: RunFiles) -> list[ArmRow]:
    """Rows of the base and the trained policy of a run, or of an arm's result."""
    arms = {run.line.label: list(run.arm["measured"].values())} if run.arm else {}
    arms |= {name: [found] for name, found in run.result.items()}
    rows = []
    for label, evaluations in arms.items():
        values = {}
        for found in evaluations:
            values |= _evaluation_values(found)
        rows.append(ArmRow(run.line.env, label, values, run.arm))
    return rows


def _evaluation_values(found: Mapping[str, Any]) -> dict[str, Value]:
    """Success and pass@k of an `Evaluation`, with their intervals over puzzles."""
    how = f"T = {found['temperature']:g}"
    values = {f"success, {how}": Value(found["success_rate"], (found["low"], found["high"]))}
    mean_return = found.get("mean_return")
    if mean_return is not None and differs_from_success(mean_return, found["success_rate"]):
        low, high = found.get("return_low"), found.get("return_high")
        interval = None if low is None or high is None else (low, high)
        values[f"return, {how}"] = Value(mean_return, interval)
    intervals = found.get("pass_at_k_interval", {})
    for k, rate in found["pass_at_k"].items():
        if int(k) > 1:
            ends = intervals.get(k)
            values[f"pass@{k}, {how}"] = Value(rate, (ends[0], ends[1]) if ends else None)
    return values
