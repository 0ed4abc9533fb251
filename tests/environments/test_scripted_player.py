"""Environments may offer a scripted player, which is found through wrappers, guards and workers."""

import random

import gymnasium
import pytest
from gymnasium.wrappers import OrderEnforcing

from sesa_agent.environments import OWN_ENVIRONMENTS, EnvError, GuardedEnv, make_env
from sesa_agent.environments.adapters.adapter import TextAdapter
from sesa_agent.environments.text_env import scripted_player
from sesa_agent.environments.workers.pool import WorkerPool
from sesa_agent.environments.workers.pooled_env import PooledEnv
from sesa_agent.environments.workers.states import Setup

from ..helpers.toy_game import CorridorGame, make_corridor


class GuidedGame(CorridorGame):
    """A corridor with a player that mostly walks to the right."""

    def scripted_action(self, rng):
        return rng.choice(("Right", "right"))


def make_guided(**_):
    env = make_corridor()
    env.game = GuidedGame()
    return env


def play(env, seed=0, max_turns=100):
    """Play an episode with the environment's own player; the answers and the last step's info."""
    rng, player = random.Random(seed), scripted_player(env)
    assert player is not None
    env.reset(seed=seed)
    answers, info, is_over = [], {}, False
    while not is_over and len(answers) < max_turns:
        answer = player(rng)
        if answer is None:
            break
        answers.append(answer)
        _, _, terminated, truncated, info = env.step(answer)
        is_over = terminated or truncated
    return answers, info


SOLVED = {
    "sesa/Sokoban-v0": {},
    "sesa/FrozenLake-v0": {"slippery": False},
    "sesa/Countdown-v0": {},
    "sesa/Sudoku-v0": {},
    "sesa/Math-v0": {},
    "sesa/SqlQuestions-v0": {},
}


@pytest.mark.parametrize("env_id", OWN_ENVIRONMENTS)
def test_every_own_environment_has_a_player_whose_answers_are_legal(env_id):
    env = make_env(env_id, **SOLVED.get(env_id, {}))
    for seed in range(5):
        answers, info = play(env, seed)
        assert answers and info["legal"]
        assert info["success"] or env_id not in SOLVED


@pytest.mark.parametrize("answer", ["placements", "grid", "fill"])
def test_sudokus_are_solved_in_every_form_of_answer(answer):
    assert play(make_env("sesa/Sudoku-v0", answer=answer))[1]["success"]


def test_a_player_changes_nothing():
    env = make_env("sesa/FrozenLake-v0")
    env.reset(seed=0)
    player = scripted_player(env)
    before = env.np_random.bit_generator.state
    assert player is not None and player(random.Random(0)) == player(random.Random(1))
    assert env.np_random.bit_generator.state == before


def test_the_player_of_path_exploration_does_not_know_the_treasures():
    player = scripted_player(make_env("sesa/PathExploration-v0"))
    assert player is not None
    assert len({player(random.Random(seed)) for seed in range(100)}) > 60


def test_a_game_without_a_player_has_none():
    for env in (make_corridor(), GuardedEnv(make_corridor, 0.0), gymnasium.make("CartPole-v1")):
        assert scripted_player(env) is None


def test_a_player_is_found_through_wrappers_guards_and_workers():
    pools = [WorkerPool(Setup(make, 5.0, "", {}), 1) for make in (make_corridor, make_guided)]
    try:
        without, pooled = map(PooledEnv, pools)
        assert scripted_player(without) is None
        guarded = GuardedEnv(make_guided, 0.0)
        for env in (make_guided(), OrderEnforcing(make_guided()), guarded, pooled):
            answers, info = play(env)
            assert {answer.lower() for answer in answers} == {"right"} and info["success"]
    finally:
        for pool in pools:
            pool.close()


class Buttons(gymnasium.Env):
    """Press the button that is lit."""

    observation_space = action_space = gymnasium.spaces.Discrete(2)
    action_names = ("Red", "Blue")
    max_steps = 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, float(action), True, False, {"success": action == 1}

    def scripted_action(self, rng):
        return "Blue"


def test_a_player_of_a_numeric_environment_answers_in_the_words_of_its_adapter():
    assert play(TextAdapter(Buttons()))[1]["success"]


@pytest.mark.parametrize("given", [3, "\ud800"])
def test_a_player_that_answers_no_text_fails_by_name(given):
    def build():
        env = make_guided()
        env.game.scripted_action = lambda rng: given  # pyright: ignore[reportAttributeAccessIssue]
        return env

    env = GuardedEnv(build, 0.0)
    env.reset(seed=0)
    player = scripted_player(env)
    assert player is not None
    with pytest.raises(EnvError, match=r"scripted_action\(\)"):
        player(random.Random(0))
