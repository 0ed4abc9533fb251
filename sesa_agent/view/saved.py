"""Reads the saved trees of a run, with their settings and a decoder for their prompts."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sesa_agent.agents.model_folder import named_folder
from sesa_agent.agents.pretrained import quiet_transformers
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import config_from_dict, no_code_words
from sesa_agent.configs.schema import Config
from sesa_agent.run_files import RunFiles, newest_trees, read_run_files
from sesa_agent.sampling.trajectory import TrajectoryTree
from sesa_agent.training.checkpoint import checkpoints
from sesa_agent.training.monitor import RESCUE, rescued_config

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class SavedTree:
    """A tree that a run saved."""

    step: int
    number: int
    """Its position among the trees of its step, from 1."""
    tree: TrajectoryTree
    cfg: Config
    """The settings of its step."""


def read_saved(folder: Path) -> tuple[RunFiles, list[SavedTree]]:
    """Read all saved trees of a run, the oldest first.

    Raises:
        SettingError: if it is not a run folder, has no trees, or a file in it is damaged.
    """
    run = read_run_files(folder)
    cfg = config_from_dict(run.settings, overrides=no_code_words(run.settings))
    rescue = min((event.step for event in run.events if event.kind == RESCUE.kind), default=None)
    rescued = cfg if rescue is None else rescued_config(cfg)
    by_step: dict[int, list[TrajectoryTree]] = {}
    for step, tree in newest_trees(folder):
        if len(tree):
            by_step.setdefault(step, []).append(tree)
    if not by_step:
        raise SettingError(
            f"{folder} has no saved trees yet: a run saves some with every checkpoint "
            "(optim.checkpoint_every) and at its end. Try again later."
        )
    return run, [
        SavedTree(step, number, tree, cfg if rescue is None or step <= rescue else rescued)
        for step in sorted(by_step)
        for number, tree in enumerate(by_step[step], start=1)
    ]


def prompt_decoder(run: RunFiles) -> Decode | None:
    """Return a function that decodes the ids of a prompt, with the tokenizer of the run's model.

    Returns:
        None if the tokenizer is not on this machine. No code of the model is run.
    """
    places = [str(checkpoint / "model") for checkpoint in checkpoints(run.folder)[-1:]]
    with suppress(SettingError):  # the name of a fetched model that is not here
        places.append(named_folder(str(run.settings["model"]["path"])))
    for place in places:
        from transformers import AutoTokenizer

        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(
                    place, local_files_only=True, trust_remote_code=False
                )
        except Exception:  # noqa: BLE001  whatever transformers and tokenizers raise
            continue
        return lambda ids: str(tokenizer.decode(list(ids)))
    return None
