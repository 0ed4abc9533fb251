"""Runs an arm of an experiment: trains it, measures it on held-out puzzles, writes it down.

    <runs>/<experiment>/<arm>-seed0-1f3a9c/   a run folder as any other, and
                                   arm.json   what was measured

An arm's folder is named after all that decides its weights: its resolved settings, the arm that it
starts from, the model's files. So an arm that is finished is read and not run again, one that was
stopped goes on from its newest checkpoint, and one whose settings changed is another arm. Arms of
one experiment have one budget of policy calls, `optim.max_policy_calls`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..agents.policy import BUNDLED, Policy, bundled_model_folder
from ..configs.load import config_to_dict, load_config
from ..configs.schema import Config, SettingError
from ..sampling.seeds import evaluation_seeds
from ..training import trainer
from ..training.checkpoint import latest_checkpoint, read_state
from ..training.setup import (
    build_dialogue,
    build_engine,
    build_policy,
    resolve_auto,
    sampling_params,
)
from .evaluate import evaluate
from .validation import validate

RESULT_FILE = "arm.json"
"""What was measured, in an arm's run folder."""
BASE = "base"
"""The label of the arm that is not trained."""


@dataclass(frozen=True)
class Measurement:
    """How a policy is measured."""

    temperature: float
    num_puzzles: int
    """At most; `eval.final_episodes` is a cap too."""
    num_samples: int = 1
    """Attempts at each puzzle."""
    ks: tuple[int, ...] = ()
    """The k of pass@k and Coverage@k; empty for the powers of two."""
    split: str = "test"

    @property
    def name(self) -> str:
        """The name that its result goes by; an arm has one measurement a temperature."""
        return f"T={self.temperature:g}"


@dataclass(frozen=True)
class Arm:
    """One training run of an experiment, or the model before any (`label="base"`)."""

    label: str
    env: str
    method: str
    settings: tuple[str, ...]
    """`group.key=value` words of its own."""
    seed: int
    measurements: tuple[Measurement, ...]
    common: tuple[str, ...] = ()
    """Words of all arms, the budget among them; they have the last word."""
    start_from: "Arm | None" = None
    """The arm whose checkpoint it goes on from, with a method and a budget of its own."""
    start_step: int = 0
    """The step of that checkpoint; 0 for the last."""

    @property
    def is_trained(self) -> bool:
        """Whether the arm is more than the model it begins with."""
        return self.label != BASE


Result = dict[str, Any]
"""What an arm came to, ready for JSON; `run_arm` says what is in it."""
Watch = Callable[[int, dict[str, float]], bool]
"""Told of the arm's own policy calls so far and the newest metrics; returns True to stop it."""


def resolve_arm(arm: Arm) -> Config:
    """Return the settings of an arm's run, every "auto" resolved.

    Raises:
        SettingError: in one line, if they do not fit.
    """
    words = [*arm.settings, *arm.common, f"seed={arm.seed}"]
    return resolve_auto(load_config(arm.env, arm.method, words))


def arm_folder(arm: Arm, runs: Path) -> Path:
    """Return the run folder of an arm.

    Args:
        arm: the arm.
        runs: the folder of the experiment's runs.
    """
    words = "".join(sign if sign.isalnum() else "-" for sign in f"{arm.env}-{arm.label}")
    while "--" in words:
        words = words.replace("--", "-")
    return runs / f"{words}-seed{arm.seed}-{_digest(arm)[:8]}"


def read_result(arm: Arm, runs: Path) -> Result | None:
    """Return what a finished arm came to; None if it is not finished or measured otherwise."""
    path = arm_folder(arm, runs) / RESULT_FILE
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    wanted = [asdict(measurement) for measurement in _measurements(arm, resolve_arm(arm))]
    return result if result["measurements"] == json.loads(json.dumps(wanted)) else None


def run_arm(arm: Arm, runs: Path, watch: Watch = lambda *_: False) -> Result | None:
    """Train an arm and measure it, or read its result if that was done before.

    Args:
        arm: the arm; the one that it starts from must be finished.
        runs: the folder of the experiment's runs.
        watch: progress display; may stop the arm, which then can go on later.

    Returns:
        None if it was stopped. Else the arm's label, env, method, settings, seed and start;
        `policy_calls`, `response_tokens`, `steps` and `seconds` of its training, without those of
        the arm it starts from; `measured`, an `Evaluation` by the name of its measurement; and
        `curve`, a row for every evaluation on the validation puzzles.

    Raises:
        SettingError: in one line, for settings that do not fit, or a checkpoint that is not there.
    """
    result = read_result(arm, runs)
    if result is not None:
        return result
    cfg, folder = resolve_arm(arm), arm_folder(arm, runs)
    policy = build_policy(cfg)
    build_dialogue(cfg, policy)  # a wrong model fails before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)), encoding="utf-8")
    start: dict[str, Any] = {"step": 0, "num_policy_calls": 0, "num_response_tokens": 0}
    if arm.start_from:
        start = _copy_start(arm, runs, folder)
    end, lines = dict(start), []
    if arm.is_trained:
        trained = _train(arm, cfg, folder, start, watch)
        if trained is None:
            return None
        policy, checkpoint = trained, latest_checkpoint(folder)
        assert checkpoint is not None, "a run that is finished has been saved"
        end, lines = read_state(checkpoint), _read_lines(folder)
    result = {
        "label": arm.label,
        "env": arm.env,
        "method": arm.method if arm.is_trained else "",
        "settings": [without_folder(word) for word in arm.settings],
        "seed": arm.seed,
        "start_from": arm.start_from.label if arm.start_from else "",
        "policy_calls": end["num_policy_calls"] - start["num_policy_calls"],
        "response_tokens": end["num_response_tokens"] - start["num_response_tokens"],
        "steps": end["step"] - start["step"],
        "seconds": _seconds(lines, start["step"]),
        "measurements": [asdict(measurement) for measurement in _measurements(arm, cfg)],
        "measured": measure(cfg, policy, _measurements(arm, cfg), arm.seed),
        "curve": curve(lines, start["step"]),
    }
    text = json.dumps(result, indent=1)
    draft = folder / f"{RESULT_FILE}.tmp"
    draft.write_text(text + "\n", encoding="utf-8")
    os.replace(draft, folder / RESULT_FILE)
    return json.loads(text)


def measure(
    cfg: Config, policy: Policy, measurements: Iterable[Measurement], seed: int = 0
) -> dict[str, Any]:
    """Measure a policy; `Evaluation.to_json` by the name of each measurement."""
    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    found = {}
    for how in measurements:
        seeds = evaluation_seeds(dialogue.make(), how.split, how.num_puzzles)
        params = sampling_params(cfg.engine, how.temperature, seed)
        result = evaluate(engine, dialogue, cfg.env.id, seeds, params, how.num_samples, how.ks)
        found[how.name] = result.to_json()
    return found


def curve(lines: Sequence[dict[str, Any]], start_step: int = 0) -> list[dict[str, Any]]:
    """Pick the evaluations out of a run's log.

    Args:
        lines: what `metrics.jsonl` holds, a line a step.
        start_step: first step of the arm itself. Its curve begins with the last evaluation before
            that, which is the one of the policy it starts from.

    Returns:
        A row for each evaluation: `step`, `policy_calls` made before it, `eval/...`, and the
        `rollout/signal_groups` of the step that follows it.
    """
    rows = []
    for before, line in zip([None, *lines], lines, strict=False):
        if "eval/success_rate" not in line:
            continue
        if line["step"] < start_step:
            rows.clear()
        calls = before["progress/policy_calls"] if before else 0
        kept = {name: value for name, value in line.items() if name.startswith("eval/")}
        signal_groups = {"rollout/signal_groups": line["rollout/signal_groups"]}
        rows.append({"step": line["step"], "policy_calls": calls, **kept, **signal_groups})
    return rows


def without_folder(word: str) -> str:
    """Leave out where something lies on this machine: only the last name of an absolute path.

    >>> without_folder("model.path=/data/models/tiny"), without_folder("runs/a")
    ('model.path=tiny', 'runs/a')
    """
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def _train(
    arm: Arm, cfg: Config, folder: Path, start: dict[str, Any], watch: Watch
) -> Policy | None:
    """Train to the arm's own budget on top of the calls of its start; None if it was stopped."""
    budget = cfg.optim.max_policy_calls
    if budget:
        total = start["num_policy_calls"] + budget
        cfg = replace(cfg, optim=replace(cfg.optim, max_policy_calls=total))
    stopped = False

    def watch_step(progress: trainer.Progress, metrics: dict[str, float]) -> bool:
        nonlocal stopped
        own_calls = progress.num_policy_calls - start["num_policy_calls"]
        is_last = progress.step >= cfg.optim.steps or 0 < budget <= own_calls
        stopped = watch(own_calls, metrics) and not is_last
        return stopped

    ks = sorted({k for how in _measurements(arm, cfg) for k in how.ks})

    # At the k of the experiment, so that its curve shows what its table shows.
    policy = trainer.train(cfg, folder, partial(validate, cfg, ks=ks), watch_step)
    return None if stopped else policy


def _measurements(arm: Arm, cfg: Config) -> list[Measurement]:
    cap = cfg.eval.final_episodes
    return [replace(how, num_puzzles=min(how.num_puzzles, cap)) for how in arm.measurements]


def _copy_start(arm: Arm, runs: Path, folder: Path) -> dict[str, Any]:
    """Copy the checkpoint and the log that the arm goes on from into its folder.

    Returns:
        The checkpoint's state.

    Raises:
        SettingError: if there is no such checkpoint.
    """
    assert arm.start_from is not None
    source = arm_folder(arm.start_from, runs)
    place = source / "checkpoints" / f"step-{arm.start_step:06d}"
    checkpoint = place if arm.start_step else latest_checkpoint(source)
    if checkpoint is None or not checkpoint.is_dir():
        raise SettingError(
            f"{arm.label} starts from step {arm.start_step or 'the last'} of "
            f"{arm.start_from.label}, which has no such checkpoint. Raise optim.keep_checkpoints."
        )
    target = folder / "checkpoints" / checkpoint.name
    if latest_checkpoint(folder) is None:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source / "metrics.jsonl", folder / "metrics.jsonl")
        draft = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(checkpoint, draft)
        draft.rename(target)
    return read_state(checkpoint)


def _digest(arm: Arm) -> str:
    """A name for all that decides the weights that an arm ends with."""
    values = config_to_dict(resolve_arm(arm))
    values["eval"].pop("final_episodes")
    start = [_digest(arm.start_from), arm.start_step] if arm.start_from else []
    weights = _model_digest(values["model"]["path"])
    text = json.dumps([arm.is_trained, values, start, weights], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _model_digest(path: str) -> str:
    """A name for the weights in a model's folder: by the sizes and beginnings of their files."""
    folder = bundled_model_folder(path) if path in BUNDLED else Path(path)
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(f"{file.name} {file.stat().st_size} ".encode() + opened.read(2**20))
    return digest.hexdigest()


def _read_lines(folder: Path) -> list[dict[str, Any]]:
    texts = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(text) for text in texts]


def _seconds(lines: Sequence[dict[str, Any]], start_step: int) -> float:
    """Seconds of the steps from `start_step` on."""
    before = [line["time_s"] for line in lines if line["step"] < start_step]
    return round(lines[-1]["time_s"] - (before[-1] if before else 0.0), 1) if lines else 0.0
