"""A game that one step settles, and two steps of training on it."""

from functools import partial
from pathlib import Path

import gymnasium

from sesa_agent.configs.load import load_config
from sesa_agent.environments import TextEnv
from sesa_agent.evaluation.validation import validate
from sesa_agent.training.setup import resolve_auto
from sesa_agent.training.trainer import open_session, train

from .toy_game import CorridorGame

ENV_ID = "tests.helpers.one_step:OneStep-v0"


class OneStepGame(CorridorGame):
    """The corridor, one step from its right end."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 1
        return self.place, {}


if "OneStep-v0" not in gymnasium.registry:
    gymnasium.register(
        "OneStep-v0",
        lambda **_: TextEnv(OneStepGame(), max_steps=1),
        order_enforce=False,
        disable_env_checker=True,
    )


def train_two_steps(model: Path, folder: Path, *settings: str) -> list[dict[str, float]]:
    """Train a tiny model on single answers; return the metrics of both steps."""
    small = [f"model.path={model}", "env.max_turns=1", "loss.credit=trajectory"]
    small += ["sampling.num_tasks=4", "sampling.num_proposals=4", "sampling.sketch_tokens=2"]
    small += ["engine.max_new_tokens=2", "optim.steps=2", "eval.every=2", "eval.episodes=2"]
    cfg = resolve_auto(load_config(ENV_ID, "sesa", [*small, *settings]))
    lines: list[dict[str, float]] = []

    def watch(progress, metrics: dict[str, float]) -> bool:
        lines.append(metrics)
        return False

    train(open_session(resolve_auto(cfg), folder), partial(validate, cfg), watch)
    return lines
