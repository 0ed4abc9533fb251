"""Ways to keep a policy exploring by its loss, from the literature: baselines to compare with.

Each is a pure function, chosen by `loss.exploration`, and works with any sampler and credit. What
it needs to know of the policy it takes from pi_old, once a rollout. There: from the policy as it
changes, in every micro-batch. We: so, because results must not depend on how a batch is cut up.

A batch holds the sums S+ and S- of the advantages through a token, not the advantages themselves
(`training/advantages.py`). One advantage a token is recovered as A = (S+ + S-) / w, with w the
token's weight: exact for independent rollouts, and where credit is given to turns; a mean over the
trajectories that share the turn where credit is given to the trajectories of a tree. A token that
is not to be taught loses both sums.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..configs.schema import LossConfig
from .batch import Batch

ENTROPY_COEF_STEP = 0.005
"""How far the adaptive entropy coefficient moves in a step (arXiv:2505.22312)."""
MAX_ENTROPY_COEF = 1.0
"""Where it stops."""
ENTROPY_ALPHA = 0.4
"""Advantage per nat of entropy (arXiv:2506.14758, for GRPO)."""
ENTROPY_KAPPA = 2.0
"""The entropy term is at most this part of the advantage; above 1, so no advantage changes sign."""
MIN_COVARIANCE, MAX_COVARIANCE = 1.0, 5.0
"""Bounds between which Clip-Cov draws its tokens (arXiv:2505.22617); for advantages divided by the
group's standard deviation."""
TOP_ENTROPY_SHARE = 0.2
"""Share of the tokens that is trained, those of the highest entropy (arXiv:2506.01939)."""
ROUNDING = 1e-5
"""Entropies and covariances that are closer than this are equal: tokens must not be chosen by the
rounding of a processor."""
ANSWER_TAG = "<answer>"


@dataclass(frozen=True)
class Scores:
    """What a method may need beside the batch."""

    entropy: Tensor
    """(N, T) of pi_old at each token, in nats."""
    tokenizer: Any
    """Tells where answers begin."""
    generator: torch.Generator
    """On the CPU; for random choices."""


def changed_share(before: Batch, after: Batch) -> float:
    """Return the share of the trained tokens whose part in the loss `explore` changed."""
    changed = (before.positive != after.positive) | (before.negative != after.negative)
    return float((changed | after.kl_mask)[before.loss_mask].float().mean())


def active_entropy_coef(coef: float, entropy: float, target: float) -> float:
    """Return the weight of the entropy bonus in this step.

    alpha_k = c_k where e_k <= target, else 0 (adaptive entropy control of Skywork-OR1,
    arXiv:2505.22312).

    Args:
        coef: c_k, as `next_entropy_coef` left it.
        entropy: e_k, mean entropy of pi_old at the trained tokens, in nats.
        target: `loss.entropy_target`, in nats.
    """
    return coef if entropy <= target else 0.0


def next_entropy_coef(coef: float, entropy: float, target: float) -> float:
    """Return the coefficient of the next step: a little more below the target, else less.

    c_{k+1} = c_k + .005 if e_k < target, c_k - .005 if e_k > target, between 0 and 1; arguments as
    in `active_entropy_coef`.

    >>> next_entropy_coef(0.001, entropy=0.1, target=0.2)
    0.006
    >>> next_entropy_coef(0.001, entropy=0.3, target=0.2)
    0.0
    """
    change = ENTROPY_COEF_STEP * ((entropy < target) - (entropy > target))
    return min(max(coef + change, 0.0), MAX_ENTROPY_COEF)


def entropy_advantage(
    batch: Batch, entropy: Tensor, alpha: float = ENTROPY_ALPHA, kappa: float = ENTROPY_KAPPA
) -> Batch:
    """Raise the advantage where the policy was unsure, by A += min(alpha H, |A| / kappa).

    arXiv:2506.14758. No gradient goes through H. With f = min(alpha H / |A|, 1 / kappa) this is
    S+ (1 + f) and S- (1 - f): rewards count more and failures less where the entropy is high. |A|
    is (S+ - S-) / w, so the formula is exact where the trajectories through a token have
    advantages of one size, and takes their mean size where they differ.

    Args:
        batch: any.
        entropy: of pi_old at each token in nats, shape (N, T).
        alpha: 0 changes nothing.
        kappa: at least 1.
    """
    size = batch.positive - batch.negative  # (N, T) w |A|
    bonus = alpha * entropy.to(size.dtype) * batch.weight
    factor = torch.where(size > 0, bonus / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0)
    factor = factor.clamp(max=1 / kappa)
    return replace(
        batch, positive=batch.positive * (1 + factor), negative=batch.negative * (1 - factor)
    )


def covariances(batch: Batch) -> Tensor:
    """Return how much each trained token sharpens the policy, shape (num_tokens,).

    cov_t = (A_t - mean A) (log pi_old_t - mean log pi_old), means over the batch's trained tokens
    (arXiv:2505.22617 section 4.1): large where a likely token is rewarded or an unlikely one is
    punished.
    """
    mask = batch.loss_mask
    advantages = ((batch.positive + batch.negative)[mask]) / batch.weight[mask]
    logprobs = batch.old_logprobs[mask]
    return (advantages - advantages.mean()) * (logprobs - logprobs.mean())


def kl_cov(batch: Batch, share: float) -> Batch:
    """Hold the tokens of the highest covariance near pi_old (KL-Cov, arXiv:2505.22617).

    `grpo_loss` gives them -A r + beta |log r| in place of the clipped surrogate. There no token is
    clipped; here the others keep the clip, so that a share of 0 is the plain loss. At r = 1 the
    penalty has no gradient: it acts from the second minibatch of a rollout on. Of equal tokens the
    earlier are held.

    Args:
        batch: with scored `old_logprobs`.
        share: of the trained tokens; at least one token is held if it is not 0. There .0002 to
            .002 of some million tokens.
    """
    values = covariances(batch)
    ranking = (values / ROUNDING).round().argsort(descending=True, stable=True)
    chosen = ranking[: _num_chosen(len(values), share)]
    return replace(batch, kl_mask=_lay_out(batch, chosen))


def clip_cov(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """Teach nothing at tokens drawn among those of high covariance (Clip-Cov, arXiv:2505.22617).

    Args:
        batch: with scored `old_logprobs`.
        share: of the trained tokens, drawn from those with a covariance between 1 and 5, all of
            them if they are fewer.
        generator: CPU generator of the draw.
    """
    values = covariances(batch)
    eligible = ((values > MIN_COVARIANCE) & (values < MAX_COVARIANCE)).nonzero()[:, 0]
    order = torch.randperm(len(eligible), generator=generator)
    chosen = eligible[order[: _num_chosen(len(values), share)]]
    return _keep(batch, ~_lay_out(batch, chosen))


def top_entropy(
    batch: Batch, entropy: Tensor, is_answer: Tensor, share: float = TOP_ENTROPY_SHARE
) -> Batch:
    """Teach only at the tokens where the policy was most unsure (arXiv:2506.01939).

    Kept are tokens with H >= the (1 - share) quantile. There over all tokens of the batch. We: over
    thoughts and answers apart, because an answer's few words have less entropy than free text and
    would never be trained. The denominator still counts all tokens, as there.

    Args:
        batch: any.
        entropy: of pi_old at each token in nats, shape (N, T).
        is_answer: as `answer_tokens` returns it, shape (N, T).
        share: of the tokens of each span, above 0; ties at the quantile are all kept.
    """
    kept = torch.zeros_like(batch.loss_mask)
    for span in (batch.loss_mask & is_answer, batch.loss_mask & ~is_answer):
        if span.any():
            kept |= span & (entropy >= entropy[span].quantile(1 - share) - ROUNDING)
    return _keep(batch, kept)


def answer_tokens(batch: Batch, tokenizer: Any) -> Tensor:
    """Tell the trained tokens from the end of an `<answer>` tag on, shape (N, T) bool.

    The tokens before are thoughts, and the tag itself but for its last token.
    """
    result = torch.zeros_like(batch.loss_mask)
    pieces = {token: tokenizer.decode([token]) for token in batch.token_ids.unique().tolist()}
    turn, text = -1, ""
    for row, column in batch.loss_mask.nonzero().tolist():
        if batch.turn[row, column] != turn:
            turn, text = int(batch.turn[row, column]), ""
        text += pieces[int(batch.token_ids[row, column])]
        result[row, column] = ANSWER_TAG in text
    return result


def _leave(batch: Batch, scores: Scores, cfg: LossConfig) -> Batch:
    return batch


EXPLORATIONS: dict[str, Callable[[Batch, Scores, LossConfig], Batch]] = {
    "none": _leave,
    "adaptive_entropy": _leave,  # moves the coefficient of the entropy bonus instead
    "entropy_advantage": lambda batch, scores, cfg: entropy_advantage(batch, scores.entropy),
    "kl_cov": lambda batch, scores, cfg: kl_cov(batch, cfg.exploration_share),
    "clip_cov": lambda batch, scores, cfg: clip_cov(batch, cfg.exploration_share, scores.generator),
    "top_entropy": lambda batch, scores, cfg: top_entropy(
        batch, scores.entropy, answer_tokens(batch, scores.tokenizer)
    ),
}
"""Methods by the name that `loss.exploration` takes: each changes what a batch with scored
`old_logprobs` teaches, or returns the very same batch."""


def _num_chosen(num_tokens: int, share: float) -> int:
    return max(1, round(share * num_tokens)) if share else 0


def _lay_out(batch: Batch, chosen: Tensor) -> Tensor:
    """Mark some of the trained tokens, given by their place among them, as (N, T) bool."""
    marks = torch.zeros(int(batch.loss_mask.sum()), dtype=torch.bool)
    marks[chosen] = True
    result = torch.zeros_like(batch.loss_mask)
    result[batch.loss_mask] = marks
    return result


def _keep(batch: Batch, kept: Tensor) -> Batch:
    """Take the credit of all other tokens away; their entropy and KL still count."""
    return replace(
        batch,
        positive=torch.where(kept, batch.positive, 0.0),
        negative=torch.where(kept, batch.negative, 0.0),
    )
