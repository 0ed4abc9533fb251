"""`sesa-agent play`: a person plays, or watches a policy play."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.load import env_names, load_config
from sesa_agent.configs.schema import Config
from sesa_agent.environments import EnvError, close_env
from sesa_agent.play.keys import Read, in_terminal, single_keys, whole_lines
from sesa_agent.play.session import open_game, play_puzzles
from sesa_agent.play.watch import PolicyPlayer, watch_policy
from sesa_agent.runs import find_policy
from sesa_agent.sampling.trajectory import Task
from sesa_agent.screen import console
from sesa_agent.training.setup import (
    build_dialogue,
    build_engine,
    build_env,
    build_policy,
    check_env_opens,
    sampling_params,
)

MAX_DELAY_S = 3600
"""Maximum number of seconds between two turns of a policy."""


def run_play(
    env: str, overrides: Sequence[str], policy: str, seed: int, delay_s: float | None
) -> None:
    """Let a person play, or show how a policy plays.

    Raises:
        SettingError: for a wrong setting, or an environment that fails during play.
    """
    check(seed >= 0, "--seed", seed, "0 or more")
    if policy:
        is_delay = delay_s is None or 0 <= delay_s <= MAX_DELAY_S
        check(is_delay, "--delay", delay_s, f"from 0 to {MAX_DELAY_S} seconds")
        cfg, path = find_policy(policy, env, list(overrides))
        _guarded(cfg, partial(_watch, cfg, policy, path, seed, delay_s))
        return
    check(delay_s is None, "--delay", delay_s, "left out without --policy")
    if not env:
        raise SettingError(
            f"--env must be given: one of {', '.join(env_names())}, a Gymnasium id or a task "
            "file; or give --policy with a run. Try --env sokoban."
        )
    cfg = load_config(env, overrides=overrides)
    first = build_env(cfg)
    try:
        check_env_opens(cfg, first)
    finally:
        close_env(first)
    _guarded(cfg, partial(_play, cfg, seed))


def _guarded(cfg: Config, play: Callable[[], None]) -> None:
    try:
        play()
    except EnvError as error:
        raise SettingError(
            f"env.id {cfg.env.id} failed: {error}. Check it: sesa-agent check-env {cfg.env.id}"
        ) from error


def _play(cfg: Config, seed: int) -> None:
    game = open_game(cfg.env.id, lambda: build_env(cfg))
    _with_input(bool(game.bindings), lambda read: play_puzzles(game, seed, read, console))


def _watch(cfg: Config, name: str, path: str, seed: int, delay_s: float | None) -> None:
    policy = build_policy(cfg, path)
    dialogue = build_dialogue(cfg, policy)
    player = PolicyPlayer(
        Path(name).name or name,
        build_engine(cfg, policy),
        dialogue,
        sampling_params(cfg.engine, cfg.eval.temperature, stop=dialogue.style.stop),
    )
    task = Task(cfg.env.id, seed)
    _with_input(True, lambda read: watch_policy(player, task, read, delay_s, console))


def _with_input(takes_keys: bool, play: Callable[[Read], None]) -> None:
    """Play with single keys in a terminal if the game has any, otherwise with lines of text."""
    with single_keys() if takes_keys and in_terminal() else whole_lines() as read:
        play(read)
