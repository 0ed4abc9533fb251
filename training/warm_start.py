"""A short supervised start: lessons of a few moves each, until the model answers readably.

Reinforcement learning needs some answers that can be read and that differ: a model that never keeps
the format earns no reward, one that always gives the same answer has nothing to choose from. So
lessons end as soon as most sampled answers are readable, and before they hardly vary.
`sesa-agent warm-start` runs it; `training/lessons.py` has the sources of moves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch

from ..agents.policy import Policy
from ..configs.schema import OptimConfig
from .batch import collate_pairs
from .lessons import Move
from .micro_batches import own_parts
from .update import build_optimizer, learning_rate, step_optimizer

LESSON_MOVES = 16
"""Moves of a lesson, which is one step of the optimizer."""
MEASURE_EVERY = 2
"""Lessons between two measurements."""


class Measured(Protocol):
    """What is measured of sampled answers; an `Evaluation` has it."""

    @property
    def readable_rate(self) -> float:
        """Share of the answers that can be read."""
        ...

    @property
    def answer_entropy(self) -> float | None:
        """Mean entropy of an answer in nats; None if unknown."""
        ...


@dataclass(frozen=True)
class StopRule:
    """When a warm start ends."""

    readable_rate: float = 0.95
    """Share of readable answers that is enough."""
    min_entropy: float = 0.5
    """Entropy of an answer, in nats, below which answers hardly vary."""
    max_lessons: int = 40
    """Most lessons."""

    def reason(self, num_lessons: int, measured: Measured) -> str:
        """Return why to stop after some lessons, in words; empty to go on."""
        rate, entropy = measured.readable_rate, measured.answer_entropy
        if rate >= self.readable_rate:
            return f"{rate:.0%} of the answers are readable ({self.readable_rate:.0%} is enough)"
        if entropy is not None and entropy < self.min_entropy:
            return (
                f"answers hardly vary: {entropy:.2f} nats each, below {self.min_entropy:g}, "
                f"with {rate:.0%} of them readable"
            )
        if num_lessons >= self.max_lessons:
            return f"{num_lessons} lessons are the most, with {rate:.0%} of the answers readable"
        return ""


@dataclass(frozen=True)
class Lesson:
    """A lesson that has been given."""

    number: int
    """Counts from 1."""
    loss: float
    """Mean of -log p over the tokens of its responses before the lesson, in nats."""
    measured: Measured | None
    """The newest measurement; None before the first."""


def give_lessons(
    policy: Policy,
    moves: Iterator[Move],
    optim: OptimConfig,
    rule: StopRule,
    measure: Callable[[], Measured],
    watch: Callable[[Lesson], bool] = lambda lesson: False,
) -> tuple[int, str]:
    """Teach a policy moves until the rule ends it.

    Args:
        policy: is trained in place.
        moves: without end.
        optim: learning rate, `warmup_steps`, `max_grad_norm`, `max_batch_tokens` and what else the
            optimizer needs.
        rule: when to stop.
        measure: samples answers of the policy as it is and measures them.
        watch: called after every lesson; returns True to stop at once.

    Returns:
        The number of lessons, and why they ended, in words; empty if `watch` ended them.

    Raises:
        FloatingPointError: if gradients are not finite, before they reach the weights.
    """
    optimizer = build_optimizer(policy, optim)
    number, reason, measured = 0, "", None
    while not reason:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(optim, number, share_done=0.0)
        loss = teach(policy, optimizer, list(islice(moves, LESSON_MOVES)), optim)
        number += 1
        if watch(Lesson(number, loss, measured)):
            break
        if number % MEASURE_EVERY == 0 or number >= rule.max_lessons:
            measured = measure()
            reason = rule.reason(number, measured)
    return number, reason


def teach(
    policy: Policy, optimizer: torch.optim.Optimizer, moves: Sequence[Move], optim: OptimConfig
) -> float:
    """Make the responses of some moves likelier, with one step of the optimizer.

    Returns:
        The loss before the step: the mean of -log p over all tokens of the responses, in nats.

    Raises:
        FloatingPointError: if the gradients are not finite; the step is not made.
    """
    batch = collate_pairs(moves)
    loss, num_tokens = 0.0, int(batch.loss_mask.sum())
    for part in own_parts(policy, batch, optim.max_batch_tokens):
        logprobs, _ = policy.logprobs(batch.select(part.distinct))  # (M, t)
        copies = torch.bincount(torch.tensor(part.kinds))  # (M,) equal rows are computed once
        share = -(logprobs.sum(1) * copies).sum() / num_tokens
        share.backward()
        loss += share.item()
    step_optimizer(optimizer, optim.max_grad_norm)
    return loss
