"""How experience is drawn: environments and agents meet here, and only here."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from ..agents.engines.base import Engine, SamplingParams, StreamEngine
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue
from .parallel import sample_parallel
from .single_pass import sample_single_pass
from .stream import stream_parallel, stream_trees
from .trajectory import Task, TrajectoryTree
from .tree import grow_trees
from .two_stage import sample_two_stage

Sampler = Callable[
    [Sequence[Task], Engine, Dialogue, SamplingConfig, SamplingParams, np.random.Generator],
    list[TrajectoryTree],
]

SAMPLERS: dict[str, Sampler] = {
    "parallel": sample_parallel,
    "tree": grow_trees,
    "single_pass": sample_single_pass,
    "two_stage": sample_two_stage,
}
"""Samplers by the name that `sampling.name` takes."""
STREAMED = {"parallel": stream_parallel, "tree": stream_trees}
"""Those that go on with every response as it ends, where the engine can."""
SINGLE_ANSWER_SAMPLERS = ("single_pass", "two_stage")
"""Those for tasks that one answer settles."""


def choose_sampler(name: str, engine: Engine) -> Sampler:
    """Return the sampler of that name in the form that suits the engine."""
    can_stream = isinstance(engine, StreamEngine) and name in STREAMED
    return cast(Sampler, STREAMED[name]) if can_stream else SAMPLERS[name]


def has_other_prompts(cfg: SamplingConfig) -> bool:
    """Return whether proposals are drawn under other prompts than the plain one."""
    is_sequential = cfg.name in ("tree", "single_pass")
    has_requests = cfg.proposer in ("history", "one_response")
    return cfg.name == "two_stage" or is_sequential and has_requests
