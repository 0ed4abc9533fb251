"""Draws without replacement over actions: their probabilities, and how many to make at once.

Independent draws from the plain prompt with repeated actions dropped, in order, are draws without
replacement over actions, whatever the tokenizer and however many spellings an action has:
P(y | earlier actions) = pi(y) / (1 - probability of all responses with an earlier action). The law
stays the same if responses that are known to repeat an earlier action cannot be drawn: dropping
them before or after they are drawn are the same condition. So responses may be drawn in batches or
one by one, with any of the known ones excluded. These choices change what the draws cost, and
nothing else.
"""

import math
import statistics
from collections.abc import Sequence

from ..agents.engines.base import Completion

REPEATED_SHARE = 0.05
"""Share of the calls of a batch that may be expected to repeat one another."""
GROWTH = 1
"""A batch has at most this many draws for each proposal that the decision already has, but for a
first batch whose size earlier decisions tell."""
_NOTHING = 1e-12
"""A probability that is taken for rounding."""


def draw_count(
    missing: int,
    num_proposals: int,
    probabilities: Sequence[float],
    elsewhere: Sequence[float] = (),
) -> int:
    """How many responses to draw at once, so that few repeat one another.

    The mean probability of drawn responses estimates, without bias, the probability that two draws
    are equal; once those drawn are excluded, what is left is larger by 1 / (1 - their sum). With
    that as q, of n draws some n (n - 1) q / 2 repeat an earlier one of the batch: a share of at
    most `REPEATED_SHARE` for n <= 1 + 2 `REPEATED_SHARE` / q. A policy that is sure of its answer
    is thus asked once at a time, with all that is known excluded, and one that is not is asked for
    everything after a few draws. `GROWTH` bounds what one unlikely draw can cost. Both were chosen
    with results/proposals.json.

    Args:
        missing: actions that are still wanted.
        num_proposals: responses that the decision has already.
        probabilities: of the draws of the last batch, each under the distribution it was drawn
            from; empty before the first, and after a batch that added nothing.
        elsewhere: of first draws of earlier decisions of the same trajectories, if there are any:
            they tell how sure the policy is before this decision's first draw.

    Returns:
        At least 1, and 1 for the first draw where nothing tells how sure the policy is.

    >>> draw_count(missing=14, num_proposals=2, probabilities=[0.01])
    2
    >>> draw_count(missing=8, num_proposals=8, probabilities=[0.02, 0.02])
    5
    >>> draw_count(missing=15, num_proposals=1, probabilities=[0.6])
    1
    >>> draw_count(missing=4, num_proposals=0, probabilities=[], elsewhere=[0.01, 0.03])
    4
    """
    is_first = not num_proposals
    known = elsewhere if is_first else probabilities
    if not known:
        return 1
    mean, left = statistics.fmean(known), 1.0 if is_first else 1 - math.fsum(known)
    most = int(1 + 2 * REPEATED_SHARE * max(left, 0.0) / max(mean, _NOTHING))
    return max(1, min(missing, most, missing if is_first else GROWTH * num_proposals))


def distinct_count(missing: int, share_added: float) -> int:
    """How many different responses to draw in one pass, of which some will repeat an action.

    A pass over a few responses costs nearly as much time as one over many, so enough are drawn if
    as many of them are new as in the pass before.

    Args:
        missing: actions that are still wanted.
        share_added: share of the last pass that was new; 1 before the first.

    >>> distinct_count(missing=4, share_added=0.5)
    8
    >>> distinct_count(missing=15, share_added=0.0)  # different responses with the same action
    1
    """
    return max(1, min(int(missing / share_added), 2 * missing)) if share_added else 1


def probability(logprobs: Sequence[float]) -> float:
    """Probability of a response, from the log-probabilities of its tokens."""
    return math.exp(math.fsum(logprobs))


def logprobs_without(completion: Completion, known: Sequence[Completion]) -> tuple[float, ...]:
    """Log-probabilities of a response's tokens if some other responses cannot be drawn.

    With E_j the probability, given the first j tokens, that the response ends as one of `known`:
    log mu(y_j) = log pi(y_j) + log(1 - E_j) - log(1 - E_{j-1}). Their sum is
    log pi(y) - log(1 - probability of `known`).

    Of an action with several spellings only those that were seen are known, so the probability
    of the earlier actions is a lower bound, and so is mu; what is missing is the probability of
    spellings that were never drawn.

    Args:
        completion: y, of L tokens, with its `raw_logprobs`; none of `known`.
        known: other responses to the same prompt, with theirs.

    Returns:
        (L,) natural logarithms, at most 0; the response's own `logprobs` where an engine does not
        tell `raw_logprobs`.
    """
    raw, ids = completion.raw_logprobs, completion.token_ids
    if len(raw) != len(ids):
        return completion.logprobs
    ended = [0.0] * (len(ids) + 1)
    for other in {one.token_ids: one for one in known}.values():
        for place in range(common_length(ids, other.token_ids) + 1):
            ended[place] += probability(other.raw_logprobs[place:])
    left = [1 - min(share, 1.0) for share in ended]
    return tuple(
        # Where nothing is left, an engine samples as if nothing were excluded.
        logprob + math.log(max(after, _NOTHING) / before) if before > _NOTHING else logprob
        for logprob, before, after in zip(raw, left[:-1], left[1:], strict=True)
    )


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the prefix that two sequences share.

    >>> common_length((1, 2, 3), (1, 2, 4, 5))
    2
    """
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))
