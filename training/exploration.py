"""Methods from the literature that keep a policy exploring through its loss: baselines.

Each is a pure function, chosen by `loss.exploration`, and works with any sampler and credit rule.
Papers: entropies and log-probabilities come from the current policy, in every micro-batch. We: from
pi_old, once per rollout, because results must not depend on how a batch is split.

A batch holds the sums S+ and S- of the advantages through a token, not the advantages themselves
(`training/advantages.py`). A token's advantage is recovered as A = (S+ + S-) / w, with w the
token's weight. This is exact for independent rollouts and for turn-level credit; with trajectory
credit in a tree it is the mean over the trajectories that share the turn. Masking a token sets both
sums to 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..agents.logprobs import ENTROPY, Statistic
from ..configs.schema import LossConfig
from .batch import Batch
from .distributions import (
    cold_logprobs,
    dcpo,
    hot_logprobs,
    lp_reg,
    nucleus_entropies,
    peak_tokens,
    proxy_logprobs,
    self_certainty,
    siren,
    ucas,
)

ENTROPY_COEF_STEP = 0.005
"""Change of the adaptive entropy coefficient per step (arXiv:2505.22312)."""
MAX_ENTROPY_COEF = 1.0
"""Its upper bound."""
ENTROPY_ALPHA = 0.4
"""Advantage per nat of entropy (arXiv:2506.14758, for GRPO)."""
ENTROPY_KAPPA = 2.0
"""The entropy term is at most |A| / kappa; above 1, so that no advantage changes its sign."""
MIN_COVARIANCE, MAX_COVARIANCE = 1.0, 5.0
"""Clip-Cov samples tokens with covariances between these (arXiv:2505.22617), for advantages divided
by the group's standard deviation."""
TOP_ENTROPY_SHARE = 0.2
"""Share of the tokens trained, those with the highest entropy (arXiv:2506.01939)."""
MIN_STEER, MAX_STEER = 0.8, 1.2
"""Weights of STEER for the largest and the smallest change of entropy (arXiv:2510.10150)."""
USUAL_ENTROPY = (0.8, 1.2)
"""EPO: the entropies that are usual at a turn, by their mean there in earlier steps
(WujiangXu/EPO)."""
TURN_ENTROPY = "train/entropy_at_turn_"
"""Metrics of EPO, followed by the turn's place in its trajectory, from 0."""
ROUNDING = 1e-5
"""Entropies and covariances closer than this count as equal, so that rounding errors do not decide
which tokens are chosen."""
ANSWER_TAG = "<answer>"


@dataclass(frozen=True)
class Scores:
    """What a method may need besides the batch."""

    entropy: Tensor
    """(N, T) entropy of pi_old at each token, in nats."""
    tokenizer: Any
    """Finds where answers begin."""
    generator: torch.Generator
    """CPU generator for random choices."""
    statistics: tuple[Tensor, ...] = ()
    """(N, T) each: those of `STATISTICS` for the method, of pi_old."""
    turn_entropies: Sequence[float] = ()
    """Mean entropy at each turn of a trajectory in the steps before, in nats."""
    share_done: float = 0.0
    """Share of the run before this step."""
    anchor: float | None = None
    """The entropy that `siren` returns to, in nats; None in its first step."""


def changed_share(before: Batch, after: Batch) -> float:
    """Return the share of trained tokens whose loss term an exploration method changed."""
    changed = (before.positive != after.positive) | (before.negative != after.negative)
    changed |= (before.entropy_weight != after.entropy_weight) | (after.proxy_logprobs != 0)
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
    """Return the coefficient of the next step: raised below the target, lowered above it.

    c_{k+1} = c_k + .005 if e_k < target, c_k - .005 if e_k > target, clipped to [0, 1]; arguments
    as in `active_entropy_coef`.

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
    """Raise the advantage where the policy was uncertain, by A += min(alpha H, |A| / kappa).

    arXiv:2506.14758. No gradient flows through H. With f = min(alpha H / |A|, 1 / kappa) this is
    S+ (1 + f) and S- (1 - f): where the entropy is high, successes count more and failures less.
    |A| is (S+ - S-) / w: exact if all trajectories through a token have the same |A|, else their
    mean.

    Args:
        batch: any batch.
        entropy: of pi_old at each token in nats, shape (N, T).
        alpha: advantage per nat; 0 changes nothing.
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
    (arXiv:2505.22617 section 4.1): large where a likely token is rewarded or an unlikely one
    penalised.
    """
    mask = batch.loss_mask
    advantages = ((batch.positive + batch.negative)[mask]) / batch.weight[mask]
    logprobs = batch.old_logprobs[mask]
    return (advantages - advantages.mean()) * (logprobs - logprobs.mean())


def kl_cov(batch: Batch, share: float) -> Batch:
    """Keep the tokens of highest covariance near pi_old (KL-Cov, arXiv:2505.22617).

    `grpo_loss` gives them -A r + beta |log r| instead of the clipped surrogate. Paper: no token is
    clipped. We: the other tokens are, so that a share of 0 is the plain loss. At r = 1 the penalty
    has no gradient: it acts from the second minibatch of a rollout on. Among equal covariances the
    earlier tokens are chosen.

    Args:
        batch: with scored `old_logprobs`.
        share: of the trained tokens; if not 0, at least one token is chosen. The paper uses .0002
            to .002 of some million tokens.
    """
    values = covariances(batch)
    ranking = (values / ROUNDING).round().argsort(descending=True, stable=True)
    chosen = ranking[: _num_chosen(len(values), share)]
    return replace(batch, kl_mask=_mark(batch, chosen))


def clip_cov(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """Mask random tokens of high covariance from the surrogate (Clip-Cov, arXiv:2505.22617).

    Args:
        batch: with scored `old_logprobs`.
        share: of the trained tokens, sampled from those with a covariance between 1 and 5; all of
            those if they are fewer.
        generator: CPU generator of the sample.
    """
    values = covariances(batch)
    eligible = ((values > MIN_COVARIANCE) & (values < MAX_COVARIANCE)).nonzero()[:, 0]
    order = torch.randperm(len(eligible), generator=generator)
    chosen = eligible[order[: _num_chosen(len(values), share)]]
    return _keep(batch, ~_mark(batch, chosen))


def top_entropy(
    batch: Batch, entropy: Tensor, is_answer: Tensor, share: float = TOP_ENTROPY_SHARE
) -> Batch:
    """Train only the tokens where the policy was most uncertain (arXiv:2506.01939).

    These are the tokens with H >= the (1 - share) quantile. Paper: over all tokens of the batch.
    We: over thoughts and answers separately, because the few words of an answer have less entropy
    than free text and would never be trained. The denominator counts all tokens, as in the paper.

    Args:
        batch: any batch.
        entropy: of pi_old at each token in nats, shape (N, T).
        is_answer: from `answer_tokens`, shape (N, T).
        share: of the tokens of each span, above 0; ties at the quantile are all kept.
    """
    kept = torch.zeros_like(batch.loss_mask)
    for span in (batch.loss_mask & is_answer, batch.loss_mask & ~is_answer):
        if span.any():
            kept |= span & (entropy >= entropy[span].quantile(1 - share) - ROUNDING)
    return _keep(batch, kept)


def steer(batch: Batch, entropy: Tensor) -> Batch:
    """Weight each token by how little it would change the entropy (STEER, arXiv:2510.10150).

    The change is estimated as |A (1 - p) (log p + H)|: a gradient step on a token changes the
    entropy in proportion. The smallest in the batch weighs 1.2, the largest .8, the others linearly
    between (the linear variant of its code); if all are equal, all weigh 1.

    Args:
        batch: with scored `old_logprobs`.
        entropy: of pi_old at each token in nats, shape (N, T).
    """
    mask = batch.loss_mask
    if not mask.any():
        return batch
    advantages = ((batch.positive + batch.negative) / batch.weight.where(mask, 1.0))[mask]
    logprobs = batch.old_logprobs[mask]
    change = (advantages * (1 - logprobs.exp()) * (logprobs + entropy[mask])).abs()
    low, high = change.min(), change.max()
    if high - low < ROUNDING:
        return batch
    weights = torch.ones_like(batch.positive)
    weights[mask] = MAX_STEER - (MAX_STEER - MIN_STEER) * (change - low) / (high - low)
    return replace(batch, positive=batch.positive * weights, negative=batch.negative * weights)


def epo(batch: Batch, entropy: Tensor, turn_entropies: Sequence[float], share_done: float) -> Batch:
    """Let the entropy bonus keep each turn's entropies near what is usual there (EPO).

    The loss of a token is -coef (H - beta P) with P = max(0, low - H) + max(0, H - high), where low
    and high are .8 and 1.2 times the mean entropy of the same turn in earlier steps: the bonus
    weighs 1 + beta below them and 1 - beta above. (In the released code P is a constant without a
    gradient, so the plain bonus acts alone.) beta is `epo_strength`.

    Args:
        batch: any batch.
        entropy: of pi_old at each token in nats, shape (N, T).
        turn_entropies: means by turn; later turns have none yet, and a weight of 1.
        share_done: of the run before this step.
    """
    means = torch.full((1 + max(batch.depth.tolist(), default=0),), torch.nan, dtype=entropy.dtype)
    known = torch.as_tensor(list(turn_entropies), dtype=entropy.dtype)[: len(means)]
    means[: len(known)] = known
    usual = torch.where(batch.loss_mask, means[batch.depth[batch.turn.clamp(min=0)]], torch.nan)
    low, high = (factor * usual for factor in USUAL_ENTROPY)
    factor = 1 + epo_strength(share_done) * ((entropy < low).float() - (entropy > high).float())
    return replace(batch, entropy_weight=batch.weight * factor)


def epo_strength(share_done: float) -> float:
    """Return the weight of EPO's penalty: 1 to .8 in the first half of a run, then fast to 0.

    .8^(2 s) up to s = 1/2, then .8 e^(-5 (2 s - 1)); the source names no rates.

    >>> epo_strength(0.0), epo_strength(0.5)
    (1.0, 0.8)
    """
    if share_done <= 0.5:
        return 0.8 ** (2 * share_done)
    return 0.8 * math.exp(-5 * (2 * share_done - 1))


def entropies_by_turn(batch: Batch, entropy: Tensor) -> list[float]:
    """Return the mean entropy of the trained tokens at each turn, as many as come first.

    Args:
        batch: any batch.
        entropy: (N, T) in nats.
    """
    depths = batch.depth[batch.turn[batch.loss_mask]]
    values = entropy[batch.loss_mask]
    found: list[float] = []
    for depth in range(1 + max(depths.tolist(), default=-1)):
        at_turn = values[depths == depth]
        if not len(at_turn):
            break
        found.append(float(at_turn.mean()))
    return found


def entropy_metrics(
    batch: Batch, scores: Scores, loss: LossConfig, coef: float | None
) -> dict[str, float]:
    """Measure the entropies that a method holds, and choose the coefficient of its bonus.

    Args:
        batch: any batch.
        scores: of the batch.
        loss: names the method.
        coef: of `adaptive_entropy`, as the step before left it; None in the first one.

    Returns:
        Metrics; `train/entropy_coef` is the coefficient to take, where it is not the loss's own.
    """
    if loss.exploration == "adaptive_entropy":
        entropy = float(scores.entropy[batch.loss_mask].mean())
        coef = loss.entropy_coef if coef is None else coef
        coef = active_entropy_coef(coef, entropy, loss.entropy_target)
        return {"train/old_entropy": entropy, "train/entropy_coef": coef}
    if loss.exploration == "siren":
        is_peak = peak_tokens(batch, scores.statistics[0])
        return {"train/old_entropy": float(scores.statistics[0][is_peak].mean())}
    if loss.exploration == "epo":
        means = entropies_by_turn(batch, scores.entropy)
        return {f"{TURN_ENTROPY}{turn}": mean for turn, mean in enumerate(means)}
    return {}


def bonus_entropy(loss: LossConfig) -> tuple[Statistic, ...]:
    """The entropy of the bonus."""
    return STATISTICS["siren"] if loss.exploration == "siren" else ENTROPY


def answer_tokens(batch: Batch, tokenizer: Any) -> Tensor:
    """Mark the trained tokens from the last token of an `<answer>` tag on, shape (N, T) bool.

    The tokens before it are thoughts.
    """
    result = torch.zeros_like(batch.loss_mask)
    pieces = {token: tokenizer.decode([token]) for token in batch.token_ids.unique().tolist()}
    turn, text = -1, ""
    for row, column in batch.loss_mask.nonzero().tolist():
        if batch.turn[row, column] != turn:
            turn, text = int(batch.turn[row, column]), ""
        text += pieces[int(batch.token_ids[row, column])]
        result[row, column] = ANSWER_TAG in text.lower()
    return result


def _unchanged(batch: Batch, scores: Scores, cfg: LossConfig) -> Batch:
    return batch


EXPLORATIONS: dict[str, Callable[[Batch, Scores, LossConfig], Batch]] = {
    "none": _unchanged,
    "adaptive_entropy": _unchanged,  # moves the coefficient of the entropy bonus instead
    "entropy_advantage": lambda batch, scores, cfg: entropy_advantage(batch, scores.entropy),
    "kl_cov": lambda batch, scores, cfg: kl_cov(batch, cfg.exploration_share),
    "clip_cov": lambda batch, scores, cfg: clip_cov(batch, cfg.exploration_share, scores.generator),
    "dcpo": lambda batch, scores, cfg: dcpo(batch, scores.entropy, *scores.statistics),
    "epo": lambda batch, scores, cfg: epo(
        batch, scores.entropy, scores.turn_entropies, scores.share_done
    ),
    "lp_reg": lambda batch, scores, cfg: lp_reg(batch, *scores.statistics),
    "siren": lambda batch, scores, cfg: siren(batch, scores.statistics[0], scores.anchor),
    "steer": lambda batch, scores, cfg: steer(batch, scores.entropy),
    "top_entropy": lambda batch, scores, cfg: top_entropy(
        batch, scores.entropy, answer_tokens(batch, scores.tokenizer)
    ),
    "ucas": lambda batch, scores, cfg: ucas(batch, *scores.statistics),
}
"""Methods by the value of `loss.exploration`. Each takes a batch with scored `old_logprobs` and
returns it with other loss terms, or the same object if it changes none."""
STATISTICS: dict[str, tuple[Statistic, ...]] = {
    "dcpo": (hot_logprobs, cold_logprobs),
    "lp_reg": (proxy_logprobs,),
    "siren": (nucleus_entropies,),
    "ucas": (self_certainty,),
}
"""What a method needs besides log-probability and entropy, by its name."""
WITH_ALL_TOKENS = ("adaptive_entropy", "epo", "siren")
"""Methods that need the tokens of zero advantage too, as an entropy bonus does."""


def _num_chosen(num_tokens: int, share: float) -> int:
    return max(1, round(share * num_tokens)) if share else 0


def _mark(batch: Batch, chosen: Tensor) -> Tensor:
    """Mark the trained tokens with the chosen indices (among trained tokens), (N, T) bool."""
    marks = torch.zeros(int(batch.loss_mask.sum()), dtype=torch.bool)
    marks[chosen] = True
    result = torch.zeros_like(batch.loss_mask)
    result[batch.loss_mask] = marks
    return result


def _keep(batch: Batch, kept: Tensor) -> Batch:
    """Set the credit of all other tokens to 0; their entropy and KL terms stay."""
    return replace(
        batch,
        positive=torch.where(kept, batch.positive, 0.0),
        negative=torch.where(kept, batch.negative, 0.0),
    )
