"""Runs one arm of an experiment: trains it, measures it on held-out puzzles, stores the result.

    <runs>/<experiment>/<arm>-seed0-1f3a9c/   an ordinary run folder, with
                                   arm.json   the result

The name of an arm's folder ends with a digest of everything that determines its weights: the
resolved settings, the arm that it starts from and the files of the model. So the result of a
finished arm is reused, a stopped arm resumes from its newest checkpoint, and an arm with other
settings gets another folder. All arms of an experiment have the same budget:
`optim.max_policy_calls` or another of `progress.BUDGETS`. Arms with lessons begin with the warm
start of their seed (`starts.py`).
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from ...configs.errors import SettingError
from ...configs.load import config_to_dict, load_config, method_label
from ...configs.schema import Config
from ...configs.task_files import is_task_file
from ...configs.writing import replace_text, writing
from ...configs.yaml_text import write_yaml
from ...training import trainer
from ...training.checkpoint import latest_checkpoint, tidy_checkpoints
from ...training.checkpoint_files import read_state
from ...training.progress import BUDGETS, Progress
from ...training.run_lock import locked
from ...training.run_log import read_metrics
from ...training.setup import build_agent, build_chat, resolve_auto, settle_prompts
from ..validation import validate
from .results import (
    Measurement,
    Result,
    curve,
    measure,
    read_kept,
    rollout_means,
    spent,
    tasks_digest,
    weights_digest,
    write_json,
)
from .starts import WHAT_COUNTS, Start, make_start, read_start

RESULT_FILE = "arm.json"
"""The result of an arm, in its run folder."""
BASE = "base"
"""The label of the untrained model, an arm without training."""
WARM_START = "warm start"
"""The label of the model after its lessons, where the base is the model before them."""
LEFT_OVER = ("all", "weights", "nothing")
"""What may stay of the checkpoints of an arm that is measured: all of them, the newest without its
optimizer, or none."""


@dataclass(frozen=True)
class Arm:
    """One training run of an experiment, or the model before training (`label="base"`)."""

    label: str
    env: str
    method: str
    settings: tuple[str, ...]
    """Its own settings, as `group.key=value` words."""
    seed: int
    measurements: tuple[Measurement, ...]
    common: tuple[str, ...] = ()
    """The settings of all arms, including the budget; they override `settings`."""
    scale: str = ""
    """The preset of a model size and its machine; empty for none."""
    start_from: "Arm | None" = None
    """The arm whose last checkpoint it continues from, with its own method and budget."""
    lessons: int = 0
    """Most lessons of the warm start that its model gets before, with its seed; 0 for none."""
    left_over: str = "all"
    """One of `LEFT_OVER`. Without the optimizer it can be evaluated and not be trained further;
    without weights another measurement trains it again."""

    @property
    def is_trained(self) -> bool:
        """Whether the arm is trained: all but the base and the warm start."""
        return self.label not in (BASE, WARM_START)

    @property
    def warm_start(self) -> Start | None:
        """The warm start of its model, which arms of the same seed share; None for none."""
        if not self.lessons:
            return None
        typed = [*self.settings, *self.common]
        words = tuple(word for word in typed if word.partition(".")[0] in WHAT_COUNTS)
        return Start(self.env, self.scale, words, self.seed, self.lessons)


Watch = Callable[[float, dict[str, float]], bool]
"""Called with the share of the arm's training that is done, from 0 to 1, and the newest metrics;
returns True to stop it. Before training it is called with the `lesson` of a warm start."""


def resolve_arm(arm: Arm, model: Path | None = None) -> Config:
    """Return the settings of an arm's run, every "auto" resolved.

    Args:
        arm: the arm.
        model: the folder of its warm start; None for the model before that.

    Raises:
        SettingError: in one line, for a setting that is not allowed.
    """
    words = [*arm.settings, *arm.common, f"seed={arm.seed}"]
    words += [f"model.path={model}"] if model else []
    return resolve_auto(load_config(arm.env, arm.method, words, arm.scale))


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
    """Return the stored result of an arm.

    Returns:
        None if it is not finished or was measured otherwise, or the file is damaged.
    """
    result = read_kept(arm_folder(arm, runs) / RESULT_FILE)
    wanted = [asdict(measurement) for measurement in _measurements(arm, resolve_arm(arm))]
    return result if result.get("measurements") == json.loads(json.dumps(wanted)) else None


def run_arm(arm: Arm, runs: Path, watch: Watch = lambda *_: False) -> Result | None:
    """Train and measure an arm, or reuse its stored result.

    Args:
        arm: the arm; the one that it starts from must be finished.
        runs: the folder of the experiment's runs.
        watch: progress display; may stop the arm, which can be resumed later.

    Returns:
        None if it was stopped. Otherwise `label`, `env`, `method`, `settings`, `seed` and
        `start_from` of the arm; `warm_start`, its lessons, if it had any; `steps` and `SPENT` of
        its training, without those of the arm it starts from; `measured`, an `Evaluation` by the
        name of its measurement; `rollout`, the means of `ROLLOUT_METRICS` over its steps; and
        `curve`, a row for every evaluation on the validation puzzles.

    Raises:
        SettingError: in one line, for a setting that is not allowed or a missing checkpoint.
        DiskError: if a file could not be written.
    """
    result = read_result(arm, runs)
    if result is not None:
        return result
    start, folder = arm.warm_start, arm_folder(arm, runs)
    if start and not make_start(start, runs, lambda given: watch(0.0, {"lesson": given.number})):
        return None
    cfg = resolve_arm(arm, start and start.folder(runs))
    with locked(folder):
        return _run_arm(arm, cfg, folder, runs, watch)


def _run_arm(arm: Arm, cfg: Config, folder: Path, runs: Path, watch: Watch) -> Result | None:
    """`run_arm` in a folder that no other process writes to."""
    start = _copy_start(arm, runs, folder) if arm.start_from else Progress()
    # A wrong model fails before anything else is written.
    session = _open_session(arm, cfg, folder, start) if arm.is_trained else None
    policy = session.agent.policy if session else build_agent(cfg).policy
    cfg = settle_prompts(cfg, build_chat(cfg, policy))
    replace_text(folder / "config.yaml", write_yaml(config_to_dict(cfg)))
    end, lines = start, []
    if session:
        if not _train(arm, session, start, watch):
            return None
        end, lines = session.progress, read_metrics(folder)
    result = {
        "label": arm.label,
        "env": arm.env,
        "method": method_label(arm.method) if arm.is_trained else "",
        "settings": [without_folder(word) for word in arm.settings],
        "seed": arm.seed,
        "start_from": arm.start_from.label if arm.start_from else "",
        **({"warm_start": read_start(Path(cfg.model.path))} if arm.lessons else {}),
        **spent(end, start),
        "measurements": [asdict(measurement) for measurement in _measurements(arm, cfg)],
        "measured": measure(cfg, policy, _measurements(arm, cfg), arm.seed),
        "rollout": rollout_means(lines, start.step),
        "curve": curve(lines, start.step),
    }
    write_json(folder / RESULT_FILE, result)
    if arm.left_over != "all":
        tidy_checkpoints(folder, keep_weights=arm.left_over == "weights")
    return json.loads(json.dumps(result))


def without_folder(word: str) -> str:
    """Remove paths of this machine: of an absolute path only the last name stays.

    >>> without_folder("model.path=/data/models/tiny"), without_folder("runs/a")
    ('model.path=tiny', 'runs/a')
    """
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def _open_session(arm: Arm, cfg: Config, folder: Path, start: Progress) -> trainer.Session:
    """Open the run of an arm, with its own budget on top of what its start has spent."""
    totals = {
        budget.limit: getattr(cfg.optim, budget.limit) + getattr(start, budget.count)
        for budget in BUDGETS
        if getattr(cfg.optim, budget.limit)
    }
    return trainer.open_session(replace(cfg, optim=replace(cfg.optim, **totals)), folder)


def _train(arm: Arm, session: trainer.Session, start: Progress, watch: Watch) -> bool:
    """Train an arm to its budget; returns False if it was stopped."""
    cfg = session.cfg
    start_share = start.share_done(cfg.optim)
    stopped = False

    def watch_step(progress: Progress, metrics: dict[str, float]) -> bool:
        nonlocal stopped
        share = progress.share_done(cfg.optim)
        own_share = min(1.0, (share - start_share) / (1.0 - start_share))
        stopped = watch(own_share, metrics) and share < 1
        return stopped

    # The k of the experiment, so that the curve shows what the table shows.
    ks = sorted({k for how in _measurements(arm, cfg) for k in how.ks})
    trainer.train(session, partial(validate, cfg, ks=ks), watch_step)
    return not stopped


def _measurements(arm: Arm, cfg: Config) -> list[Measurement]:
    cap = cfg.eval.final_episodes
    return [replace(how, num_puzzles=min(how.num_puzzles, cap)) for how in arm.measurements]


def _copy_start(arm: Arm, runs: Path, folder: Path) -> Progress:
    """Copy the checkpoint and the log that the arm continues from into its folder.

    Returns:
        The progress of that checkpoint.

    Raises:
        SettingError: if there is no such checkpoint.
    """
    assert arm.start_from is not None
    source = arm_folder(arm.start_from, runs)
    checkpoint = latest_checkpoint(source)
    if checkpoint is None:
        raise SettingError(
            f"{arm.label} continues from {arm.start_from.label}, which has no checkpoint in "
            f"{source}. Delete that folder to train it again."
        )
    target = folder / "checkpoints" / checkpoint.name
    if latest_checkpoint(folder) is None:
        draft = target.with_name(f".{target.name}.tmp")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / "metrics.jsonl", folder / "metrics.jsonl")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(checkpoint, draft)
            draft.rename(target)
    return Progress(**read_state(checkpoint))


def _digest(arm: Arm) -> str:
    """A digest of everything that determines the final weights of an arm."""
    values = config_to_dict(resolve_arm(arm))
    values["eval"].pop("final_episodes")
    values.pop("log")
    for key in ("shard", "patience"):  # of torchrun
        values["optim"].pop(key)
    values["engine"].pop("handover")  # of servers
    if not values["optim"]["lag"]:  # the same run as before there was such a setting
        values["optim"].pop("lag")
    start = [_digest(arm.start_from)] if arm.start_from else []
    start += [arm.warm_start.digest()] if arm.warm_start else []
    weights = weights_digest(values["model"]["path"])
    parts = [arm.is_trained, values, start, weights]
    if is_task_file(values["env"]["id"]):
        parts.append(tasks_digest(values["env"]["options"]))
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
