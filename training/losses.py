"""The loss that is minimised: GRPO's clipped surrogate over turns that are computed once.

`Batch` carries the averaging (already divided by the common denominator), so a loss is a plain sum:
the losses and gradients of micro-batches add up to those of the whole.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..configs.schema import LossConfig
from .batch import Batch

KL_COV_BETA = 1.0
"""Weight of |log r| at the tokens that KL-Cov holds (arXiv:2505.22617)."""
LP_REG_BETA = 1.0
"""Weight of k3 at the tokens that Lp-Reg holds (arXiv:2510.03222)."""
ROUNDING = 1e-5
"""Log-ratios up to this are rounding, in nats. There |log r| has a gradient of full size whose sign
differs from one processor to the next."""
MAX_LOG_RATIO = 20.0
"""Log-ratios beyond this are cut, so that no exponential overflows: inf * 0 in the backward pass
would be NaN."""


def grpo_loss(
    logprobs: Tensor,
    entropy: Tensor | None,
    batch: Batch,
    cfg: LossConfig,
    reference_logprobs: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate (SESA Eq. 1, DAPO's two clip sides) with entropy bonus and KL penalty.

    loss = -sum [S+ min(r, 1 + clip_high) + S- min(max(r, 1 - clip_low), dual_clip)]
           - entropy_coef sum v H + kl_coef sum w k3

    over the tokens of `loss_mask`, with r = pi / pi_old, S+ and S- `positive` and `negative` of the
    batch, w its `weight` and v its `entropy_weight`, H the entropy of the policy and
    k3 = pi_ref / pi - log(pi_ref / pi) - 1 (arXiv:2402.03300 Eq. 4). `dual_clip` bounds the loss of
    a failure that became much likelier (dual-clip PPO, arXiv:1912.09729); 0 is no bound. At the
    tokens of `kl_mask` the square bracket is (S+ + S-) r - beta w |log r|, without a clip (KL-Cov,
    `training/exploration.py`); |log r| is 0 up to `ROUNDING`. Where `proxy_logprobs` has a log q,
    it is (S+ + S-) r - w k3(q), without a clip (Lp-Reg, `training/distributions.py`).

    Args:
        logprobs: log pi of the tokens, shape (N, T); anything outside `loss_mask`.
        entropy: of the policy at each token in nats, shape (N, T); needed if `entropy_coef` is set.
        batch: with scored `old_logprobs`.
        cfg: clip range and coefficients.
        reference_logprobs: log-probabilities of the initial policy, shape (N, T); needed if
            `kl_coef` is set.

    Returns:
        The loss, a scalar whose gradient is exactly 0 outside `loss_mask`, and sums over the
        trained tokens, to be added over micro-batches and averaged by `mean_stats`: `tokens` (their
        number), `clipped` (tokens where the clip stops a gradient), `ratio` (r), `approx_kl` (r - 1
        - log r, the KL from the old policy) and, where given, `entropy` (H) and `kl` (k3).

    Raises:
        ValueError: if `entropy` or `reference_logprobs` is missing though its coefficient is set.
    """
    if cfg.entropy_coef and entropy is None:
        raise ValueError("loss.entropy_coef is set, but no entropies were given.")
    if cfg.kl_coef and reference_logprobs is None:
        raise ValueError("loss.kl_coef is set, but no reference log-probabilities were given.")
    mask = batch.loss_mask
    log_ratio = _log_ratio(logprobs, batch.old_logprobs, mask)
    ratio = log_ratio.exp()
    gain, is_clipped = _surrogate(log_ratio, ratio, batch, cfg)
    is_held = batch.proxy_logprobs != 0
    if is_held.any():
        distance = _k3(_log_ratio(batch.proxy_logprobs, logprobs, is_held))
        held = (batch.positive + batch.negative) * ratio - LP_REG_BETA * batch.weight * distance
        gain, is_clipped = torch.where(is_held, held, gain), is_clipped & ~is_held
    loss = -gain.sum()
    sums = {
        "tokens": batch.count.sum(),
        "clipped": (batch.count * is_clipped).sum(),
        "ratio": (batch.count * ratio).sum(),
        "approx_kl": (batch.count * (ratio - 1 - log_ratio)).sum(),
    }
    if entropy is not None:
        entropy = torch.where(mask, entropy, 0.0)
        loss = loss - cfg.entropy_coef * (batch.entropy_weight * entropy).sum()
        sums["entropy"] = (batch.count * entropy).sum()
    if reference_logprobs is not None:
        k3 = _k3(_log_ratio(reference_logprobs, logprobs, mask))
        loss = loss + cfg.kl_coef * (batch.weight * k3).sum()
        sums["kl"] = (batch.count * k3).sum()
    return loss, {name: float(value.detach()) for name, value in sums.items()}


def _surrogate(
    log_ratio: Tensor, ratio: Tensor, batch: Batch, cfg: LossConfig
) -> tuple[Tensor, Tensor]:
    """What is maximised at each token, and where the clip stops its gradient, both (N, T)."""
    high, low, highest = 1 + cfg.clip_high, 1 - cfg.clip_low, cfg.dual_clip or math.inf
    gained = batch.positive * ratio.clamp(max=high)
    clipped = gained + batch.negative * ratio.clamp(min=low, max=highest)
    distance = torch.where(log_ratio.abs() > ROUNDING, log_ratio.abs(), 0.0)
    penalty = KL_COV_BETA * batch.weight * distance
    held = (batch.positive + batch.negative) * ratio - penalty
    is_clipped = (ratio > high) & (batch.positive > 0)
    is_clipped |= ((ratio < low) | (ratio > highest)) & (batch.negative < 0)
    return torch.where(batch.kl_mask, held, clipped), is_clipped & ~batch.kl_mask


Loss = Callable[
    [Tensor, Tensor | None, Batch, LossConfig, Tensor | None], tuple[Tensor, dict[str, float]]
]
"""Arguments and result as of `grpo_loss`."""
LOSSES: dict[str, Loss] = {"grpo": grpo_loss}
"""Losses by the name that `loss.name` takes."""


def mean_stats(stats: Iterable[dict[str, float]]) -> dict[str, float]:
    """Average the sums that `grpo_loss` returned over all trained tokens of several micro-batches.

    Returns:
        `clip_fraction`, `ratio`, `approx_kl` and, where they were given, `entropy` and `kl`, per
        token; empty if no token was trained.
    """
    totals: dict[str, float] = {}
    for sums in stats:
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + value
    num_tokens = totals.pop("tokens", 0.0)
    if not num_tokens:
        return {}
    means = {name: value / num_tokens for name, value in totals.items()}
    return {"clip_fraction": means.pop("clipped"), **means}


def _log_ratio(logprobs: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """log(p / q) on the mask; 0 elsewhere, where no value and no gradient may come from."""
    return torch.where(mask, logprobs - other, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _k3(log_ratio: Tensor) -> Tensor:
    """The estimate q / p - log(q / p) - 1 of a KL divergence, from log(q / p)."""
    return log_ratio.exp() - log_ratio - 1
