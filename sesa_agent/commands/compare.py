"""`sesa-agent compare --env ID`: methods trained to one budget, side by side."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sesa_agent.commands.experiment_files import write_comparison
from sesa_agent.commands.experiment_run import (
    check_needs,
    refuse_fixed,
    result_head,
    run_with_bar,
    typed_command,
)
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import choose, load_config, method_names
from sesa_agent.configs.schema import Config
from sesa_agent.environments.splits import puzzle_seeds
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
from sesa_agent.runs import check_writable
from sesa_agent.screen import say

METHODS = "base,ragen,ragen-entropy,sesa-paper,sesa"
"""The arms of the paper's Table 1."""
ABLATION = (
    Plan(BASE),
    Plan("sesa"),
    Plan("- distinct", settings=("sampling.proposer=independent",)),
    Plan("- merging", settings=("sampling.merge_states=off",)),
    Plan("- gap correction", settings=("loss.history_correction=none",)),
    Plan("trajectory credit", settings=("loss.credit=trajectory",)),
    Plan("history proposer", settings=("sampling.proposer=history",)),
)
"""`sesa`, and `sesa` with one ingredient changed at a time."""
BUDGETS = {
    "calls": "optim.max_policy_calls",
    "tokens": "optim.max_response_tokens",
    "env_steps": "optim.max_env_steps",
    "seconds": "optim.max_seconds",
}
"""What all arms can have an equal budget of."""
FIXED = {
    "env.id": "--env",
    "method": "--methods",
    "seed": "--seeds",
    "output": "--runs",
    "eval.final_episodes": "--episodes",
    **dict.fromkeys(("optim.steps", *BUDGETS.values()), "--budget"),
}
"""Settings that an option of the command decides."""


def run_comparison(
    arms: Mapping[Arm, Config], name: str, reference: str, jobs: int, output: Path, runs: Path
) -> None:
    """Train and measure the arms of a comparison, or what is left of it; write its results.

    Args:
        arms: as of `comparison_arms`.
        name: of the files.
        reference: label of the arm that the others are tested against; "" for `sesa`.
        jobs: runs at a time.
        output: folder of the results.
        runs: folder of the runs, all those of the environment: an ablation finds the `sesa` of a
            comparison there.

    Raises:
        SettingError: for a wrong option, before anything is trained.
    """
    check(jobs >= 1, "--jobs", jobs, "at least 1")
    reference = choose_reference(reference, [arm.label for arm in arms])
    for cfg in arms.values():
        check_needs(cfg)
    check_writable(output, "--output")
    check_writable(runs, "--runs")
    results = run_with_bar(arms, (SUCCESS, PASS_RATIO), runs, jobs)
    command = typed_command()
    if len(results) < len(arms):
        say(f"Stopped. Go on with: {shlex.join(command)}")
        return
    first, cfg = next(iter(arms.items()))
    values = result_head(name, command, sorted({arm.seed for arm in arms}))
    values |= {"models": {first.env: Path(cfg.model.path).name}, "budget": first.common[1]}
    title = f"{first.env}: success on {cfg.eval.final_episodes} held-out puzzles"
    write_comparison(values, title, [results[arm] for arm in arms], reference, output)


def comparison_arms(
    env: str,
    methods: str,
    ablate: bool,
    num_seeds: int | None,
    budget: str,
    episodes: int,
    overrides: Sequence[str],
    scale: str = "",
) -> dict[Arm, Config]:
    """Return the arms of a comparison with their resolved settings.

    Args:
        env: a short name or a Gymnasium id.
        methods: presets and "base", with commas; "" for those of the paper's Table 1.
        ablate: `sesa` with one ingredient changed at a time, in place of `methods`.
        num_seeds: training seeds of each arm; None for the environment's own number.
        budget: as "calls=80000"; "" for the environment's own, which there is none of with a scale.
        episodes: held-out puzzles.
        overrides: `group.key=value` words for all arms.
        scale: the preset of a model's size and its machine; "" for none.

    Raises:
        SettingError: in one line, for an option or setting that does not fit.
    """
    load_config(env, scale=scale)  # raises for an unknown environment or scale
    num_seeds = NUM_SEEDS.get(env, 3) if num_seeds is None else num_seeds
    check(1 <= num_seeds <= 10_000, "--seeds", num_seeds, "a number of seeds from 1 to 10000")
    check(episodes >= 2, "--episodes", episodes, "at least 2")
    puzzle_seeds("test", episodes)  # raises if there are not so many
    check(not (ablate and methods), "--methods", methods, "left out with --ablate")
    advice = "The games' own budgets are those of the bundled models."
    check(bool(budget) or not scale, "--budget", budget, "given with --scale", advice)
    refuse_fixed(overrides, FIXED)
    plans = ABLATION if ablate else read_methods(methods or METHODS)
    # Steps of the methods differ in what they take, so only the budget bounds a run.
    common = ("optim.steps=1000000", read_budget(env, budget))
    common = (*common, f"eval.final_episodes={episodes}", *overrides)
    measurements = comparison_measurements(episodes)
    arms = plan_arms(plans, env, range(num_seeds), measurements, common, scale=scale)
    configs = {arm: resolve_arm(arm) for arm in arms}
    return _without_twins(configs) if ablate else configs


def read_methods(text: str) -> list[Plan]:
    """Read methods, as in "base,ragen,sesa".

    Raises:
        SettingError: if one is not known, or there are not two different ones.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        choose("--methods", name, [BASE, *method_names()], "")
    is_comparison = len(names) > 1 and len({*names}) == len(names)
    check(is_comparison, "--methods", text, "two or more different methods, as in ragen,sesa")
    return [Plan(name) if name == BASE else Plan(name, name) for name in names]


def read_budget(env: str, text: str) -> str:
    """Read a budget, as in "calls=80000", as the setting that it is.

    Raises:
        SettingError: if it is none, or not given for an environment without one of its own.
    """
    known = ", ".join(f"{name}=N" for name in BUDGETS)
    check(bool(text) or env in CALLS, "--budget", text, f"given with --env {env}: one of {known}")
    name, _, amount = (text or f"calls={CALLS[env]}").partition("=")
    is_whole = amount.isdecimal()
    is_amount = is_whole or (name == "seconds" and amount.replace(".", "", 1).isdecimal())
    is_right = name in BUDGETS and is_amount and 0 < float(amount) < math.inf
    check(is_right, "--budget", text, f"one of {known}", "N is a number above 0.")
    return f"{BUDGETS[name]}={amount}"


def choose_reference(name: str, labels: Sequence[str]) -> str:
    """Return the label that the others are tested against: by default `sesa`, if it is there.

    Raises:
        SettingError: if there is no such arm.
    """
    labels = list(dict.fromkeys(labels))
    trained = [label for label in labels if label != BASE]
    return choose("--reference", name or ("sesa" if "sesa" in labels else trained[0]), labels, "")


def _without_twins(configs: Mapping[Arm, Config]) -> dict[Arm, Config]:
    """Leave out arms whose change is none here, as merging where an episode is one turn."""
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
    """The settings without those that an environment of one turn does not use."""
    if cfg.env.max_turns > 1:
        return cfg
    return replace(cfg, sampling=replace(cfg.sampling, merge_states="off"))
