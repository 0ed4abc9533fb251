"""Warm starts of an experiment: a model after its lessons, made once for every seed.

    <runs>/<experiment>/<env>-start-seed0-5c1d07/   a model folder, with
                                         start.json   the lessons that were given

The arms of an experiment that begin with a warm start of one seed share its folder. What decides
its weights is in its name, as in that of an arm: the settings of environment, model and engine, the
files of the model, the lessons and the seed. Lessons are moves of the environment's own player, and
end as those of `sesa-agent warm-start` do. A stopped one is made again from its beginning.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...configs.load import config_to_dict, load_config
from ...configs.schema import Config
from ...configs.writing import writing
from ...training.lessons import Move, check_player, mixed, played_moves
from ...training.run_lock import locked
from ...training.setup import Agent, build_agent, resolve_auto
from ...training.warm_start import Lesson, StopRule, give_lessons
from ..warm_start import check_answers, lesson_optim
from .results import read_kept, weights_digest, write_json

START_FILE = "start.json"
"""What is written last into the folder of a warm start."""
WHAT_COUNTS = ("env", "model", "engine")
"""The groups of settings that decide what is taught."""


@dataclass(frozen=True)
class Start:
    """The warm start of a model."""

    env: str
    scale: str
    words: tuple[str, ...]
    """`group.key=value` words of `WHAT_COUNTS`."""
    seed: int
    lessons: int
    """Most lessons, of 16 moves each; `StopRule` has the other reasons to end them."""

    @property
    def cfg(self) -> Config:
        """Its settings, which are those of no method."""
        words = [*self.words, f"seed={self.seed}"]
        cfg = resolve_auto(load_config(self.env, "sesa", words, self.scale))
        return replace(cfg, engine=replace(cfg.engine, temperature=1.0))

    def digest(self) -> str:
        """A digest of everything that determines its weights."""
        values = config_to_dict(self.cfg)
        parts = [{group: values[group] for group in WHAT_COUNTS}, self.seed, self.lessons]
        text = json.dumps([*parts, weights_digest(self.cfg.model.path)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def folder(self, runs: Path) -> Path:
        """Return its model folder.

        Args:
            runs: the folder of the experiment's runs.
        """
        name = self.env.replace("/", "-").replace(":", "-")
        return runs / f"{name}-start-seed{self.seed}-{self.digest()[:8]}"


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a complete warm start."""
    return bool(read_start(folder))


def read_start(folder: Path) -> dict[str, Any]:
    """Read what was taught: the number of `lessons`, and the `reason` why they ended.

    Returns:
        Empty if the warm start is not complete.
    """
    return read_kept(folder / START_FILE)


def make_start(
    start: Start, runs: Path, watch: Callable[[Lesson], bool] = lambda lesson: False
) -> bool:
    """Teach the model and write it, unless that was done before.

    Args:
        start: what to teach.
        runs: the folder of the experiment's runs.
        watch: called after every lesson; returns True to stop, and nothing is written.

    Returns:
        Whether it is complete.

    Raises:
        SettingError: if the environment has no player whose moves can be taught, a setting or the
            model is wrong, or another process makes it.
        DiskError: if it could not be written.
        FloatingPointError: if gradients are not finite.
    """
    folder = start.folder(runs)
    if is_complete(folder):
        return True
    with locked(folder):
        cfg = start.cfg
        agent = build_agent(cfg)
        number, reason = give_lessons(
            agent.policy,
            _moves(agent, cfg),
            lesson_optim(cfg),
            StopRule(max_lessons=start.lessons),
            lambda: check_answers(agent, cfg, cfg.seed),
            watch,
        )
        if not reason:
            return False
        with writing(folder):
            agent.policy.save(folder)
        write_json(folder / START_FILE, {"lessons": number, "reason": reason})
    return True


def _moves(agent: Agent, cfg: Config) -> Iterator[Move]:
    check_player(agent.dialogue, cfg.env.id)
    rng = random.Random(cfg.seed)
    return mixed(played_moves(agent.dialogue, cfg.env.id, rng), rng)
