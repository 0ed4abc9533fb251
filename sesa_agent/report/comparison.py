"""The report of a comparison that `sesa-agent compare` or `sesa-agent reproduce` wrote."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import short_env_name
from sesa_agent.evaluation.experiments.arms import BASE
from sesa_agent.evaluation.experiments.arms import RESULT_FILE as ARM_FILE
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS
from sesa_agent.evaluation.experiments.results import SPENT
from sesa_agent.evaluation.significance import ALPHA
from sesa_agent.reading import reading
from sesa_agent.report.episodes import sample_episodes
from sesa_agent.report.page import (
    SPENT_NAMES,
    ArmRow,
    Page,
    Value,
    settings_text,
    show_value,
    shown_tree,
)
from sesa_agent.run_files import Line, RunFiles, env_title, read_object, read_run_files

NOTE = "Means over seeds with 95 % t intervals; with one seed an interval is over puzzles."
"""For files without notes of their own."""


def comparison_page(path: Path, runs: Path) -> Page:
    """Build the report of a comparison.

    Args:
        path: its JSON file.
        runs: a folder that may contain the run folders of its arms. Without them the report has no
            episodes, and its curves only have the evaluations.

    Raises:
        SettingError: if the file is of another kind, or damaged.
    """
    values = read_object(path)
    if not values.get("arms") or not isinstance(values.get("table"), list):
        raise SettingError(
            f"{path} is not a comparison: it has no table of arms. Give a .json file that "
            "sesa-agent compare or reproduce wrote, or a run folder."
        )
    with reading(path):
        return _page(values, find_runs(values["arms"], runs))


def find_runs(arms: Sequence[Mapping[str, Any]], runs: Path) -> list[RunFiles]:
    """Find the run folders of a comparison's arms: those with the same result.

    Args:
        arms: results of `run_arm`.
        runs: a folder that contains them, at most three levels deep.

    Returns:
        Their files, in the order of the arms; arms whose folder is not found or damaged are left
        out.
    """
    wanted = {_identity(arm): place for place, arm in enumerate(arms)}
    found = {}
    for depth in ("*", "*/*", "*/*/*"):
        for file in sorted(runs.glob(f"{depth}/{ARM_FILE}")):
            try:
                place = wanted.get(_identity(read_object(file)))
                if place is not None:
                    found[place] = read_run_files(file.parent)
            except SettingError:
                continue
    return [found[place] for place in sorted(found)]


def _identity(arm: Mapping[str, Any]) -> str:
    keys = ("env", "label", "seed", *SPENT, "measured")
    return json.dumps([arm.get(key) for key in keys], sort_keys=True)


def _arm_line(arm: Mapping[str, Any]) -> Line:
    """The log of an arm without a run folder: its evaluations only."""
    return Line(arm["env"], arm["label"], arm["seed"], tuple(arm["curve"]))


def _page(values: Mapping[str, Any], found: Sequence[RunFiles]) -> Page:
    comparison = values.get("comparison", {})
    tested = {(row["env"], row["label"]): row for row in comparison.get("rows", ())}
    rows = [
        _row(row, tested.get((row["env"], row["label"]), {}), values["arms"])
        for row in values["table"]
    ]
    envs = list(dict.fromkeys(row.env for row in rows))
    logs = {_name(vars(run.line)): run.line for run in found}
    lines = [logs.get(_name(arm)) or _arm_line(arm) for arm in values["arms"]]
    first_seeds = {(run.line.env, run.line.label): run for run in reversed(found)}
    shown = [run for run in (_best_run(rows, first_seeds, env) for env in envs) if run]
    verdicts = [verdict([r for r in rows if r.env == env], comparison, env) for env in envs]
    facts = {
        "environments": ", ".join(map(short_env_name, envs)),
        "model": ", ".join(dict.fromkeys(values.get("models", {}).values())),
        "seeds": ", ".join(map(str, values.get("seeds", ()))),
        "in the paper": values.get("source", ""),
    }
    return Page(
        kind="Comparison",
        title=_title(str(values["experiment"]), rows),
        verdict=" ".join(verdicts),
        remarks=tuple(comparison.get("sentences", ())),
        notes=("Small dots are the seeds.", *comparison.get("notes", (NOTE,))),
        facts=tuple((name, text) for name, text in facts.items() if text),
        rows=tuple(rows),
        lines=tuple(line for line in lines if line.rows),
        events=(),
        episodes=tuple(episode for run in shown for episode in sample_episodes(run)),
        tree=next(filter(None, map(shown_tree, shown)), None),
        command=values.get("command", ""),
        versions=values.get("versions", {}),
        settings=tuple(
            (f"{short_env_name(env)}: {label}, seed {run.line.seed}", settings_text(run.settings))
            for (env, label), run in first_seeds.items()
        ),
    )


def _title(name: str, rows: Sequence[ArmRow]) -> str:
    if name in EXPERIMENTS:
        return EXPERIMENTS[name].title
    num_arms = len({row.label for row in rows})
    return f"{name.replace('_', ' ').capitalize()}: {num_arms} arms compared"


def _name(arm: Mapping[str, Any]) -> tuple[Any, ...]:
    return arm["env"], arm["label"], arm["seed"]


def _row(
    row: Mapping[str, Any], tested: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]
) -> ArmRow:
    """A row of the file's table, with its test results and what its training spent on average."""
    seeds = [arm for arm in arms if (arm["env"], arm["label"]) == (row["env"], row["label"])]
    spent = {
        key: sum(arm[key] for arm in seeds) / len(seeds)
        for key in SPENT_NAMES
        if seeds and all(key in arm for arm in seeds)
    }
    numbers = {
        name: _value(value) for name, value in row["values"].items() if value["mean"] is not None
    }
    texts = {}
    if tested and tested["iqm"]["mean"] is not None:
        texts["interquartile mean"] = show_value(_value(tested["iqm"]))
    if tested and tested["gain"] is not None:
        relative = tested["relative_gain"]
        texts["over base"] = (
            f"{tested['gain']:+.3f}",
            "" if relative is None else f"{relative:+.0%}",
        )
    return ArmRow(row["env"], row["label"], numbers, spent, texts)


def _value(value: Mapping[str, Any]) -> Value:
    each = tuple(number for number in value["each"] if number is not None)
    has_interval = value["low"] is not None
    return Value(value["mean"], (value["low"], value["high"]) if has_interval else None, each)


def _best_run(
    rows: Sequence[ArmRow], runs: Mapping[tuple[str, str], RunFiles], env: str
) -> RunFiles | None:
    """The first seed of the best arm by its first number, among arms whose folder was found."""
    mine = [row for row in rows if row.env == env and (env, row.label) in runs and row.values]
    if not mine:
        return None
    best = max(mine, key=lambda row: next(iter(row.values.values())).mean)
    return runs[env, best.label]


def verdict(rows: Sequence[ArmRow], comparison: Mapping[str, Any], env: str) -> str:
    """Say in one sentence what was found in an environment: by the tests, or the highest mean."""
    where = env_title(env)
    pairs = [
        pair for pair in comparison.get("pairs", ()) if pair["env"] == env and pair["other"] != BASE
    ]
    if pairs:
        return f"{where}: {_tested(pairs)}."
    ranked = [row for row in rows if row.values]
    if not ranked:
        return f"{where}: nothing was measured."
    name = next(iter(ranked[0].values))
    best = max(ranked, key=lambda row: row.values[name].mean)
    number, interval = show_value(best.values[name])
    return f"{where}: {best.label} has the highest {name}, {number} ({interval or 'one seed'})."


def _tested(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Group the other arms by the result of the test of the methods."""
    seen = [pair for pair in pairs if pair["methods_p"] is not None and pair["methods_p"] < ALPHA]
    groups = {
        "above {} (p < .05)": [pair for pair in seen if pair["difference"] > 0],
        "below {} (p < .05)": [pair for pair in seen if pair["difference"] < 0],
        "not significantly different from {}": [pair for pair in pairs if pair not in seen],
    }
    parts = [
        words.format(", ".join(pair["other"] for pair in group))
        for words, group in groups.items()
        if group
    ]
    return f"{pairs[0]['reference']} reaches {pairs[0]['rates'][0]:.3f} and is {'; '.join(parts)}"
