"""What counts as success in a run, found out before it starts."""

from typing import Any

import gymnasium

from ..configs.errors import SettingError
from ..configs.schema import Config
from ..environments import EnvError, GuardedEnv
from ..environments.success_probe import probe_success, refute_guess
from ..environments.workers.pooled_env import PooledEnv


def resolve_success(cfg: Config, env: gymnasium.Env[Any, Any]) -> str:
    """Return the rule of success that a run follows.

    Args:
        cfg: the run's configuration.
        env: its environment; some random episodes are played in it.

    Returns:
        The setting, or the `reward_threshold` of the environment as such a rule; empty where the
        environment says what success is, or may mean it by a positive reward at the end.

    Raises:
        SettingError: if a positive reward at the end cannot mean success, and nothing else does;
            or if the environment fails in every first step.
    """
    if cfg.env.success or not isinstance(env, GuardedEnv | PooledEnv):
        return cfg.env.success
    try:
        episodes = probe_success(env)
    except EnvError as error:
        raise SettingError(
            f"env.id {cfg.env.id} fails in its first step, in every puzzle tried: {error}."
        ) from error
    if episodes is None:
        return ""
    if env.success.source == "reward_threshold":
        return str(env.success.rule)
    reason = refute_guess(episodes)
    if reason:
        raise SettingError(
            f"env.success must be set for {cfg.env.id}, whose rewards do not say what success is: "
            f"{reason}. Choose a rule: env.success=terminated, env.success=truncated, "
            "'env.success=return>=N' or 'env.success=reward>N'."
        )
    return ""
