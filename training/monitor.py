"""Tells when a policy is dying: its rollouts grow alike, so nothing is left to learn from.

Paper, section 5.1: Pass@16/Pass@1 falls towards 1, outputs become nearly identical, learning stalls
("dead policy"); sequential sampling revives it. Every sign is a metric of training rollouts, and is
held against the run's own beginning, since games and models differ. A policy that solves everything
has no signal left either and is left alone. Pure functions; docs/collapse.md tells it to users.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..configs.load import config_from_dict, config_to_dict
from ..configs.schema import Config
from .setup import resolve_auto

SHARE_LEFT = 1 / 3
"""A sign is there once no more than this share is left of what the run began with."""
RELIEF = 1.5
"""It is over once this many times as much is there again, so that a number about the bound is told
of once."""
SOLVED = 0.9
"""Success from which on rollouts may be alike: they are right."""
HOPELESS = 0.02
"""Share of groups with signal below which a run has not begun to learn."""


@dataclass(frozen=True)
class Indicator:
    """A number that falls to its floor as a policy dies."""

    kind: str
    metric: str
    floor: float
    """Its value for a dead policy."""
    text: str
    """What is told, with `{now}` and `{first}`."""
    weight: str = ""
    """The number by which steps are weighted; a ratio by what it divides by."""
    is_deadly: bool = False
    """Whether it says that nothing is left to learn, and not only that responses grow alike."""


INDICATORS = (
    Indicator(
        "entropy",
        "train/entropy",
        0.0,
        "The policy's entropy is {now:.3f} nats a token, {first:.3f} at first: it hardly varies "
        "its responses any more.",
    ),
    Indicator(
        "alike",
        "rollout/actions_per_state",
        1.0,
        "Two rollouts at the same prompt take {now:.2f} different actions, {first:.2f} at first: "
        "they grow alike.",
    ),
    Indicator(
        "pass_ratio",
        "rollout/pass_ratio",
        1.0,
        "Pass@k/pass@1 of the training groups is {now:.2f}, {first:.2f} at first: further attempts "
        "find almost nothing.",
        weight="rollout/success_rate",
        is_deadly=True,
    ),
    Indicator(
        "no_signal",
        "rollout/signal_groups",
        0.0,
        "Only {now:.2f} of the groups have returns that differ, {first:.2f} at first: there is "
        "almost nothing left to learn from.",
        is_deadly=True,
    ),
)
"""The signs of dying."""
FORGETTING = Indicator(
    "forgetting",
    "rollout/success_rate",
    0.0,
    "Rollouts succeed in {now:.3f} of all cases, {first:.3f} at first: the policy is losing what "
    "it knew. Lower optim.lr, or loss.entropy_coef if the entropy rises.",
)
"""A policy that is being destroyed rather than dying: no rescue."""
DRIFT = 0.1
"""Mean gap of trainer and engine in nats a token; bfloat16 alone makes about .05."""
DRIFT_METRIC = "gap/engine_mean"
TOO_HARD = (
    "No group has had returns that differ: the task is too hard for this policy to begin with. "
    "Make it easier (env.options), raise sampling.max_trajectories, or begin with another model."
)
SUCCESS = ("rollout/success_rate", "eval/success_rate")
"""The rollouts of a tree are forced apart, so its success says less than the policy's own."""
WATCHED = {*SUCCESS, DRIFT_METRIC, *(sign.metric for sign in INDICATORS)}


@dataclass(frozen=True)
class Symptom:
    """Something that is wrong with a run, in plain words."""

    kind: str
    text: str
    is_deadly: bool = False
    """Whether a rescue is due."""


RESCUE = Symptom(
    "rescue",
    "Rescue: from the next step on distinct actions are drawn in sequence in place of independent "
    "rollouts, with the credit and the loss of sesa; the learning rate stays.",
)
"""Not wrong, but told of as well."""


def remember(
    history: Sequence[Mapping[str, float]], metrics: Mapping[str, float], window: int
) -> list[dict[str, float]]:
    """Append what is watched of a step; only the run's first and newest `window` steps are kept."""
    numbers = {
        name: float(metrics[name])
        for name in sorted(WATCHED & set(metrics))
        if math.isfinite(metrics[name])
    }
    kept = [*map(dict, history), numbers]
    return kept if len(kept) <= 2 * window else [*kept[:window], *kept[-window:]]


def diagnose(
    history: Sequence[Mapping[str, float]], window: int, standing: Sequence[str] = ()
) -> list[Symptom]:
    """Compare the newest steps of a run with its first.

    A sign stands if mean - floor <= `SHARE_LEFT` (first - floor), the means being over `window`
    steps. pass@k/pass@1 cannot exceed 1 / pass@1, so it is held against that where it is less than
    at first: a policy that learns is not dying because fewer failures are left.

    Args:
        history: metrics of the run's steps, or what `remember` kept of them. A number that does not
            exist in either window is no sign.
        window: steps whose means are compared; with fewer than twice as many nothing is said.
        standing: kinds found before; they take `RELIEF` times as much to be over.

    Returns:
        What is wrong now; nothing for a policy that succeeds in `SOLVED` of all cases.

    >>> steps = [{"train/entropy": value} for value in (0.5, 0.5, 0.01, 0.01)]
    >>> [symptom.kind for symptom in diagnose(steps, window=2)]
    ['entropy']
    """
    if len(history) < 2 * window:
        return []
    first, now = history[:window], history[-window:]
    success = max((_mean(now, name) or 0.0 for name in SUCCESS), default=0.0)
    if success >= SOLVED:
        return []
    symptoms = []
    for sign in (*INDICATORS, FORGETTING):
        before, after = (_mean(steps, sign.metric, sign.weight) for steps in (first, now))
        if before is None or after is None or before <= sign.floor:
            continue
        reach = before
        if sign.kind == "pass_ratio" and success > 0:
            reach = min(before, 1 / success)
        share = SHARE_LEFT * (RELIEF if sign.kind in standing else 1.0)
        if after - sign.floor <= share * (reach - sign.floor):
            text = sign.text.format(now=after, first=before)
            symptoms.append(Symptom(sign.kind, text, sign.is_deadly))
    signals = [_mean(steps, "rollout/signal_groups") for steps in (first, now)]
    if all(signal is not None and signal <= HOPELESS for signal in signals):
        symptoms = [Symptom("too_hard", TOO_HARD)]
    return symptoms


def find_drift(history: Sequence[Mapping[str, float]], window: int) -> list[Symptom]:
    """Tell when the engine no longer draws from what the trainer takes for the policy.

    >>> [symptom.kind for symptom in find_drift([{"gap/engine_mean": 0.3}], window=20)]
    ['drift']
    """
    gap = _mean(history[-window:], DRIFT_METRIC)
    if gap is None or gap <= DRIFT:
        return []
    text = (
        f"Trainer and engine differ by {gap:.2f} nats a token on the same responses: gradients "
        "are those of another policy. Take model.dtype=float32, loss.engine_importance_cap=2 or "
        "engine.name=hf."
    )
    return [Symptom("drift", text)]


def is_collapsing(symptoms: Sequence[Symptom]) -> bool:
    """Return whether a rescue is due. Less entropy alone may be how learning goes."""
    return any(symptom.is_deadly for symptom in symptoms)


def advise(symptom: Symptom, cfg: Config) -> str:
    """Say what to do about a sign of dying; nothing for what names its own remedy."""
    if symptom.kind not in {sign.kind for sign in INDICATORS}:
        return ""
    if cfg.monitor.rescue == "auto":
        return "" if symptom.is_deadly else "Sequential sampling takes over if learning stops."
    if cfg.sampling.name == "parallel":
        return "Go on with --resume and --method sesa, or with monitor.rescue=auto."
    return "Lower optim.lr, or raise sampling.num_proposals and sampling.max_trajectories."


def rescued_config(cfg: Config) -> Config:
    """Return the settings that a dying run goes on with.

    Args:
        cfg: of a run with independent rollouts, every "auto" resolved.

    Returns:
        The same with the sampling and the loss of `sesa` in its environment, and what the user
        changed laid over them, as for `--resume RUN --method sesa`. The learning rate stays.

    Raises:
        SettingError: if what the user changed does not fit there.
    """
    switched = config_from_dict(config_to_dict(cfg), "sesa", ["monitor.rescue=off"])
    rescued = replace(
        cfg,
        monitor=switched.monitor,
        # A run of `sesa` that was told to draw independent rollouts changes too.
        sampling=replace(switched.sampling, name="tree"),
        loss=switched.loss,
    )
    return resolve_auto(rescued)


def _mean(steps: Sequence[Mapping[str, float]], metric: str, weight: str = "") -> float | None:
    """Mean over the steps that have the number; None if there is none, or none of any weight."""
    pairs = [(step[metric], step.get(weight, 1.0)) for step in steps if metric in step]
    total = math.fsum(weight for _, weight in pairs)
    return math.fsum(value * weight for value, weight in pairs) / total if total else None
