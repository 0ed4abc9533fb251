"""`sesa-agent compare --env ID`: trains methods with the same budget and compares them."""

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sesa_agent.commands.experiment_progress import check_needs, run_with_bar
from sesa_agent.commands.experiment_tables import (
    file_name,
    result_head,
    typed_command,
    write_comparison,
)
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import (
    TRUST,
    choose,
    is_method_file,
    load_config,
    method_label,
    method_names,
    override_word,
)
from sesa_agent.configs.schema import Config
from sesa_agent.configs.task_files import REWARD, env_label, is_task_file
from sesa_agent.environments.ood_sets import usable_sets
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.environments.text_env import num_puzzles
from sesa_agent.evaluation.experiments.arms import BASE, Arm, resolve_arm
from sesa_agent.evaluation.experiments.paper import (
    CALLS,
    NUM_SEEDS,
    PASS_RATIO,
    SUCCESS,
    Plan,
    comparison_measurements,
    plan_arms,
)
from sesa_agent.evaluation.experiments.tuning import ledger_env, read_ledger
from sesa_agent.option_settings import refuse_fixed
from sesa_agent.outputs import check_writable
from sesa_agent.screen import say
from sesa_agent.training.progress import BUDGETS
from sesa_agent.training.setup import build_env

METHODS = "base,ragen,ragen-entropy,sesa-paper,sesa"
"""The arms of the paper's Table 1."""
ABLATION = (
    Plan(BASE),
    Plan("sesa"),
    Plan("- distinct", settings=("sampling.proposer=independent",)),
    Plan("- merging", settings=("sampling.merge_states=off",)),
    Plan(
        "- distinct, - merging",
        settings=("sampling.proposer=independent", "sampling.merge_states=off"),
    ),
    Plan("- gap correction", settings=("loss.history_correction=none",)),
    Plan("trajectory credit", settings=("loss.credit=trajectory",)),
    Plan("history proposer", settings=("sampling.proposer=history",)),
)
"""`sesa`, and `sesa` with one component changed at a time, or both that shape the tree."""
LIMITS = {budget.option: f"optim.{budget.limit}" for budget in BUDGETS}
"""The setting of each kind of `--budget`."""
FIXED = {
    "env.id": "--env",
    "method": "--methods",
    "seed": "--seeds",
    "output": "--runs",
    "eval.final_episodes": "--episodes",
    **dict.fromkeys(("optim.steps", *LIMITS.values()), "--budget"),
}
"""Settings that belong to an option of the command."""


@dataclass(frozen=True)
class CompareOptions:
    """The options that determine the arms of a comparison."""

    env: str
    """A short name, a Gymnasium id or a task file."""
    methods: str = ""
    """Methods and "base", separated by commas; empty for those of the paper's Table 1."""
    ablate: bool = False
    """Compare `sesa` with one component changed at a time, instead of `methods`."""
    num_seeds: int | None = None
    """Training seeds of each arm; None for the environment's default."""
    budget: str = ""
    """Such as "calls=80000"; empty for the environment's default, which exists without a scale."""
    episodes: int = 1024
    """Held-out puzzles."""
    overrides: Sequence[str] = ()
    """`group.key=value` words for all arms."""
    scale: str = ""
    """The preset of a model size and its machine; empty for none."""
    tuned: Path | None = None
    """A ledger of `sesa-agent tune`, whose best settings the arms get."""
    lessons: int = 0
    """Most lessons of a warm start of the model, made with the seed of each run; 0 for none."""
    left_over: str = "all"
    """What stays of the checkpoints of finished runs (`LEFT_OVER`)."""

    @property
    def name(self) -> str:
        """The name of the results files."""
        parts = [file_name(env_label(self.env)), self.scale, "ablation" if self.ablate else ""]
        return "-".join(filter(None, parts))

    def check_left_out(self) -> None:
        """Check that no option is given, apart from the episodes.

        Raises:
            SettingError: naming one that is.
        """
        values = {
            "--env": self.env,
            "--scale": self.scale,
            "--methods": self.methods,
            "--ablate": self.ablate,
            "--budget": self.budget,
            "--seeds": self.num_seeds,
            "--tuned": self.tuned,
            "--lessons": self.lessons,
            "KEY=VALUE": [w for w in self.overrides if w.partition("=")[0] not in (TRUST, REWARD)],
        }
        for option, value in values.items():
            check(not value, option, value, "left out with run folders")


def run_comparison(
    options: CompareOptions, reference: str, jobs: int | None, output: Path, runs: Path
) -> None:
    """Train and measure the arms of a comparison that are not finished yet; write the results.

    Args:
        options: determine the arms.
        reference: label of the arm against which the others are tested; "" for `sesa`.
        jobs: number of runs in parallel; None for 2, or with a scale 1.
        output: folder of the results.
        runs: folder of all runs; those of an environment have a folder of their own, so that an
            ablation finds the `sesa` of a comparison.

    Raises:
        SettingError: for a wrong option, before anything is trained.
    """
    arms = comparison_arms(options)
    jobs = jobs if jobs is not None else 1 if options.scale else 2  # a GPU has room for one
    check(jobs >= 1, "--jobs", jobs, "at least 1")
    reference = choose_reference(reference, [arm.label for arm in arms])
    for cfg in arms.values():
        check_needs(cfg)
    check_writable(output, "--output")
    check_writable(runs, "--runs")
    results = run_with_bar(
        arms, (SUCCESS, PASS_RATIO), runs / file_name(env_label(options.env)), jobs
    )
    command = typed_command()
    if len(results) < len(arms):
        say(f"Stopped. Resume with: {shlex.join(command)}")
        return
    first, cfg = next(iter(arms.items()))
    values = result_head(options.name, command, sorted({arm.seed for arm in arms}))
    if options.tuned:
        values["trials"] = read_ledger(options.tuned)[1]
    values |= {"models": {first.env: Path(cfg.model.path).name}, "budget": first.common[1]}
    title = f"{first.env}: success on {cfg.eval.final_episodes} held-out puzzles"
    write_comparison(values, title, [results[arm] for arm in arms], reference, output)


def comparison_arms(options: CompareOptions) -> dict[Arm, Config]:
    """Return the arms of a comparison with their resolved settings.

    Raises:
        SettingError: in one line, for a wrong option or setting.
    """
    env, scale, budget = options.env, options.scale, options.budget
    load_config(env, scale=scale)  # raises for an unknown environment or scale
    num_seeds = NUM_SEEDS.get(env, 3) if options.num_seeds is None else options.num_seeds
    check(1 <= num_seeds <= 10_000, "--seeds", num_seeds, "a number of seeds from 1 to 10000")
    check(options.episodes >= 2, "--episodes", options.episodes, "at least 2")
    check(options.lessons >= 0, "--lessons", options.lessons, "0, for none, or more")
    puzzle_seeds("test", options.episodes)  # raises if there are not enough puzzles
    is_clear = not (options.ablate and options.methods)
    check(is_clear, "--methods", options.methods, "left out with --ablate")
    advice = "The default budgets of the games are for the bundled models."
    check(bool(budget) or not scale, "--budget", budget, "given with --scale", advice)
    refuse_fixed(options.overrides, FIXED)
    plans = ABLATION if options.ablate else read_methods(options.methods or METHODS)
    if options.tuned:
        is_own = ledger_env(options.tuned) == env_label(env)
        check(is_own, "--tuned", str(options.tuned), f"a tuning of {env_label(env)}")
        plans = _with_best(plans, options.tuned)
    # The methods need different numbers of calls per step, so only the budget bounds a run.
    common = ("optim.steps=1000000", read_budget(env, budget))
    common = (*common, f"eval.final_episodes={options.episodes}", *options.overrides)
    if is_task_file(env):  # the arms have its name, and find it by its place
        common = (*common, override_word("env.options.path", os.path.abspath(env)))
        env = env_label(env)
    sets = usable_sets(load_config(env, overrides=options.overrides, scale=scale))
    measurements = comparison_measurements(options.episodes, sets)
    arms = plan_arms(
        plans,
        env,
        range(num_seeds),
        measurements,
        common,
        scale=scale,
        lessons=options.lessons,
        left_over=options.left_over,
    )
    configs = {arm: resolve_arm(arm) for arm in arms}
    num_tests = num_puzzles(build_env(next(iter(configs.values())))).get("test", options.episodes)
    advice = "The intervals are over puzzles."
    check(num_tests >= 2, "--env", options.env, "a file with at least 2 tasks for testing", advice)
    return _without_twins(configs) if options.ablate else configs


def _with_best(plans: Sequence[Plan], ledger: Path) -> list[Plan]:
    """Add each arm's best settings of a tuning; those that a plan changes itself stay its own."""
    best, _ = read_ledger(ledger)
    untuned = [plan.label for plan in plans if plan.label not in (BASE, *best)]
    if untuned:
        say(f"Not tuned by {ledger}, so with the settings of their presets: {', '.join(untuned)}.")
    return [replace(plan, settings=(*best.get(plan.label, ()), *plan.settings)) for plan in plans]


def read_methods(text: str) -> list[Plan]:
    """Parse methods, such as "base,ragen,sesa"; each is a name or the path of a method file.

    Raises:
        SettingError: if one is unknown, or there are not at least two different ones.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not is_method_file(name):
            choose("--methods", name, [BASE, *method_names()], "")
        elif method_label(name) == BASE:
            check(
                False, "--methods", name, f"a file of another name: {BASE} is the untrained model"
            )
    labels = [method_label(name) for name in names]
    is_comparison = len(labels) > 1 and len({*labels}) == len(labels)
    check(is_comparison, "--methods", text, "two or more methods of different names, as ragen,sesa")
    return [
        Plan(label) if name == BASE else Plan(label, name)
        for label, name in zip(labels, names, strict=True)
    ]


def read_budget(env: str, text: str) -> str:
    """Parse a budget, such as "calls=80000"; returns the setting.

    Raises:
        SettingError: if it is not a budget, or missing for an environment without a default.
    """
    known = ", ".join(f"{name}=N" for name in LIMITS)
    check(bool(text) or env in CALLS, "--budget", text, f"given with --env {env}: one of {known}")
    name, _, amount = (text or f"calls={CALLS[env]}").partition("=")
    is_whole = amount.isdecimal()
    is_amount = is_whole or (name == "seconds" and amount.replace(".", "", 1).isdecimal())
    is_right = name in LIMITS and is_amount and 0 < float(amount) < math.inf
    check(is_right, "--budget", text, f"one of {known}", "N is a number above 0.")
    return f"{LIMITS[name]}={amount}"


def choose_reference(name: str, labels: Sequence[str]) -> str:
    """Return the label of the reference arm: by default `sesa`, or the first trained arm.

    Raises:
        SettingError: if there is no such arm.
    """
    labels = list(dict.fromkeys(labels))
    trained = [label for label in labels if label != BASE]
    return choose("--reference", name or ("sesa" if "sesa" in labels else trained[0]), labels, "")


def _without_twins(configs: Mapping[Arm, Config]) -> dict[Arm, Config]:
    """Leave out arms whose change has no effect here, such as merging in episodes of one turn."""
    whole = {arm.seed: _in_effect(cfg) for arm, cfg in configs.items() if arm.label == "sesa"}
    keeps_all = {BASE, "sesa"}
    kept = {
        arm: cfg
        for arm, cfg in configs.items()
        if arm.label in keeps_all or _in_effect(cfg) != whole[arm.seed]
    }
    for label in dict.fromkeys(arm.label for arm in configs if arm not in kept):
        say(f"{label!r} is left out: it changes nothing here.")
    return kept


def _in_effect(cfg: Config) -> Config:
    """The settings that have an effect: with episodes of one turn, all but merging."""
    if cfg.env.max_turns > 1:
        return cfg
    return replace(cfg, sampling=replace(cfg.sampling, merge_states="off"))
