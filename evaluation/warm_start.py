"""What a warm start measures, and its optimizer; `training/warm_start.py` gives the lessons."""

from dataclasses import replace
from math import ceil

from ..configs.schema import Config, OptimConfig
from ..training.setup import Agent, sampling_params
from .evaluate import Evaluation, evaluate

LEARNING_RATE = 1e-4
"""Of AdamW in lessons, unless another one is asked for."""
WARMUP_LESSONS = 5
"""Lessons over which the learning rate rises."""
NUM_CHECKED = 64
"""Answers, about, that are sampled on training puzzles to see whether to stop."""
LEAST_CHECKED = 8
"""Fewest training puzzles of such a check."""


def lesson_optim(cfg: Config, lr: float = LEARNING_RATE) -> OptimConfig:
    """Return a run's settings of the optimizer with the schedule of lessons."""
    return replace(cfg.optim, lr=lr, warmup_steps=WARMUP_LESSONS, cooldown=0.0)


def check_answers(agent: Agent, cfg: Config, seed: int) -> Evaluation:
    """Sample some answers on training puzzles, to see whether to stop."""
    num_puzzles = max(LEAST_CHECKED, ceil(NUM_CHECKED / cfg.env.max_turns))
    return measure_answers(agent, cfg, "training", num_puzzles, 1, seed)


def measure_answers(
    agent: Agent, cfg: Config, split: str, num_puzzles: int, num_samples: int, seed: int
) -> Evaluation:
    """Measure answers to plain prompts at T = 1.

    Args:
        agent: a policy between two lessons, with its engine and dialogue.
        cfg: its settings.
        split: where the puzzles are from.
        num_puzzles: their number.
        num_samples: attempts at each.
        seed: of sampling.
    """
    seeds = agent.dialogue.evaluation_seeds(split, num_puzzles)
    params = sampling_params(cfg.engine, 1.0, seed, agent.dialogue.style.stop)
    agent.engine.load_weights(agent.policy)
    result = evaluate(agent.engine, agent.dialogue, cfg.env.id, seeds, params, num_samples)
    agent.engine.sleep()
    return result
