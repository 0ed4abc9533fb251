"""How experience is drawn: environments and agents meet here, and only here."""

from collections.abc import Callable, Sequence

import numpy as np

from ..agents.engine import Engine, SamplingParams
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue
from .parallel import sample_parallel
from .trajectory import Task, TrajectoryTree
from .tree import grow_trees

Sampler = Callable[
    [Sequence[Task], Engine, Dialogue, SamplingConfig, SamplingParams, np.random.Generator],
    list[TrajectoryTree],
]

SAMPLERS: dict[str, Sampler] = {"parallel": sample_parallel, "tree": grow_trees}
"""Samplers by the name that `sampling.name` takes."""
