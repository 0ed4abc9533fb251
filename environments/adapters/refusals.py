"""Why an environment cannot be played, in words: several players, the old gym, pixels, and so on.

Gymnasium refuses such environments too, but says only that a name or a class is wrong.
"""

import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.spaces import Box

SEVERAL_PLAYERS = ("pettingzoo", "rlcard", "pyspiel", "open_spiel")
"""Packages whose games are for several players."""
ONE_PLAYER = (
    "Only games for one player are played: register a Gymnasium environment in which the other "
    "players belong to the game"
)
OLD_GYM = (
    "it is written for the old package gym, whose step() returns four values. Take its version for "
    "Gymnasium, or wrap it: pip install shimmy"
)


def refuse_id(env_id: str) -> str:
    """Say why an id that Gymnasium does not know cannot be played; empty if we do not know it.

    >>> refuse_id("pettingzoo.classic.tictactoe_v3").partition(".")[0]
    'pettingzoo has games for several players'
    """
    module, _, name = env_id.rpartition(":")
    package = (module or env_id).partition(".")[0].partition("/")[0]
    if package in SEVERAL_PLAYERS:
        return f"{package} has games for several players. {ONE_PLAYER}"
    textarena = sys.modules.get("textarena.envs.registration")  # loaded by its adapter
    known = getattr(textarena, "ENV_REGISTRY", {})
    if package == "textarena" and env_id.partition("/")[2] in known:
        return f"it is no game of TextArena for one player. {ONE_PLAYER}"
    registry: Any = getattr(sys.modules.get("gym.envs.registration"), "registry", {})
    if name and name in getattr(registry, "env_specs", registry):
        return OLD_GYM
    return ""


def refuse_class(spec: EnvSpec, options: Mapping[str, Any]) -> str:
    """Say why what an id makes is no environment of Gymnasium; empty if we do not know it.

    Args:
        spec: the registration.
        options: keyword arguments of the constructor.
    """
    make: Any = spec.entry_point
    try:
        maker = load_env_creator(make) if isinstance(make, str) else make
        made = maker(**{**spec.kwargs, **options})
    except Exception:  # noqa: BLE001  Gymnasium's own error says as much
        return ""
    packages = {base.__module__.partition(".")[0] for base in type(made).__mro__}
    counts = [getattr(made, name, None) for name in ("num_players", "player_num")]
    has_players = any(isinstance(count, int) and count > 1 for count in counts)
    if has_players or hasattr(made, "possible_agents") or packages & {*SEVERAL_PLAYERS}:
        return f"it is a game for several players. {ONE_PLAYER}"
    return OLD_GYM if "gym" in packages else ""


def refuse_rewards(env: gymnasium.Env[Any, Any]) -> str:
    """Say that an environment has several rewards, if it declares so; empty otherwise."""
    space = getattr(env.unwrapped, "reward_space", None)
    size = int(np.prod(getattr(space, "shape", None) or (1,)))
    if size == 1:
        return ""
    return (
        f"it gives {size} rewards in each step ({space}), but learning needs one. Add them up in a "
        "wrapper, as mo_gymnasium.wrappers.LinearReward does"
    )


def is_pixels(space: gymnasium.Space[Any]) -> bool:
    """Return whether observations are a picture: bytes, with one, three or four colours."""
    shape = space.shape or ()
    is_bytes = isinstance(space, Box) and space.dtype == np.uint8
    return is_bytes and len(shape) == 3 and bool({1, 3, 4} & {shape[0], shape[2]})
