"""Detects policy collapse: rollouts become so similar that nothing is left to learn from.

Paper, section 5.1: Pass@16/Pass@1 falls towards 1, outputs become nearly identical, learning stalls
("dead policy"); sequential sampling revives it. Every indicator is a metric of training rollouts
and is compared with the run's own first steps, since games and models differ. A policy that solves
everything also has no signal left; nothing is reported then. Pure functions; for users see
docs/collapse.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..configs.load import TRUST, code_words, config_from_dict, config_to_dict
from ..configs.schema import Config
from .setup import resolve_auto

SHARE_LEFT = 1 / 3
"""An indicator is raised when at most this share of its initial value is left."""
RELIEF = 1.5
"""It is cleared above this many times that share, so that noise around the threshold is reported
only once."""
SOLVED = 0.9
"""From this success rate on, similar rollouts are no symptom: they are right."""
HOPELESS = 0.02
"""At most this share of groups with signal: the run has not begun to learn."""


@dataclass(frozen=True)
class Indicator:
    """A metric that falls to its floor as a policy collapses."""

    kind: str
    metric: str
    floor: float
    """Its value for a collapsed policy."""
    text: str
    """The warning, with `{now}` and `{first}`."""
    weight: str = ""
    """The metric that weights the steps in a mean; for a ratio its denominator."""
    is_collapse: bool = False
    """Whether it shows that nothing is left to learn, not only that responses become similar."""


INDICATORS = (
    Indicator(
        "entropy",
        "train/entropy",
        0.0,
        "The policy's entropy is {now:.3f} nats per token, {first:.3f} at first: its responses "
        "hardly vary any more.",
    ),
    Indicator(
        "alike",
        "rollout/actions_per_state",
        1.0,
        "Two rollouts at the same prompt take {now:.2f} different actions, {first:.2f} at first: "
        "rollouts are becoming alike.",
    ),
    Indicator(
        "pass_ratio",
        "rollout/pass_ratio",
        1.0,
        "Pass@k/pass@1 of the training groups is {now:.2f}, {first:.2f} at first: further attempts "
        "find almost nothing new.",
        weight="rollout/success_rate",
        is_collapse=True,
    ),
    Indicator(
        "no_signal",
        "rollout/signal_groups",
        0.0,
        "The share of groups whose returns differ is {now:.2f}, {first:.2f} at first: there is "
        "almost nothing left to learn from.",
        is_collapse=True,
    ),
)
"""Indicators of policy collapse."""
FORGETTING = Indicator(
    "forgetting",
    "rollout/success_rate",
    0.0,
    "The success rate of rollouts is {now:.3f}, {first:.3f} at first: the policy is losing what "
    "it knew. Lower optim.lr, or loss.entropy_coef if the entropy rises.",
)
"""The policy gets worse without collapsing; a rescue would not help."""
DRIFT = 0.1
"""Mean gap between trainer and engine in nats per token; bfloat16 alone causes about .05."""
DRIFT_METRIC = "gap/engine_mean"
TOO_HARD = (
    "Hardly any group has had returns that differ: the task is too hard for this policy at the "
    "start. Make it easier (env.options), allow more turns (env.max_turns), raise "
    "engine.temperature or sampling.max_trajectories, or start from another model."
)
TOO_EASY = (
    "All rollouts of a group have had the same return so far, and nearly all succeed: the task is "
    "too easy to learn from. Make it harder (env.options)."
)
SAME_RETURNS = (
    "All rollouts of a group have had the same return so far, so there is nothing to learn from. "
    "Raise engine.temperature or sampling.max_trajectories."
)
NO_START = ("too_hard", "too_easy", "same_returns")
"""Kinds of symptoms of a run that has not begun to learn."""
EARLY = 5
"""Number of first steps without any signal after which that is said."""
READABLE = "rollout/readable_rate"
NUM_UNREADABLE = 3
"""Number of steps without readable responses after which that is said."""
SUCCESS = ("rollout/success_rate", "eval/success_rate")
"""The larger of the two counts: a tree's distinct rollouts succeed less often than the policy."""
WATCHED = {*SUCCESS, READABLE, DRIFT_METRIC, *(indicator.metric for indicator in INDICATORS)}


@dataclass(frozen=True)
class Symptom:
    """A problem of a run, described for the user."""

    kind: str
    text: str
    is_collapse: bool = False
    """Whether it calls for a rescue."""


RESCUE = Symptom(
    "rescue",
    "Rescue: from the next step on, distinct actions are sampled in sequence instead of "
    "independent rollouts, with the credit and loss of sesa. The learning rate stays.",
)
"""Not a problem, but reported in the same way."""


def remember(
    history: Sequence[Mapping[str, float]], metrics: Mapping[str, float], window: int
) -> list[dict[str, float]]:
    """Append a step's watched metrics; keep only the first and the latest `window` steps."""
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
    """Compare the latest steps of a run with its first.

    An indicator is raised if latest - floor <= `SHARE_LEFT` (first - floor), both means over
    `window` steps. pass@k/pass@1 cannot exceed 1 / pass@1, so it is compared with that bound if the
    bound is below its first value: a learning policy has fewer failures and is not collapsing.

    Args:
        history: metrics of the run's steps, or what `remember` kept of them. A metric missing in
            one of the windows raises nothing.
        window: steps per mean; a history of fewer than two windows raises nothing.
        standing: kinds raised before; their threshold is `RELIEF` times higher.

    Returns:
        The present symptoms; none if the success rate is at least `SOLVED`.

    >>> steps = [{"train/entropy": value} for value in (0.5, 0.5, 0.01, 0.01)]
    >>> [symptom.kind for symptom in diagnose(steps, window=2)]
    ['entropy']
    """
    if len(history) < 2 * window:
        return []
    first, latest = history[:window], history[-window:]
    success = max((_mean(latest, name) or 0.0 for name in SUCCESS), default=0.0)
    if success >= SOLVED:
        return []
    symptoms = []
    for indicator in (*INDICATORS, FORGETTING):
        kind, floor = indicator.kind, indicator.floor
        before, now = (
            _mean(steps, indicator.metric, indicator.weight) for steps in (first, latest)
        )
        if before is None or now is None or before <= floor:
            continue
        reachable = before
        if kind == "pass_ratio" and success > 0:
            reachable = min(before, 1 / success)
        share = SHARE_LEFT * (RELIEF if kind in standing else 1.0)
        if now - floor <= share * (reachable - floor):
            text = indicator.text.format(now=now, first=before)
            symptoms.append(Symptom(kind, text, indicator.is_collapse))
    signals = [_mean(steps, "rollout/signal_groups") for steps in (first, latest)]
    if all(signal is not None and signal <= HOPELESS for signal in signals):
        symptoms = [Symptom("too_hard", TOO_HARD)]
    return symptoms


def find_no_start(history: Sequence[Mapping[str, float]]) -> list[Symptom]:
    """Detect within a few steps that no group of a run has had any signal yet.

    >>> step = {"rollout/signal_groups": 0.0, "rollout/success_rate": 0.0}
    >>> [symptom.kind for symptom in find_no_start([step] * 5)]
    ['too_hard']
    """
    signals = [step.get("rollout/signal_groups", 1.0) for step in history]
    if len(history) < EARLY or any(signals):
        return []
    success = _mean(history, "rollout/success_rate") or 0.0
    if success <= HOPELESS:
        return [Symptom("too_hard", TOO_HARD)]
    if success >= SOLVED:
        return [Symptom("too_easy", TOO_EASY)]
    return [Symptom("same_returns", SAME_RETURNS)]


def find_drift(history: Sequence[Mapping[str, float]], window: int) -> list[Symptom]:
    """Detect that the engine samples from another distribution than the trainer's policy.

    >>> [symptom.kind for symptom in find_drift([{"gap/engine_mean": 0.3}], window=20)]
    ['drift']
    """
    gap = _mean(history[-window:], DRIFT_METRIC)
    if gap is None or gap <= DRIFT:
        return []
    text = (
        f"Log-probabilities of trainer and engine differ by {gap:.2f} nats per token on the same "
        "responses, so gradients are biased. Use model.dtype=float32, "
        "loss.engine_importance_cap=2 or "
        "engine.name=hf."
    )
    return [Symptom("drift", text)]


def latest_readable_rates(history: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the share of readable responses in each of the latest steps; empty if unknown."""
    latest = history[-NUM_UNREADABLE:]
    rates = [step[READABLE] for step in latest if READABLE in step]
    return rates if len(rates) == NUM_UNREADABLE else []


def is_collapsing(symptoms: Sequence[Symptom]) -> bool:
    """Return whether a rescue is due. Low entropy alone can also come from learning."""
    return any(symptom.is_collapse for symptom in symptoms)


def advise(symptom: Symptom, cfg: Config) -> str:
    """Advise on an indicator of collapse; empty for other symptoms, whose texts include advice."""
    if symptom.kind not in {indicator.kind for indicator in INDICATORS}:
        return ""
    if cfg.monitor.rescue == "auto":
        return "" if symptom.is_collapse else "Sequential sampling takes over if learning stops."
    if cfg.sampling.name == "parallel":
        return "Continue with --resume and --method sesa, or with monitor.rescue=auto."
    return "Lower optim.lr, or raise sampling.num_proposals and sampling.max_trajectories."


def rescued_config(cfg: Config) -> Config:
    """Return the settings with which a collapsing run continues.

    Args:
        cfg: of a run with independent rollouts, every "auto" resolved.

    Returns:
        The same settings, except that sampling and loss are those of `sesa` for the environment,
        overridden by the user's own changes, as with `--resume RUN --method sesa`. The learning
        rate stays.

    Raises:
        SettingError: if the user's changes do not fit `sesa`.
    """
    words = ["monitor.rescue=off", f"{TRUST}=false"]  # its model settings are not used
    words += code_words(cfg)
    switched = config_from_dict(config_to_dict(cfg), "sesa", words)
    rescued = replace(
        cfg,
        monitor=switched.monitor,
        # Replaces `parallel` also where the user set it in a run of `sesa`.
        sampling=replace(switched.sampling, name="tree"),
        loss=switched.loss,
    )
    return resolve_auto(rescued)


def _mean(steps: Sequence[Mapping[str, float]], metric: str, weight: str = "") -> float | None:
    """Mean over the steps that have the metric; None without steps or without weight."""
    pairs = [(step[metric], step.get(weight, 1.0)) for step in steps if metric in step]
    total = math.fsum(weight for _, weight in pairs)
    return math.fsum(value * weight for value, weight in pairs) / total if total else None
