"""Distinct actions, one after another, batched over all open decisions.

The first proposal of a decision is drawn under the plain prompt x. Later ones see the earlier ones
(`history`) or are drawn from x without replacement (`without_replacement`). A proposal that reads
as the same action as an earlier one is asked again a bounded number of times, then dropped:
distinct means distinct (paper, section 3.1: "up to G distinct actions sequentially").
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..agents.engine import Completion, Engine, SamplingParams
from .dialogue import Dialogue, Position


@dataclass
class Decision:
    """An open node that asks for actions, and what it has been given."""

    position: Position
    width: int
    """Distinct actions wanted."""
    proposals: list[Completion] = field(default_factory=list)
    actions: list[str | None] = field(default_factory=list)
    """The action of each proposal; None is an action too: the unreadable one."""
    num_calls: int = 0
    num_duplicates: int = 0


def propose(
    engine: Engine,
    dialogue: Dialogue,
    decisions: Sequence[Decision],
    params: SamplingParams,
    rng: np.random.Generator,
    proposer: str = "history",
    max_retries: int = 2,
) -> None:
    """Fill every decision with up to `width` distinct proposals.

    Args:
        engine: draws the responses.
        dialogue: reads them.
        decisions: open nodes, filled in place. Each gets at least one proposal.
        params: how to draw; every batch gets a seed of its own from `rng`.
        rng: the step's random numbers.
        proposer: "history" or "without_replacement".
        max_retries: times a repeated action is asked for again.
    """
    pending = [decision for decision in decisions if decision.width > 0]
    while pending:
        prompts = [_prompt(dialogue, decision, proposer) for decision in pending]
        # Drawn from x itself, earlier proposals can be excluded outright; under a new list prompt
        # only its own repeats can, since the engine knows their probabilities under it.
        excluded = [list(d.proposals) if proposer != "history" else [] for d in pending]
        open_rows = list(range(len(pending)))
        for _ in range(max_retries + 1):
            completions = engine.generate(
                [prompts[row] for row in open_rows],
                reseeded(params, rng),
                [excluded[row] for row in open_rows],
            )
            repeats = []
            for row, completion in zip(open_rows, completions, strict=True):
                if not _accept(dialogue, pending[row], completion):
                    excluded[row].append(completion)
                    repeats.append(row)
            open_rows = repeats
            if not open_rows:
                break
        dropped = {id(pending[row]) for row in open_rows}
        pending = [d for d in pending if id(d) not in dropped and len(d.proposals) < d.width]


def reseeded(params: SamplingParams, rng: np.random.Generator) -> SamplingParams:
    """The same parameters with the next seed."""
    return replace(params, seed=int(rng.integers(2**62)))


def _prompt(dialogue: Dialogue, decision: Decision, proposer: str) -> tuple[int, ...]:
    if proposer == "without_replacement":
        return decision.position.prompt_ids
    earlier = [action for action in decision.actions if action is not None]
    return dialogue.proposal_prompt(decision.position, earlier)


def _accept(dialogue: Dialogue, decision: Decision, completion: Completion) -> bool:
    """Take a proposal unless its action is there already."""
    decision.num_calls += 1
    action = dialogue.read(decision.position, completion.text)
    if action in decision.actions:
        decision.num_duplicates += 1
        return False
    decision.proposals.append(completion)
    decision.actions.append(action)
    return True
