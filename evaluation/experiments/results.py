"""What a run came to: what its training took, its curve, how its policy does on held-out puzzles.

A run folder that no experiment made is measured once; the result stays in it as `measured.json` and
is read as long as checkpoint, world and measurement are the same.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...agents.policy import BUNDLED, Policy, bundled_model_folder
from ...configs.errors import SettingError
from ...configs.load import config_to_dict
from ...configs.schema import Config
from ...training.checkpoint import latest_checkpoint, read_state
from ...training.progress import Progress
from ...training.setup import build_dialogue, build_engine, build_policy, sampling_params
from ..evaluate import evaluate

MEASURED_FILE = "measured.json"
"""What was measured of a finished run, in its folder."""
SPENT = ("policy_calls", "response_tokens", "env_steps", "seconds")
"""What training takes, as a log (`progress/...`) and a result name it."""
Result = dict[str, Any]
"""What a run came to, ready for JSON; `run_arm` in `experiment.py` says what is in it."""


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


def measure(
    cfg: Config, policy: Policy, measurements: Iterable[Measurement], seed: int = 0
) -> dict[str, Any]:
    """Measure a policy; `Evaluation.to_json` by the name of each measurement."""
    engine, dialogue = build_engine(cfg, policy), build_dialogue(cfg, policy)
    found = {}
    for how in measurements:
        seeds = dialogue.evaluation_seeds(how.split, how.num_puzzles)
        params = sampling_params(cfg.engine, how.temperature, seed)
        result = evaluate(engine, dialogue, cfg.env.id, seeds, params, how.num_samples, how.ks)
        found[how.name] = result.to_json()
    return found


def measure_run(
    folder: Path, cfg: Config, label: str, measurements: Sequence[Measurement]
) -> Result:
    """Measure the newest checkpoint of a run folder, or read what was measured of it before.

    Args:
        folder: the run folder.
        cfg: its resolved settings.
        label: what the run is called.
        measurements: how it is measured.

    Returns:
        A result as of `run_arm`.

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
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if any(kept.get(name) != value for name, value in key.items()):
        policy = build_policy(cfg, str(checkpoint / "model"))
        kept = {**key, "measured": measure(cfg, policy, measurements, cfg.seed)}
        write_json(path, kept)
    return {
        "label": label,
        "env": cfg.env.id,
        "method": cfg.method,
        "settings": [],
        "seed": cfg.seed,
        "start_from": "",
        **spent(Progress(**read_state(checkpoint)), Progress()),
        "measurements": key["measurements"],
        "measured": json.loads(json.dumps(kept["measured"])),
        "curve": curve(read_log(folder)),
    }


def spent(end: Progress, start: Progress) -> dict[str, Any]:
    """Say what the training from one place to another took: `steps` and `SPENT`."""
    return {
        "steps": end.step - start.step,
        "policy_calls": end.num_policy_calls - start.num_policy_calls,
        "response_tokens": end.num_response_tokens - start.num_response_tokens,
        "env_steps": end.num_env_steps - start.num_env_steps,
        "seconds": round(end.num_seconds - start.num_seconds, 1),
    }


def curve(lines: Sequence[dict[str, Any]], start_step: int = 0) -> list[dict[str, Any]]:
    """Pick the evaluations out of a run's log.

    Args:
        lines: what `metrics.jsonl` holds, a line a step.
        start_step: first step of the arm itself. Its curve begins with the last evaluation before
            that, which is the one of the policy it starts from.

    Returns:
        A row for each evaluation: `step`, `SPENT` before it, `eval/...`, and the
        `rollout/signal_groups` of the step that follows it.
    """
    rows = []
    for before, line in zip([None, *lines], lines, strict=False):
        if "eval/success_rate" not in line:
            continue
        if line["step"] < start_step:
            rows.clear()
        spent_before = {name: (before or {}).get(f"progress/{name}", 0) for name in SPENT}
        kept = {name: value for name, value in line.items() if name.startswith("eval/")}
        signal_groups = {"rollout/signal_groups": line["rollout/signal_groups"]}
        rows.append({"step": line["step"], **spent_before, **kept, **signal_groups})
    return rows


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the metrics of a run folder, a line a step."""
    texts = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(text) for text in texts]


def weights_digest(path: str) -> str:
    """Name the weights in a model's folder: by the sizes and beginnings of their files."""
    folder = bundled_model_folder(path) if path in BUNDLED else Path(path)
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(f"{file.name} {file.stat().st_size} ".encode() + opened.read(2**20))
    return digest.hexdigest()


def write_json(path: Path, values: Any) -> None:
    """Write a file in one step: a kill leaves the old text or the new."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)
