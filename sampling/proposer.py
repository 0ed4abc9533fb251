"""Distinct proposals, one after another (paper, section 3.1).

`sampling.proposer` says how the proposals of a decision are kept apart:

* `history`: each is asked for with the earlier ones in view.
* `one_response`: they are listed in one reply.
* `without_replacement`: each is sampled from the plain prompt x, the earlier ones excluded.
* `independent`: nothing keeps them apart. The control that shows what distinctness is worth.

A proposal that reads as an earlier one is asked for again, `sampling.max_retries` times at most,
and then dropped: distinct means distinct ("up to G distinct actions sequentially").
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..agents.engines.base import Completion
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, Position, Request
from .player import Player


@dataclass
class Decision:
    """An open position that asks for proposals, and what it has been given."""

    position: Position
    width: int
    """Distinct proposals wanted."""
    proposals: list[Completion] = field(default_factory=list)
    actions: list[str | None] = field(default_factory=list)
    """What each proposal says; None, an unreadable response, counts as one action."""
    duplicates: list[tuple[int, Completion, str | None]] = field(default_factory=list)
    """Dropped responses: number of proposals by then, the response, and what it says."""
    num_calls: int = 0
    num_cut_prompts: int = 0
    """Prompts that could not hold all earlier proposals."""

    @property
    def num_duplicates(self) -> int:
        """Responses that repeated an earlier proposal."""
        return len(self.duplicates)

    @property
    def readable(self) -> list[str]:
        """The actions that a later prompt can name."""
        return [action for action in self.actions if action is not None]


async def propose(decision: Decision, player: Player, cfg: SamplingConfig) -> None:
    """Fill a decision with up to `width` distinct actions, at least one.

    Args:
        decision: filled in place.
        player: asks and reads.
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
        read=lambda text: player.read(decision.position, text),
    )


async def fill(
    decision: Decision,
    player: Player,
    cfg: SamplingConfig,
    request: Callable[[], Request],
    read: Callable[[str], str | None],
) -> None:
    """Fill a decision with up to `width` proposals that read differently.

    Args:
        decision: filled in place.
        player: asks.
        cfg: `proposer` and `max_retries`.
        request: the prompt of the next proposal.
        read: what a response says.
    """
    while len(decision.proposals) < decision.width:
        asked = request()
        decision.num_cut_prompts += asked.is_cut
        # Under a new prompt only its own duplicates can be excluded: of the earlier proposals the
        # engine does not know the probabilities under it.
        excluded = list(decision.proposals) if cfg.proposer == "without_replacement" else []
        for _ in range(cfg.max_retries + 1):
            completion = await player.ask(asked.prompt_ids, excluded)
            if accept(decision, completion, read(completion.text)):
                break
            excluded.append(completion)
        else:
            return  # it keeps repeating itself: fewer proposals than wanted


async def _propose_independent(decision: Decision, player: Player) -> None:
    """Sample `width` times from x. A repetition is paid for, and neither played nor asked again."""
    for _ in range(decision.width):
        completion = await player.ask(decision.position.prompt_ids)
        accept(decision, completion, player.read(decision.position, completion.text))


def next_request(dialogue: Dialogue, decision: Decision, proposer: str) -> Request:
    """The prompt of a decision's next proposal."""
    if proposer == "without_replacement" or decision.width == 1:
        return Request(decision.position.prompt_ids)
    if proposer == "one_response":
        pairs = zip(decision.proposals, decision.actions, strict=True)
        given = [proposal for proposal, action in pairs if action is not None]
        return dialogue.list_prompt(decision.position, decision.width, given)
    return dialogue.proposal_prompt(decision.position, decision.readable)


def first_index(proposer: str, width: int) -> int:
    """The number of a decision's first proposal: 0 if it is sampled from x alone, else 1."""
    return int(proposer == "one_response" and width > 1)


def accept(decision: Decision, completion: Completion, action: str | None) -> bool:
    """Take a proposal unless an earlier one says the same."""
    decision.num_calls += 1
    if action in decision.actions:
        decision.duplicates.append((len(decision.proposals), completion, action))
        return False
    decision.proposals.append(completion)
    decision.actions.append(action)
    return True
