"""The result of a run: what its training spent, its curve, its success on held-out puzzles.

A finished run that is not an arm of an experiment is measured once. The result is stored in its
folder as `measured.json` and reused while checkpoint, environment and measurement stay the same.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ...agents.model_folder import named_folder
from ...agents.policy import Policy
from ...configs.errors import SettingError
from ...configs.json_text import read_json_file
from ...configs.load import config_to_dict, method_label
from ...configs.schema import Config
from ...configs.writing import replace_text
from ...environments.ood_sets import TEST
from ...environments.splits import SPLITS
from ...training.checkpoint import latest_checkpoint
from ...training.checkpoint_files import read_state
from ...training.progress import BUDGETS, Progress
from ...training.run_log import read_metrics
from ...training.setup import (
    build_dialogue,
    build_engine,
    build_policy,
    for_evaluation,
    sampling_params,
)
from ..evaluate import evaluate

MEASURED_FILE = "measured.json"
"""The measurements of a finished run, in its folder."""
SPENT = tuple(budget.name for budget in BUDGETS)
CPU_SECONDS = "cpu_seconds"
"""What training spends, by its names in logs (`progress/...`) and results."""
ROLLOUT_METRICS = ("distinct_answers", "signal_groups", "readable_rate")
"""What a result says of training rollouts, as the mean over steps."""
Result = dict[str, Any]
"""The result of a run, ready for JSON; `run_arm` in `arms.py` lists its keys."""


@dataclass(frozen=True)
class Measurement:
    """How a policy is measured."""

    temperature: float
    num_puzzles: int
    """Maximum number of puzzles; `eval.final_episodes` limits it too."""
    num_samples: int = 1
    """Attempts at each puzzle."""
    ks: tuple[int, ...] = ()
    """Values of k for pass@k and Coverage@k; empty for the powers of two."""
    split: str = "test"
    """`test`, `validation` or the name of an out-of-distribution set, on its test puzzles."""
    split_by: str = "content"
    """What decides the split of a puzzle. Results without it, by seed alone, are made again."""

    @property
    def name(self) -> str:
        """The key of its result: the temperature, and the name of an out-of-distribution set."""
        return f"T={self.temperature:g}" + (f" {self.ood_set}" if self.ood_set else "")

    @property
    def ood_set(self) -> str:
        """The out-of-distribution set; empty for a split."""
        return "" if self.split in SPLITS else self.split


def measure(
    cfg: Config, policy: Policy, measurements: Iterable[Measurement], seed: int = 0
) -> dict[str, Any]:
    """Measure a policy; returns `Evaluation.to_json` by the name of each measurement."""
    engine, found = build_engine(cfg, policy), {}
    for how in measurements:
        split = how.ood_set or TEST
        played = for_evaluation(replace(cfg, eval=replace(cfg.eval, split=split)))
        dialogue = build_dialogue(played, policy)
        seeds = dialogue.evaluation_seeds(TEST if how.ood_set else how.split, how.num_puzzles)
        params = sampling_params(cfg.engine, how.temperature, seed, dialogue.style.stop)
        result = evaluate(engine, dialogue, cfg.env.id, seeds, params, how.num_samples, how.ks)
        found[how.name] = result.to_json()
    return found


def measure_run(
    folder: Path, cfg: Config, label: str, measurements: Sequence[Measurement]
) -> Result:
    """Measure the newest checkpoint of a run folder, or reuse its stored measurements.

    Args:
        folder: the run folder.
        cfg: its resolved settings.
        label: the label of the run.
        measurements: how to measure it.

    Returns:
        A result with the keys of `run_arm`'s.

    Raises:
        SettingError: if the run has no checkpoint.
    """
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise SettingError(f"{folder} has no checkpoint yet. Train it: --resume {folder}.")
    values = config_to_dict(cfg)
    key = {
        "checkpoint": checkpoint.name,
        "weights": weights_digest(str(checkpoint / "model")),
        "played_with": {name: values[name] for name in ("env", "engine", "model")},
        "measurements": [asdict(how) for how in measurements],
    }
    key = json.loads(json.dumps(key))
    path = folder / MEASURED_FILE
    kept = read_kept(path)
    if any(kept.get(name) != value for name, value in key.items()):
        policy = build_policy(cfg, str(checkpoint / "model"))
        kept = {**key, "measured": measure(cfg, policy, measurements, cfg.seed)}
        write_json(path, kept)
    return {
        "label": label,
        "env": cfg.env.id,
        "method": method_label(cfg.method),
        "settings": [],
        "seed": cfg.seed,
        "start_from": "",
        **spent(Progress(**read_state(checkpoint)), Progress()),
        "measurements": key["measurements"],
        "measured": json.loads(json.dumps(kept["measured"])),
        "rollout": rollout_means(read_metrics(folder)),
        "curve": curve(read_metrics(folder)),
    }


def spent(end: Progress, start: Progress) -> dict[str, Any]:
    """Return what training spent between two points: `steps`, `SPENT` and `CPU_SECONDS`."""
    counts = {b.name: getattr(end, b.count) - getattr(start, b.count) for b in BUDGETS}
    return {
        "steps": end.step - start.step,
        **{name: round(count, 1) for name, count in counts.items()},
        CPU_SECONDS: round(end.num_cpu_seconds - start.num_cpu_seconds, 1),
    }


def curve(lines: Sequence[dict[str, Any]], start_step: int = 0) -> list[dict[str, Any]]:
    """Extract the evaluations from a run's log.

    Args:
        lines: the lines of `metrics.jsonl`, one per step.
        start_step: first step of the arm itself. Its curve begins with the last evaluation before
            that step: the one of the policy it starts from.

    Returns:
        A row for each evaluation: `step`, `SPENT` and `CPU_SECONDS` before it, `eval/...`, and the
        `rollout/signal_groups` of the step after it.
    """
    rows = []
    for before, line in zip([None, *lines], lines, strict=False):
        if "eval/success_rate" not in line:
            continue
        if line["step"] < start_step:
            rows.clear()
        names = (*SPENT, CPU_SECONDS)
        spent_before = {name: (before or {}).get(f"progress/{name}", 0) for name in names}
        kept = {name: value for name, value in line.items() if name.startswith("eval/")}
        signal_groups = {"rollout/signal_groups": line["rollout/signal_groups"]}
        rows.append({"step": line["step"], **spent_before, **kept, **signal_groups})
    return rows


def rollout_means(lines: Sequence[Mapping[str, Any]], start_step: int = 0) -> dict[str, float]:
    """Return the mean over steps of each of `ROLLOUT_METRICS`.

    Args:
        lines: the lines of `metrics.jsonl`, one per step.
        start_step: first step of the arm itself.

    >>> step = {"rollout/distinct_answers": 3.0, "rollout/signal_groups": 0.5}
    >>> rollout_means([step | {"step": 0}, step | {"step": 1, "rollout/signal_groups": 0.0}])
    {'distinct_answers': 3.0, 'signal_groups': 0.25}
    """
    found = {}
    for name in ROLLOUT_METRICS:
        key = f"rollout/{name}"
        values = [line[key] for line in lines if key in line and line["step"] >= start_step]
        found |= {name: fmean(values)} if values else {}
    return found


def weights_digest(path: str) -> str:
    """A digest of the weights in a model folder: of the sizes and beginnings of their files."""
    folder = Path(named_folder(path))
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(f"{file.name} {file.stat().st_size} ".encode() + opened.read(2**20))
    return digest.hexdigest()


def tasks_digest(options: Mapping[str, Any]) -> str:
    """A digest of task files, and of the module with the function that judges the answers.

    Args:
        options: `env.options` of the task file.
    """
    module = sys.modules.get(str(options.get("reward")).partition(":")[0])
    files = (options.get("path"), options.get("test_path"), getattr(module, "__file__", None))
    digest = hashlib.sha256()
    for file in filter(None, files):
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()


def read_kept(path: Path) -> dict[str, Any]:
    """Read a stored result; empty if there is none or it is damaged, so that it is made again."""
    try:
        values = read_json_file(path) if path.is_file() else {}
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file whole.

    Raises:
        DiskError: if it could not be written.
    """
    replace_text(path, json.dumps(values, indent=1) + "\n")
