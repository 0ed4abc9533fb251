"""Distinct proposals, one after another, batched over all open decisions.

Three ways to keep the proposals of a decision apart (`sampling.proposer`): asked for with the
earlier ones in view, a response each (`history`); listed in one reply (`one_response`); drawn from
the plain prompt x without replacement (`without_replacement`). A proposal that reads as an earlier
one is asked again a bounded number of times, then dropped: distinct means distinct (paper, section
3.1: "up to G distinct actions sequentially"). `independent` draws do nothing of the kind: the
control that shows what distinctness is worth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..agents.engines.base import Completion, Engine, SamplingParams
from .dialogue import Dialogue, Position, Request


@dataclass
class Decision:
    """An open place that asks for proposals, and what it has been given."""

    position: Position
    width: int
    """Distinct proposals wanted."""
    proposals: list[Completion] = field(default_factory=list)
    actions: list[str | None] = field(default_factory=list)
    """What each proposal says; None is an action too: the unreadable one."""
    duplicates: list[tuple[int, Completion, str | None]] = field(default_factory=list)
    """Responses that were dropped: proposals that stood by then, and what it says that they did."""
    num_calls: int = 0
    num_cut_prompts: int = 0
    """Prompts that could not hold all earlier proposals."""

    @property
    def num_duplicates(self) -> int:
        """Responses that repeated an earlier proposal."""
        return len(self.duplicates)

    @property
    def readable(self) -> list[str]:
        """The actions that a later proposal can be told of."""
        return [action for action in self.actions if action is not None]


@dataclass
class _Question:
    """A decision asks for its next proposal."""

    decision: Decision
    request: Request
    excluded: list[Completion]
    """What was drawn for this prompt and must not come again."""
    num_retries: int = 0


def propose(
    engine: Engine,
    dialogue: Dialogue,
    decisions: Sequence[Decision],
    params: SamplingParams,
    rng: np.random.Generator,
    proposer: str = "history",
    max_retries: int = 2,
) -> None:
    """Fill every decision with up to `width` distinct actions.

    Args:
        engine: draws the responses.
        dialogue: reads them.
        decisions: open nodes, filled in place. Each gets at least one proposal.
        params: how to draw; every batch gets a seed of its own from `rng`.
        rng: the step's random numbers.
        proposer: "history", "one_response", "without_replacement" or "independent".
        max_retries: times a repeated action is asked for again.
    """
    if proposer == "independent":
        _draw_independent(engine, dialogue, decisions, params, rng)
        return

    def request(decision: Decision) -> Request:
        return next_request(dialogue, decision, proposer)

    draw_distinct(
        engine,
        decisions,
        request,
        lambda decision, text: dialogue.read(decision.position, text),
        params,
        rng,
        same_prompt=proposer == "without_replacement",
        max_retries=max_retries,
    )


def next_request(dialogue: Dialogue, decision: Decision, proposer: str) -> Request:
    """The prompt of a decision's next proposal."""
    if proposer in ("without_replacement", "independent") or decision.width == 1:
        return Request(decision.position.prompt_ids)
    if proposer == "one_response":
        pairs = zip(decision.proposals, decision.actions, strict=True)
        given = [proposal for proposal, action in pairs if action is not None]
        return dialogue.list_prompt(decision.position, decision.width, given)
    return dialogue.proposal_prompt(decision.position, decision.readable)


def _draw_independent(
    engine: Engine,
    dialogue: Dialogue,
    decisions: Sequence[Decision],
    params: SamplingParams,
    rng: np.random.Generator,
) -> None:
    """Draw `width` times under x; a repetition is paid for, not played and not asked again."""
    for place in range(max((decision.width for decision in decisions), default=0)):
        pending = [decision for decision in decisions if place < decision.width]
        prompts = [decision.position.prompt_ids for decision in pending]
        completions = engine.generate(prompts, reseeded(params, rng))
        for decision, completion in zip(pending, completions, strict=True):
            accept(decision, completion, dialogue.read(decision.position, completion.text))


def first_index(proposer: str, width: int) -> int:
    """The number of a decision's first proposal: 0 where it is drawn under x alone, else 1."""
    return int(proposer == "one_response" and width > 1)


def draw_distinct(
    engine: Engine,
    decisions: Sequence[Decision],
    request: Callable[[Decision], Request],
    read: Callable[[Decision, str], str | None],
    params: SamplingParams,
    rng: np.random.Generator,
    same_prompt: bool,
    max_retries: int,
) -> None:
    """Fill every decision with up to `width` proposals that read differently.

    Args:
        engine: draws the responses.
        decisions: filled in place.
        request: the prompt of a decision's next proposal.
        read: what a response says.
        params: how to draw; every batch gets a seed of its own from `rng`.
        rng: the step's random numbers.
        same_prompt: whether all proposals of a decision have one prompt, so that the earlier ones
            can be excluded from the draw.
        max_retries: times a repetition is asked for again.
    """

    def ask(decision: Decision) -> _Question:
        asked = request(decision)
        decision.num_cut_prompts += asked.is_cut
        # Under a new prompt only its own repeats can be excluded, since the engine knows their
        # probabilities under it.
        return _Question(decision, asked, list(decision.proposals) if same_prompt else [])

    # No decision waits for another: while one is asked again, the others go on.
    questions = [ask(decision) for decision in decisions if decision.width > 0]
    while questions:
        completions = engine.generate(
            [question.request.prompt_ids for question in questions],
            reseeded(params, rng),
            [question.excluded for question in questions],
        )
        after = []
        for question, completion in zip(questions, completions, strict=True):
            decision = question.decision
            if accept(decision, completion, read(decision, completion.text)):
                if len(decision.proposals) < decision.width:
                    after.append(ask(decision))
            elif question.num_retries < max_retries:
                question.num_retries += 1
                question.excluded.append(completion)
                after.append(question)
        questions = after


def reseeded(params: SamplingParams, rng: np.random.Generator) -> SamplingParams:
    """The same parameters with the next seed."""
    return replace(params, seed=int(rng.integers(2**62)))


def accept(decision: Decision, completion: Completion, action: str | None) -> bool:
    """Take a proposal unless what it says is there already."""
    decision.num_calls += 1
    if action in decision.actions:
        decision.duplicates.append((len(decision.proposals), completion, action))
        return False
    decision.proposals.append(completion)
    decision.actions.append(action)
    return True
