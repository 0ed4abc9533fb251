"""Distinct proposals, sampled in sequence (paper, section 3.1).

`sampling.proposer` chooses how the proposals of a decision are made distinct:

* `history`: each prompt shows the earlier proposals.
* `one_response`: one reply lists all proposals.
* `without_replacement`: each is sampled from the plain prompt x, with the earlier actions excluded.
* `independent`: they are not, and duplicates are dropped: a control of what distinctness is worth.
* `with_replacement`: they are not, and duplicates are played too. The mean return below a turn is
  then an unbiased estimate of the policy's, as SPO-tree and TreePO need it.

Distinct are the canonical actions, however they are spelled. A proposal that duplicates an earlier
one is sampled again, at most `sampling.max_retries` times in a row, and then dropped ("up to G
distinct actions sequentially"). Proposals without replacement are drawn all at once if the engine
draws different responses (`DistinctEngine`), else several at once where that costs few duplicates
(`distinct.py`).

An unreadable response is no action: it takes no place among the distinct ones, and only the same
response again duplicates it. It is kept as a failure to be taught against; once there are as many
as actions wanted, the decision ends.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from ..agents.engines.base import Completion
from ..configs.schema import SamplingConfig
from .dialogue import Dialogue, Position, Request
from .distinct import distinct_count, draw_count, logprobs_without, probability
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
    duplicates: list[tuple[int, Completion, str | None]] = field(default_factory=list)
    """Dropped responses: number of proposals at that time, the response, and its action."""
    first_draws: list[float] = field(default_factory=list)
    """Probabilities of the first batch of independent responses."""
    elsewhere: Sequence[float] = ()
    """`first_draws` of the decisions before this one, which tell how sure the policy is."""
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

    def known(self, num_proposals: int) -> list[Completion]:
        """All responses so far that repeat one of the first proposals, however they spell it."""
        pairs = list(zip(self.proposals, self.actions, strict=True))
        keys = {_key(said, action) for said, action in pairs[:num_proposals]}
        pairs += [(said, action) for _, said, action in self.duplicates]
        return [said for said, action in pairs if _key(said, action) in keys]


def _key(said: Completion, action: str | None) -> str | tuple[int, ...]:
    """What a response proposes: its action, or if it is unreadable the response itself."""
    return said.token_ids if action is None else action


async def propose(decision: Decision, player: Player, cfg: SamplingConfig) -> None:
    """Fill a decision with at least one and at most `width` distinct actions.

    Args:
        decision: filled in place.
        player: samples responses and reads their actions.
        cfg: `proposer` and `max_retries`.
    """
    if cfg.proposer in ("independent", "with_replacement"):
        await _propose_independent(decision, player, cfg.proposer == "with_replacement")
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
    if cfg.proposer == "without_replacement":
        await _fill_from_one_prompt(decision, player, cfg, request, read)
        return
    num_futile = 0
    while decision.num_missing and num_futile <= cfg.max_retries:
        # Exclusion needs probabilities under the present prompt, which are known of the duplicates
        # sampled from it.
        [said] = await _draw(decision, player, request(), 1, decision.since_last())
        num_futile = 0 if accept(decision, said, await read(said)) else num_futile + 1


async def _fill_from_one_prompt(
    decision: Decision,
    player: Player,
    cfg: SamplingConfig,
    request: Callable[[], Request],
    read: Callable[[Completion], Awaitable[str | None]],
) -> None:
    """Fill a decision without replacement; see `fill`."""
    num_futile, share_added, probabilities = 0, 1.0, list[float]()
    while decision.num_missing and num_futile <= cfg.max_retries:
        known, missing = decision.known(len(decision.proposals)), decision.num_missing
        if player.draws_distinct and decision.width > 1:
            count = distinct_count(missing, share_added)
            drawn = await _draw_distinct(decision, player, request(), count, known)
        else:
            num_proposals = len(decision.proposals)
            count = draw_count(missing, num_proposals, probabilities, decision.elsewhere)
            drawn = await _draw(decision, player, request(), count, known)
            if not known:
                decision.first_draws = [probability(said.logprobs) for said in drawn]
        num_added = 0
        for said in drawn:
            if len(decision.readable) < decision.width:  # what is drawn beyond that is left out
                num_added += accept(decision, said, await read(said))
        num_futile = 0 if num_added else num_futile + 1
        share_added = num_added / max(len(drawn), 1)
        probabilities = [probability(said.logprobs) for said in drawn] if num_added else []
    decision.proposals = [
        replace(said, logprobs=logprobs_without(said, decision.known(place)))
        for place, said in enumerate(decision.proposals)
    ]


async def _draw_distinct(
    decision: Decision,
    player: Player,
    asked: Request,
    count: int,
    excluded: Sequence[Completion],
) -> list[Completion]:
    """Draw some different responses to one prompt at once."""
    drawn = await player.ask_distinct(asked.prompt_ids, count, excluded)
    decision.num_calls += len(drawn)
    decision.num_cut_prompts += len(drawn) * asked.is_cut
    return drawn


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


async def _propose_independent(decision: Decision, player: Player, keeps_duplicates: bool) -> None:
    """Sample `width` times from x. Duplicates count as calls and are not retried."""
    position = decision.position
    asked = Request(position.prompt_ids, position.is_cut)
    for said in await _draw(decision, player, asked, decision.width):
        action = await player.read(position, said)
        if keeps_duplicates:
            decision.proposals.append(said)
            decision.actions.append(action)
        else:
            accept(decision, said, action)


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
    pairs = zip(decision.proposals, decision.actions, strict=True)
    if _key(completion, action) in {_key(said, earlier) for said, earlier in pairs}:
        decision.duplicates.append((len(decision.proposals), completion, action))
        return False
    decision.proposals.append(completion)
    decision.actions.append(action)
    return True
