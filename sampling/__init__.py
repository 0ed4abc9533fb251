"""How experience is sampled: environments and agents meet here, and only here.

A new sampler is one function in a file of its own and a line in `SAMPLERS` (docs/extending.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..configs.schema import SamplingConfig
from .arpo import sample_arpo
from .dars import sample_dars
from .forking import sample_cure, sample_tree_grpo, sample_tree_rl
from .go_explore import sample_go_explore
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
    needs_state_key: bool = False
    """Whether the environment must have a `state_key`."""


SAMPLERS: dict[str, Sampler] = {
    "parallel": Sampler(sample_parallel),
    "tree": Sampler(grow_trees, uses_other_prompts=_asks_in_words),
    "single_pass": Sampler(sample_single_pass, True, _asks_in_words),
    "two_stage": Sampler(sample_two_stage, True, lambda cfg: True),
    "tree_grpo": Sampler(sample_tree_grpo),
    "tree_rl": Sampler(sample_tree_rl),
    "cure": Sampler(sample_cure),
    "arpo": Sampler(sample_arpo),
    "go_explore": Sampler(sample_go_explore, needs_state_key=True),
    "dars": Sampler(sample_dars),
    "dars_hw": Sampler(partial(sample_dars, weighs_hard=True)),
}
"""Samplers by the value of `sampling.name`."""
