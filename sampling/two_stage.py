"""Two-stage sampling (paper, Algorithm 1), for tasks that one answer settles.

Stage I drafts G short sketches one after another, each asked for with the earlier ones in view:
s_j ~ pi(. | x, s_1, ..., s_{j-1}). Stage II solves along all of them in parallel, each solution
seeing x and its own sketch only: y_j ~ pi(. | x, s_j). What is trained is pi(y_j | x); sketches are
a way to find solutions and are not trained.

A sketch that repeats an earlier one is asked again a bounded number of times, then given up, so a
group may be smaller than G. Prompts that outgrow the limit leave out the earliest sketches, and the
last words of the sketch to be followed; both are counted.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..agents.engines.base import Engine, SamplingParams
from ..agents.parsing import read_sketch
from ..agents.prompts import SKETCH_STOP
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, check_single_answer
from .proposer import Decision, draw_distinct, reseeded
from .trajectory import ROOT, Task, TrajectoryTree


def sample_two_stage(
    tasks: Sequence[Task],
    engine: Engine,
    dialogue: Dialogue,
    cfg: SamplingConfig,
    params: SamplingParams,
    rng: np.random.Generator,
) -> list[TrajectoryTree]:
    """Draft `cfg.num_proposals` sketches for every task and solve along each, all tasks together.

    Args and returns are those of `grow_trees`: a solution is a child of the start and keeps its
    `sketch`. Proposals are numbered from 1, since none is drawn under x alone.

    Raises:
        SettingError: if an episode has several turns.
    """
    check_single_answer("two_stage", dialogue.max_turns)
    trees = [TrajectoryTree(task) for task in tasks]
    opened = [(tree, start) for tree in trees if (start := dialogue.open(tree))]
    drafts = [Decision(start, cfg.num_proposals) for _, start in opened]
    draft_sketches(engine, dialogue, drafts, cfg, params, rng)
    for (tree, _), draft in zip(opened, drafts, strict=True):
        tree.num_calls, tree.num_duplicates = draft.num_calls, draft.num_duplicates
        tree.num_cut_prompts += draft.num_cut_prompts
    _solve([tree for tree, _ in opened], engine, dialogue, drafts, params, rng)
    return trees


def draft_sketches(
    engine: Engine,
    dialogue: Dialogue,
    drafts: Sequence[Decision],
    cfg: SamplingConfig,
    params: SamplingParams,
    rng: np.random.Generator,
) -> None:
    """Stage I: fill every draft's `actions` with up to `width` distinct sketches.

    Args:
        engine: draws the sketches.
        dialogue: writes their prompts.
        drafts: starts of tasks, filled in place.
        cfg: the longest sketch, how sketches are kept apart, how often a repetition is asked again.
        params: temperature of the draws.
        rng: the step's random numbers.
    """
    same_prompt = cfg.proposer == "without_replacement"

    def read(draft: Decision, text: str) -> str | None:
        sketch = read_sketch(text)
        known = {earlier.casefold(): earlier for earlier in draft.readable}
        return sketch and known.get(sketch.casefold(), sketch)

    draw_distinct(
        engine,
        drafts,
        lambda draft: dialogue.sketch_prompt(draft.position, [] if same_prompt else draft.readable),
        read,
        replace(params, stop=(SKETCH_STOP,), max_new_tokens=cfg.sketch_tokens),
        rng,
        same_prompt,
        cfg.max_retries,
    )


def _solve(
    trees: list[TrajectoryTree],
    engine: Engine,
    dialogue: Dialogue,
    drafts: list[Decision],
    params: SamplingParams,
    rng: np.random.Generator,
) -> None:
    """Stage II: one solution along each sketch; without any sketch, one under x alone."""
    plans = [
        (tree, draft.position, sketch, index)
        for tree, draft in zip(trees, drafts, strict=True)
        for index, sketch in enumerate(draft.readable or [""], start=1)
    ]
    requests = [dialogue.solve_prompt(position, sketch) for _, position, sketch, _ in plans]
    prompts = [request.prompt_ids for request in requests]
    completions = engine.generate(prompts, reseeded(params, rng))
    for plan, request, completion in zip(plans, requests, completions, strict=True):
        tree, position, sketch, index = plan
        turn, _ = dialogue.play(position, completion, index if sketch else 0)
        tree.add(ROOT, replace(turn, sketch=sketch))
        tree.num_calls += 1
        tree.num_cut_prompts += request.is_cut
