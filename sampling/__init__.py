"""How experience is sampled: environments and agents meet here, and only here.

A new sampler is one function in a file of its own and a line in `SAMPLERS` (docs/extending.md).
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..configs.schema import SamplingConfig
from .parallel import sample_parallel
from .player import Sample
from .single_pass import sample_single_pass
from .tree import grow_trees
from .two_stage import sample_two_stage


def _asks_in_words(cfg: SamplingConfig) -> bool:
    return cfg.proposer in ("history", "one_response")


@dataclass(frozen=True)
class Sampler:
    """A way to sample experience, and what the trainer must know about it."""

    sample: Sample
    is_single_answer: bool = False
    """Whether it only handles tasks settled by a single answer."""
    uses_other_prompts: Callable[[SamplingConfig], bool] = lambda cfg: False
    """Whether any responses are sampled under prompts other than the plain one."""


SAMPLERS: dict[str, Sampler] = {
    "parallel": Sampler(sample_parallel),
    "tree": Sampler(grow_trees, uses_other_prompts=_asks_in_words),
    "single_pass": Sampler(sample_single_pass, True, _asks_in_words),
    "two_stage": Sampler(sample_two_stage, True, lambda cfg: True),
}
"""Samplers by the value of `sampling.name`."""
