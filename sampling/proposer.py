"""Distinct proposals, sampled in sequence (paper, section 3.1).

`sampling.proposer` chooses how the proposals of a decision are made distinct:

* `history`: each prompt shows the earlier proposals.
* `one_response`: one reply lists all proposals.
* `without_replacement`: each is sampled from the plain prompt x, with the earlier ones excluded.
* `independent`: they are not. This control shows what distinctness is worth.

A proposal that duplicates an earlier one is sampled again, at most `sampling.max_retries` times,
and then dropped ("up to G distinct actions sequentially").
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..agents.engines.base import Completion
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, Position, Request
from .player import Player


@dataclass
class Decision:
    """An open position and the proposals sampled for it so far."""

    position: Position
    width: int
    """Distinct proposals wanted."""
    proposals: list[Completion] = field(default_factory=list)
    actions: list[str | None] = field(default_factory=list)
    """The action of each proposal; None (unreadable) counts as one action."""
    duplicates: list[tuple[int, Completion, str | None]] = field(default_factory=list)
    """Dropped responses: number of proposals at that time, the response, and its action."""
    num_calls: int = 0
    num_cut_prompts: int = 0
    """Prompts that were too long and left something out."""

    @property
    def num_duplicates(self) -> int:
        """Responses that duplicated an earlier proposal."""
        return len(self.duplicates)

    @property
    def readable(self) -> list[str]:
        """The readable actions, which later prompts can show."""
        return [action for action in self.actions if action is not None]


async def propose(decision: Decision, player: Player, cfg: SamplingConfig) -> None:
    """Fill a decision with at least one and at most `width` distinct actions.

    Args:
        decision: filled in place.
        player: samples responses and reads their actions.
        cfg: `proposer` and `max_retries`.
    """
    if cfg.proposer == "independent":
        await _propose_independent(decision, player)
        return
    await fill(
        decision,
        player,
        cfg,
        request=lambda: next_request(player.dialogue, decision, cfg.proposer),
        read=lambda completion: player.read(decision.position, completion),
    )


async def fill(
    decision: Decision,
    player: Player,
    cfg: SamplingConfig,
    request: Callable[[], Request],
    read: Callable[[Completion], Awaitable[str | None]],
) -> None:
    """Fill a decision with up to `width` distinct proposals.

    Args:
        decision: filled in place.
        player: samples responses.
        cfg: `proposer` and `max_retries`.
        request: makes the prompt of the next proposal.
        read: reads the action of a response; equal actions are duplicates.
    """
    while len(decision.proposals) < decision.width:
        asked = request()
        decision.num_cut_prompts += asked.is_cut
        # Exclusion needs probabilities under the present prompt. If the prompt changes between
        # proposals, these are only known for the duplicates sampled from it.
        excluded = list(decision.proposals) if cfg.proposer == "without_replacement" else []
        for _ in range(cfg.max_retries + 1):
            completion = await player.ask(asked.prompt_ids, excluded)
            if accept(decision, completion, await read(completion)):
                break
            excluded.append(completion)
        else:
            return  # only duplicates: fewer proposals than wanted


async def _propose_independent(decision: Decision, player: Player) -> None:
    """Sample `width` times from x. Duplicates count as calls; they are not played or retried."""
    for _ in range(decision.width):
        decision.num_cut_prompts += decision.position.is_cut
        completion = await player.ask(decision.position.prompt_ids)
        action = await player.read(decision.position, completion)
        accept(decision, completion, action)


def next_request(dialogue: Dialogue, decision: Decision, proposer: str) -> Request:
    """Make the prompt of a decision's next proposal."""
    if proposer == "without_replacement" or decision.width == 1:
        return Request(decision.position.prompt_ids, decision.position.is_cut)
    if proposer == "one_response":
        pairs = zip(decision.proposals, decision.actions, strict=True)
        given = [proposal for proposal, action in pairs if action is not None]
        return dialogue.list_prompt(decision.position, decision.width, given)
    return dialogue.proposal_prompt(decision.position, decision.readable)


def first_index(proposer: str, width: int) -> int:
    """Return the index of a decision's first proposal: 0 if sampled from x alone, else 1."""
    return int(proposer == "one_response" and width > 1)


def accept(decision: Decision, completion: Completion, action: str | None) -> bool:
    """Add a proposal unless it duplicates an earlier one; return whether it was added."""
    decision.num_calls += 1
    if action in decision.actions:
        decision.duplicates.append((len(decision.proposals), completion, action))
        return False
    decision.proposals.append(completion)
    decision.actions.append(action)
    return True
