"""Advantages of maximum likelihood reinforcement learning. Numpy only."""

import numpy as np


def max_rl_advantages(rewards: np.ndarray) -> np.ndarray:
    """Credit each trajectory by its distance from the mean, in units of the mean.

    A_i = (r_i - mean(r)) / mean(r) (MaxRL, arXiv:2602.02710): the gradient of the logarithm of the
    success rate p, cut after as many terms as there are samples, where GRPO without its standard
    deviation follows that of p. A lone success among n has A = n - 1; with sqrt(p (1 - p)) as the
    divisor it would have sqrt(n - 1).

    Args:
        rewards: of one group, 0 or 1, shape (G,).

    Returns:
        Advantages, shape (G,). All zeros without any success.

    Raises:
        ValueError: if a reward is below 0; the mean could then be anything.

    >>> max_rl_advantages(np.array([1.0, 0.0, 0.0, 0.0])).tolist()
    [3.0, -1.0, -1.0, -1.0]
    """
    if (rewards < 0).any():
        raise ValueError(f"MaxRL needs rewards of at least 0, got {rewards}.")
    mean = rewards.mean()
    return (rewards - mean) / mean if mean else np.zeros_like(rewards)
