"""Exploration by the loss, methods that look at the whole distribution of a token: baselines.

Like those of `training/exploration.py`, which lists them all, each is a pure function of a scored
batch. What it needs besides log-probability and entropy is a `Statistic` here, computed in the
same pass as those.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from .batch import Batch

MIN_P = 0.02
"""Lp-Reg's proxy keeps the tokens of at least this share of the likeliest one's probability
(arXiv:2510.03222)."""
LP_REG_SHARE = 0.005
"""Share of the trained tokens, the least likely ones, that Lp-Reg may hold."""
CERTAIN_SUCCESS, CERTAIN_FAILURE = 0.25, 0.35
"""UCAS: how much a certain response's advantage shrinks if it is positive, and grows if it is
negative (arXiv:2510.10649)."""
UCAS_PENALTY = 0.05
"""UCAS: what the likeliest token of a response loses."""
HOT, COLD = 1.2, 0.8
"""DCPO's temperatures below and above the entropy that it holds."""
DCPO_ENTROPY = 0.25
"""That entropy in nats, the best of its README."""
DCPO_GAP = 0.1
"""Most nats of distance from it that count."""
NUCLEUS = 0.8
"""SIREN looks at the likeliest tokens that have at least this probability together."""
PEAK_SHARE = 0.2
"""SIREN: share of the tokens whose entropy is held, the most uncertain ones."""


# ---- statistics of (..., V) log-probabilities and (...,) tokens ----


def proxy_logprobs(log_p: Tensor, token_ids: Tensor) -> Tensor:
    """Log-probabilities of tokens among those that are not too unlikely; 0 for those that are.

    >>> log_p = torch.tensor([0.6, 0.399, 0.001]).log()
    >>> [round(float(proxy_logprobs(log_p, torch.tensor(token)).exp()), 4) for token in (1, 2)]
    [0.3994, 1.0]
    """
    is_kept = log_p >= log_p.amax(-1, keepdim=True) + math.log(MIN_P)
    kept = torch.where(is_kept, log_p, -torch.inf).logsumexp(-1)
    chosen = _of_tokens(log_p, token_ids)
    return torch.where(_of_tokens(is_kept, token_ids), chosen - kept, 0.0)


def self_certainty(log_p: Tensor, token_ids: Tensor) -> Tensor:
    """The mean of -log p over the vocabulary: large where few tokens have all the probability."""
    return -log_p.mean(-1)


def hot_logprobs(log_p: Tensor, token_ids: Tensor) -> Tensor:
    """Log-probabilities of tokens at temperature `HOT`."""
    return _of_tokens((log_p / HOT).log_softmax(-1), token_ids)


def cold_logprobs(log_p: Tensor, token_ids: Tensor) -> Tensor:
    """Log-probabilities of tokens at temperature `COLD`."""
    return _of_tokens((log_p / COLD).log_softmax(-1), token_ids)


def nucleus_entropies(log_p: Tensor, token_ids: Tensor) -> Tensor:
    """Entropies in nats among the likeliest tokens, as many as have `NUCLEUS` together.

    >>> log_p = torch.tensor([0.4, 0.4, 0.2]).log()
    >>> round(float(nucleus_entropies(log_p, torch.tensor(0)).exp()), 4)
    2.0
    """
    ranked = log_p.sort(-1, descending=True).values
    before = ranked.exp().cumsum(-1) - ranked.exp()
    is_kept = before < NUCLEUS - 1e-6  # a sum that rounding leaves just below is enough
    kept = torch.where(is_kept, ranked, -torch.inf)
    log_q = ranked - kept.logsumexp(-1, keepdim=True)
    return -torch.where(is_kept, log_q.exp() * log_q, 0.0).sum(-1)


def _of_tokens(values: Tensor, token_ids: Tensor) -> Tensor:
    return values.gather(-1, token_ids[..., None])[..., 0]


# ---- methods ----


def lp_reg(batch: Batch, proxy: Tensor) -> Batch:
    """Hold rare tokens that a failure would push down, but that are no noise (arXiv:2510.03222).

    `grpo_loss` gives a token A r - k3(q) without a clip, with q its probability under the proxy:
    the policy without its least likely tokens. Chosen are tokens of negative advantage among the
    `LP_REG_SHARE` least likely of the batch (at least one), if they are likelier under the proxy.

    Args:
        batch: with scored `old_logprobs`.
        proxy: (N, T) from `proxy_logprobs`.
    """
    mask = batch.loss_mask
    logprobs = batch.old_logprobs[mask]
    if not len(logprobs):
        return batch
    num = max(1, round(LP_REG_SHARE * len(logprobs)))
    is_rare = mask & (batch.old_logprobs <= logprobs.sort().values[num - 1])
    is_failure = batch.positive + batch.negative < 0
    is_held = is_rare & is_failure & (proxy < 0) & (batch.old_logprobs < proxy)
    return replace(batch, proxy_logprobs=torch.where(is_held, proxy, 0.0))


def ucas(batch: Batch, certainty: Tensor) -> Batch:
    """Teach less of certain successes, more of certain failures (UCAS, arXiv:2510.10649).

    A > 0 is multiplied by exp(-.25 c) and A < 0 by exp(.35 c), with c the self-certainty summed
    over a row's trained tokens, centred and divided by the standard deviation among the rows that
    answer the same prompt. Then every token loses .05 m, but a success not below 0, with m its
    log-probability scaled to [0, 1] within the row (the source: its logit).

    Args:
        batch: with scored `old_logprobs`.
        certainty: (N, T) from `self_certainty`.
    """
    mask = batch.loss_mask
    total = torch.where(mask, certainty, 0.0).sum(1)  # (N,)
    scores = torch.zeros_like(total)
    for group in batch.prompt_group.unique():
        rows = batch.prompt_group == group
        spread = total[rows].std(correction=0)
        if spread > 1e-6:
            scores[rows] = (total[rows] - total[rows].mean()) / spread
    low = torch.where(mask, batch.old_logprobs, torch.inf).amin(1, keepdim=True)
    high = torch.where(mask, batch.old_logprobs, -torch.inf).amax(1, keepdim=True)
    width = high - low
    places = torch.where(mask & (width > 1e-6), (batch.old_logprobs - low) / width, 0.0)
    loss = UCAS_PENALTY * batch.weight * places
    positive = batch.positive * (-CERTAIN_SUCCESS * scores).exp()[:, None]
    negative = batch.negative * (CERTAIN_FAILURE * scores).exp()[:, None]
    return replace(
        batch,
        positive=(positive - torch.where(positive > 0, loss, 0.0)).clamp(min=0),
        negative=negative - torch.where(negative < 0, loss, 0.0),
    )


def dcpo(batch: Batch, entropy: Tensor, hot: Tensor, cold: Tensor) -> Batch:
    """Move successes to another temperature to hold the entropy (DCPO, of the authors of AEPO).

    A becomes (1 - a) A + a 1[A > 0] p_T / p, with T = 1.2 where the mean entropy of the batch is at
    most .25 nats and .8 above. a = b / (1 + b) with b = min(|.25 - H|, .1) / (the share of tokens
    with A > 0). The source divides by the share of correct responses.

    Args:
        batch: with scored `old_logprobs`.
        entropy: (N, T) of pi_old, in nats.
        hot: (N, T) from `hot_logprobs`.
        cold: (N, T) from `cold_logprobs`.
    """
    mask = batch.loss_mask
    is_success = mask & (batch.positive + batch.negative > 0)
    if not is_success.any():
        return batch
    mean = float(entropy[mask].mean())
    tempered = hot if mean <= DCPO_ENTROPY else cold
    share = float(is_success.sum()) / float(mask.sum())
    strength = min(abs(DCPO_ENTROPY - mean), DCPO_GAP) / share
    strength /= 1 + strength
    ratio = torch.where(is_success, (tempered - batch.old_logprobs).exp(), 0.0)
    return replace(
        batch,
        positive=(1 - strength) * batch.positive + strength * batch.weight * ratio,
        negative=(1 - strength) * batch.negative,
    )


def siren(batch: Batch, nucleus: Tensor, anchor: float | None) -> Batch:
    """Hold the entropy of the most uncertain tokens at that of the first step (SIREN).

    Its loss is coef (H - anchor)^2, with H the mean over `peak_tokens` of their entropy among the
    likeliest tokens. The gradient is that of an entropy bonus in which these tokens weigh
    2 (anchor - H) / (their number), and all others 0; H is taken once per rollout.

    Args:
        batch: any batch.
        nucleus: (N, T) from `nucleus_entropies`, of pi_old.
        anchor: in nats; None in the first step, which has no such loss.
    """
    is_peak = peak_tokens(batch, nucleus)
    mean = float(nucleus[is_peak].mean()) if is_peak.any() else 0.0
    distance = 0.0 if anchor is None else anchor - mean
    weight = 2 * distance / max(1, int(is_peak.sum()))
    return replace(batch, entropy_weight=weight * is_peak.to(batch.weight.dtype))


def peak_tokens(batch: Batch, nucleus: Tensor) -> Tensor:
    """Mark the fifth of the trained tokens that is most uncertain, (N, T) bool.

    Args:
        batch: any batch.
        nucleus: (N, T) from `nucleus_entropies`.
    """
    mask = batch.loss_mask
    if not mask.any():
        return mask
    return mask & (nucleus >= nucleus[mask].quantile(1 - PEAK_SHARE) - 1e-5)
