"""Trees branch in games whose forks replay, and every trajectory replays to the same end."""

import pytest

from sesa_agent.environments import make_env
from sesa_agent.environments.available import AVAILABLE, with_available
from sesa_agent.sampling.dialogue import Dialogue
from tests.helpers.collections import need
from tests.helpers.games import CHAT, at_random
from tests.helpers.grown import grow
from tests.helpers.openenv_server import openenv_server


def grown_tree(env_id, moves, seed, **options):
    """A tree of at most four leaves, from random moves."""
    dialogue = Dialogue(lambda: make_env(env_id, step_timeout=0, **options), CHAT, max_turns=3)
    trees, _ = grow(dialogue, at_random(*moves, nonsense=0), seed, max_trajectories=4)
    return trees[0]


def shown(text, info):
    """What a prompt shows of a state."""
    return with_available(text, info.get(AVAILABLE, ()))


def require_replay(tree, env_id, seed, **options):
    """Play each trajectory again in a fresh environment and compare what was seen."""
    env = make_env(env_id, step_timeout=0, **options)
    for node in range(len(tree)):
        text = shown(*env.reset(seed=seed))
        for turn in (tree.turns[place] for place in tree.path(node)):
            assert turn.observation == text
            text, reward, terminated, truncated, info = env.step(turn.action)
            text = shown(text, {} if terminated or truncated else info)
            assert (turn.next_observation, turn.reward) == (text, reward)
    env.close()


def test_a_tree_grows_on_an_openenv_server():
    need("openenv")
    with openenv_server(sessions=64) as (url, _):
        tree = grown_tree(f"openenv:{url}", [str(n) for n in range(1, 10)], 3)
        assert len(tree) >= 4
        require_replay(tree, f"openenv:{url}", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "moves", "options"),
    [
        ("textworld/coin_collector", ["look", "inventory", "go north", "go south"], {"level": 3}),
        ("textworld_express/coin", ["move north", "move south", "move east", "inventory"], {}),
        ("scienceworld/boil", ["go to hallway", "wait1", "inventory", "look around"], {}),
    ],
)
def test_a_tree_grows_in_a_game_by_commands(env_id, moves, options):
    need(env_id.partition("/")[0])
    tree = grown_tree(env_id, moves, 2, **options)
    assert len(tree) >= 4
    require_replay(tree, env_id, 2, **options)
