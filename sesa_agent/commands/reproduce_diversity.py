"""`sesa-agent reproduce diversity`: distinct answers without training (paper, Figure 1)."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from sesa_agent.commands.experiment_progress import check_needs
from sesa_agent.commands.experiment_tables import say_written, write_results
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.configs.task_files import env_label
from sesa_agent.evaluation.diversity import NUM_ANSWERS, REGIMES, distinct_counts, draw_sets
from sesa_agent.evaluation.experiments.paper import QUICK_SHARE
from sesa_agent.evaluation.statistics import t_interval
from sesa_agent.plots import save_counts
from sesa_agent.screen import progress_bar
from sesa_agent.training.setup import (
    build_dialogue,
    build_engine,
    build_policy,
    resolve_auto,
    sampling_params,
)


@dataclass(frozen=True)
class Drawn:
    """What a regime gave with one seed."""

    distinct: list[int]
    """Different answers after each answer."""
    num_sets: int
    readable: float
    """Share of the answers that can be read."""
    cpu_s: float


def run_diversity(
    head: dict[str, Any],
    env: str,
    scale: str,
    seeds: Sequence[int],
    quick: bool,
    output: Path,
    overrides: list[str],
) -> None:
    """Sample answers to one puzzle in every regime and count the distinct ones (Figure 1).

    Args:
        head: first entries of the JSON file, as of `result_head`.
        env: an environment with single answers.
        scale: the preset of a model size and its machine; empty for none.
        seeds: of sampling.
        quick: sample a quarter of the answers.
        output: folder of the files.
        overrides: `group.key=value` words.
    """
    cfg = resolve_auto(load_config(env, "sesa-paper", overrides, scale))
    check(
        cfg.env.max_turns == 1,
        "--env",
        env,
        f"an environment with single answers, for which env.max_turns ({cfg.env.max_turns}) is 1",
        "Name path_exploration or math, or set env.max_turns=1 if one answer settles it.",
    )
    check_needs(cfg)
    num_answers = NUM_ANSWERS // QUICK_SHARE if quick else NUM_ANSWERS
    drawn = draw_regimes(cfg, seeds, num_answers)
    title = f"{env_label(env)}: distinct answers among {num_answers}, without training"
    rows = [_cells(name, each) for name, each in drawn.items()]
    counts = {name: [one.distinct for one in each] for name, each in drawn.items()}
    values = {
        **head,
        "source": "Figure 1",
        "env": env_label(env),
        "model": Path(cfg.model.path).name,
        "temperature": cfg.eval.temperature,
        "answers": num_answers,
        "proposer": cfg.sampling.proposer,
        "sets": {name: [one.num_sets for one in each] for name, each in drawn.items()},
        "distinct": counts,
        "readable": {name: [one.readable for one in each] for name, each in drawn.items()},
        "cpu_seconds": {name: [one.cpu_s for one in each] for name, each in drawn.items()},
    }
    columns = ("regime", "distinct answers", "95 % over seeds", "each seed", "sets")
    columns = (*columns, "readable", "CPU seconds")
    notes = "An unreadable answer counts as sampled, but not as distinct. Readable: the share of "
    notes += "answers. CPU seconds: of one seed."
    picture = write_results(values, f"{title} (Figure 1)", columns, rows, notes, output)
    save_counts(counts, title, picture)
    say_written(picture)


def draw_regimes(cfg: Config, seeds: Sequence[int], num_answers: int) -> dict[str, list[Drawn]]:
    """Sample answers in every regime, with a progress bar.

    Args:
        cfg: resolved settings of an environment with single answers.
        seeds: of sampling.
        num_answers: of each regime and seed.

    Returns:
        By the name of the regime what each seed gave.
    """
    policy = build_policy(cfg)
    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    drawn: dict[str, list[Drawn]] = {name: [] for name in REGIMES}
    with progress_bar() as bar:
        total = len(REGIMES) * len(seeds) * num_answers
        task = bar.add_task("answers", total=total, success="")
        num_before = 0
        for seed in seeds:
            params = sampling_params(cfg.engine, cfg.eval.temperature, seed)
            for name, regime in REGIMES.items():
                proposer = regime.proposer or cfg.sampling.proposer
                started = time.process_time()
                sets = draw_sets(
                    engine,
                    dialogue,
                    cfg.env.id,
                    regime.per_set,
                    params,
                    num_answers,
                    replace(cfg.sampling, proposer=proposer),
                    watch=lambda num, before=num_before: bar.update(task, completed=before + num),
                )
                cpu_s = round(time.process_time() - started, 2)
                num_before += num_answers
                answers = [answer for one in sets for answer in one]
                readable = 1 - answers.count(None) / len(answers)
                found = Drawn(distinct_counts(answers), len(sets), readable, cpu_s)
                drawn[name].append(found)
                bar.update(task, success=f"{name}, seed {seed}: {found.distinct[-1]} distinct")
    return drawn


def _cells(name: str, drawn: Sequence[Drawn]) -> tuple[str, ...]:
    """The line of a regime in the table."""
    last = [one.distinct[-1] for one in drawn]
    centre, low, high = t_interval(last)
    return (
        name,
        f"{centre:.1f}",
        "" if math.isnan(low) else f"{low:.1f} to {high:.1f}",
        ", ".join(map(str, last)),
        ", ".join(str(one.num_sets) for one in drawn),
        f"{fmean(one.readable for one in drawn):.2f}",
        f"{fmean(one.cpu_s for one in drawn):.0f}",
    )
