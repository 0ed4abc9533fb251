"""The run that all parts of the campaign start, break and resume; and how two of them compare."""

import json
from pathlib import Path

from safetensors.torch import load_file

from .process import Case, run

STEPS = 4
SETTINGS = (
    "sampling.num_tasks=4",
    "sampling.max_trajectories=4",
    "optim.checkpoint_every=1",
    "optim.keep_checkpoints=2",
    "eval.every=2",
    "eval.episodes=4",
    "eval.final_episodes=4",
)
GAMES = {"sesa": "sokoban", "ragen": "frozen_lake", "dapo": "sokoban", "sesa-two-stage": "math"}
"""A method of each kind (tree, parallel, resampled groups, single answers) and its game."""
MORE = {
    "sesa": ("sampling.num_tasks=6",),
    "dapo": ("sampling.max_trajectories=6", "sampling.max_redraws=1"),
    "sesa-two-stage": ("sampling.max_trajectories=6",),
}


def train_words(method: str, folder: Path, *more: str) -> tuple[str, ...]:
    """The command that starts the run."""
    head = ("train", "--env", GAMES[method], "--method", method, "--steps", str(STEPS))
    words = (*SETTINGS, *MORE.get(method, ()), *more)
    last = {word.partition("=")[0]: word for word in words}  # a setting may be given once
    return (*head, "--output", str(folder), *last.values())


def resume_words(folder: Path) -> tuple[str, ...]:
    """The command that resumes the run."""
    return "train", "--resume", str(folder)


def again_words(method: str, folder: Path) -> tuple[str, ...]:
    """What a user types after a run was killed: resume it, or start it if nothing is there yet."""
    has_begun = (folder / "config.yaml").exists()
    return resume_words(folder) if has_begun else train_words(method, folder)


def whole_run(method: str, folder: Path) -> Path:
    """Run without any fault."""
    outcome = run(Case(f"{method}, undisturbed", train_words(method, folder), codes=(0,)))
    if outcome.fault:
        raise RuntimeError(f"the undisturbed run failed: {outcome.fault}")
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    if not all(json.loads(line)["train/tokens"] for line in lines):
        raise RuntimeError(f"{method} had a step that taught nothing: it would prove little")
    return folder


def difference(folder: Path, wanted: Path) -> str:
    """How a finished run differs from another: its newest checkpoint, its metrics and result.

    Returns:
        The first difference in a few words; empty if there is none but in times.
    """
    newest = Path("checkpoints") / f"step-{STEPS:06d}"
    for name in (newest / "model" / "model.safetensors", newest / "optimizer.safetensors"):
        if not (folder / name).exists() or not _holds_equal_tensors(folder / name, wanted / name):
            return f"another {name}"
    for name in (newest / "state.json", "metrics.jsonl", "result.json"):
        if not (folder / name).exists() or _values(folder / name) != _values(wanted / name):
            return f"another {name}"
    return ""


def _holds_equal_tensors(file: Path, other: Path) -> bool:
    """Whether two files hold the same bits; the order of names in a header is random."""
    ours, theirs = load_file(file), load_file(other)
    return ours.keys() == theirs.keys() and all(
        value.numpy().tobytes() == theirs[name].numpy().tobytes() for name, value in ours.items()
    )


def _values(file: Path) -> list[str]:
    """What a JSON file says in each line, or as a whole, without times."""
    text = file.read_text(encoding="utf-8")
    parts = text.splitlines() if file.suffix == ".jsonl" else [text]
    return [json.dumps(_timeless(json.loads(part))) for part in parts]


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not _is_time(key)}
    return value


def _is_time(key: str) -> bool:
    return key.startswith("time") or key.endswith("seconds")
