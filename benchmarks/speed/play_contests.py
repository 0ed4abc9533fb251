"""Contests of a step with its text, and of a fork. Run by `environments.py`."""

import copy
import itertools
from typing import Any

import gymnasium
import numpy as np
from contest import Call, Contest
from gymnasium.envs.toy_text.frozen_lake import UP, FrozenLakeEnv

from sesa_agent.environments import fork

NO_LIMIT = 10**9
CORRIDOR = "######\n#P___#\n#__X_#\n#_#__#\n#___O#\n######"
"""The player alternates between right and left."""
LAKE = "P___\n_O_O\n___O\nO__G"
"""Gymnasium's 4x4 map. Its top row has no hole: a player who always goes up slips along it."""


# ---- steps ----


def sokoban_step_textarena() -> Contest:
    """One action as text in, the next board as text out, on the same board."""
    from textarena.envs.Sokoban.env import SokobanEnv  # pyright: ignore[reportMissingImports]

    peer = SokobanEnv(dim_room=(6, 6), max_turns=NO_LIMIT, num_boxes=1)
    peer.reset(num_players=1, seed=0)
    put_in_corridor(peer)
    moves = itertools.cycle(["[right]", "[left]"])

    def peer_step() -> None:
        peer.step(next(moves))
        peer.get_observation()

    name = "Sokoban 6x6: step"
    return Contest(name, step_in_corridor(), "TextArena", peer_step, target=15)


def sokoban_step_gem() -> Contest:
    """One action as text in, the next board as text out, on the same board."""
    peer = corridor_of_gem()
    moves = itertools.cycle([r"\boxed{right}", r"\boxed{left}"])
    name = "Sokoban 6x6: step"
    return Contest(name, step_in_corridor(), "GEM", lambda: peer.step(next(moves)))


def step_in_corridor() -> Call:
    """Our step in the corridor."""
    env = gymnasium.make("sesa/Sokoban-v0", max_steps=NO_LIMIT)
    env.reset(options={"level": CORRIDOR})
    moves = itertools.cycle(["Right", "Left"])
    return lambda: env.step(next(moves))


def corridor_of_gem() -> Any:
    """GEM's Sokoban in the corridor."""
    import gem  # pyright: ignore[reportMissingImports]

    peer = gem.make("game:Sokoban-v0-easy", num_boxes=1, max_turns=NO_LIMIT)
    put_in_corridor(peer)
    return peer


def put_in_corridor(peer: Any) -> None:
    """Replace the board of TextArena's or GEM's Sokoban, which use the same attribute names."""
    peer.room_state = np.array([["#_O√XP".index(c) for c in row] for row in CORRIDOR.split("\n")])
    peer.room_fixed = np.where(peer.room_state > 2, 1, peer.room_state)
    peer.player_position = np.array([1, 1])


def lake_step_gymnasium() -> Contest:
    """One move and the map as text, on the same slippery lake.

    Gymnasium gets the number of the move instead of its name, without any wrapper.
    """
    env = gymnasium.make("sesa/FrozenLake-v0", max_steps=NO_LIMIT)
    env.reset(seed=0, options={"level": LAKE})
    peer = FrozenLakeEnv(map_name="4x4", render_mode="ansi")
    peer.reset(seed=0)

    def peer_step() -> None:
        peer.step(UP)
        peer.render()

    name = "FrozenLake 4x4: step"
    return Contest(name, lambda: env.step("Up"), "Gymnasium's ansi", peer_step, target=1.5)


def lake_step_textarena() -> Contest:
    """One move as text in, the map as text out, on the same lake; TextArena's is not slippery."""
    from textarena.envs.FrozenLake.env import (  # pyright: ignore[reportMissingImports]
        FrozenLakeEnv as PeerLake,
    )

    env = gymnasium.make("sesa/FrozenLake-v0", max_steps=NO_LIMIT, slippery=False)
    env.reset(options={"level": LAKE})
    moves = itertools.cycle(["Right", "Left"])
    peer = PeerLake(size=4)
    peer.reset(num_players=1, seed=0)
    rows = LAKE.translate(str.maketrans("P_O", "  H")).split("\n")
    assert peer.state.game_state is not None
    peer.state.game_state["grid"] = [list(row) for row in rows]
    peer.state.max_turns = NO_LIMIT
    peer_moves = itertools.cycle(["[right]", "[left]"])

    def peer_step() -> None:
        peer.step(next(peer_moves))
        peer.get_observation()

    name = "FrozenLake 4x4, no slips: step"
    return Contest(name, lambda: env.step(next(moves)), "TextArena", peer_step)


# ---- forks ----


def sokoban_fork_deepcopy() -> Contest:
    """A copy of a live environment."""
    env = gymnasium.make("sesa/Sokoban-v0")
    env.reset(seed=0)
    name = "Sokoban 6x6: fork"
    return Contest(name, lambda: fork(env), "copy.deepcopy", lambda: copy.deepcopy(env), target=10)


def sokoban_fork_gem() -> Contest:
    """A copy of a live environment; GEM's has no random generator of its own."""
    env = gymnasium.make("sesa/Sokoban-v0")
    env.reset(options={"level": CORRIDOR})
    peer = corridor_of_gem()
    name = "Sokoban 6x6: fork"
    return Contest(name, lambda: fork(env), "deepcopy of GEM's", lambda: copy.deepcopy(peer))


CONTESTS = (
    sokoban_step_textarena,
    sokoban_step_gem,
    lake_step_gymnasium,
    lake_step_textarena,
    sokoban_fork_deepcopy,
    sokoban_fork_gem,
)
