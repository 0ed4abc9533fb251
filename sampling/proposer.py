"""Distinct proposals, sampled in sequence (paper, section 3.1).

`sampling.proposer` chooses how the proposals of a decision are made distinct:

* `history`: each prompt shows the earlier proposals.
* `one_response`: one reply lists all proposals.
* `without_replacement`: each is sampled from the plain prompt x, with the earlier actions excluded.
* `independent`: they are not. This control shows what distinctness is worth.

Distinct are the canonical actions, however they are spelled. A proposal that duplicates an earlier
one is sampled again, at most `sampling.max_retries` times in a row, and then dropped ("up to G
distinct actions sequentially"). Proposals drawn without replacement are drawn several at once where
that costs few duplicates (`distinct.py`).

An unreadable response is no action: it takes no place among the distinct ones and duplicates none.
It is kept as a failure to be taught against; once there are as many as actions wanted, the decision
ends.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from ..agents.engines.base import Completion
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, Position, Request
from .distinct import draw_count, logprobs_without, probability
from .player import Player, together


@dataclass
class Decision:
    """An open position and the proposals sampled for it so far."""

    position: Position
    width: int
    """Distinct actions wanted."""
    proposals: list[Completion] = field(default_factory=list)
    """Responses with distinct actions, and unreadable ones, in the order they were sampled."""
    actions: list[str | None] = field(default_factory=list)
    """The action of each proposal; None if it is unreadable."""
    duplicates: list[tuple[int, Completion, str]] = field(default_factory=list)
    """Dropped responses: number of proposals at that time, the response, and its action."""
    num_calls: int = 0
    num_cut_prompts: int = 0
    """Calls whose prompt was too long and left something out."""

    @property
    def num_duplicates(self) -> int:
        """Responses that duplicated an earlier proposal."""
        return len(self.duplicates)

    @property
    def readable(self) -> list[str]:
        """The distinct actions, which later prompts can show."""
        return [action for action in self.actions if action is not None]

    @property
    def num_missing(self) -> int:
        """Actions still wanted; 0 once as many responses were unreadable as actions were wanted."""
        num_unreadable = self.actions.count(None)
        return self.width - len(self.readable) if num_unreadable < self.width else 0

    def since_last(self) -> list[Completion]:
        """Duplicates sampled after the last proposal."""
        return [said for earlier, said, _ in self.duplicates if earlier == len(self.proposals)]

    def spellings(self, actions: list[str | None]) -> list[Completion]:
        """All responses sampled so far that have one of some actions."""
        said = list(zip(self.proposals, self.actions, strict=True))
        said += [(response, action) for _, response, action in self.duplicates]
        return [response for response, action in said if action is not None and action in actions]


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
    """Fill a decision with up to `width` distinct actions.

    Args:
        decision: filled in place.
        player: samples responses.
        cfg: `proposer` and `max_retries`.
        request: makes the prompt of the next proposal.
        read: reads the action of a response; equal actions are duplicates.
    """
    one_prompt = cfg.proposer == "without_replacement"
    num_futile, probabilities = 0, list[float]()
    while decision.num_missing and num_futile <= cfg.max_retries:
        asked = request()
        # Exclusion needs probabilities under the present prompt. If the prompt changes between
        # proposals, these are only known for the duplicates sampled from it.
        excluded, count = decision.since_last(), 1
        if one_prompt:
            excluded = decision.spellings(decision.actions)
            count = draw_count(decision.num_missing, len(decision.proposals), probabilities)
        drawn = await _draw(decision, player, asked, count, excluded)
        accepted = [accept(decision, said, await read(said)) for said in drawn]
        num_futile = 0 if any(accepted) else num_futile + 1
        probabilities = [probability(said.logprobs) for said in drawn] if any(accepted) else []
    if one_prompt:
        decision.proposals = _as_drawn_in_sequence(decision)


async def _draw(
    decision: Decision,
    player: Player,
    asked: Request,
    count: int,
    excluded: Sequence[Completion] = (),
) -> list[Completion]:
    """Sample some responses to one prompt at once."""
    decision.num_calls += count
    decision.num_cut_prompts += count * asked.is_cut
    return await together(*(player.ask(asked.prompt_ids, excluded) for _ in range(count)))


def _as_drawn_in_sequence(decision: Decision) -> list[Completion]:
    """The proposals with the probabilities they have after the earlier actions.

    That is mu(y) = pi(y) / (1 - probability of the earlier actions); see `logprobs_without`.
    Unreadable responses are never excluded.
    """
    return [
        replace(said, logprobs=logprobs_without(said, decision.spellings(decision.actions[:place])))
        for place, said in enumerate(decision.proposals)
    ]


async def _propose_independent(decision: Decision, player: Player) -> None:
    """Sample `width` times from x. Duplicates count as calls; they are not played or retried."""
    position = decision.position
    asked = Request(position.prompt_ids, position.is_cut)
    for said in await _draw(decision, player, asked, decision.width):
        accept(decision, said, await player.read(position, said))


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
    if action is not None and action in decision.actions:
        decision.duplicates.append((len(decision.proposals), completion, action))
        return False
    decision.proposals.append(completion)
    decision.actions.append(action)
    return True
