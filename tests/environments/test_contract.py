"""Every registered environment keeps the text contract and Gymnasium's own."""

import os
import pickle
import subprocess
import sys
import warnings
from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sesa_agent.environments import (
    ENVIRONMENTS,
    TextEnv,
    TextGame,
    fork,
    make_env,
    state_key,
)
from sesa_agent.environments.checks import check_text_env


def make_text_env(env_id, **options) -> TextEnv:
    env = make_env(env_id, **options).unwrapped
    assert isinstance(env, TextEnv) and isinstance(env.game, TextGame)
    return env


def actions_of(env_id):
    """Texts that the environment can read."""
    return make_text_env(env_id).text_spec.listed_actions()


every_environment = pytest.mark.parametrize("env_id", ENVIRONMENTS)


@pytest.fixture
def strict(monkeypatch):
    """Any warning, of Python or of Gymnasium's logger, is an error."""

    def fail(message, *arguments, **_):
        raise AssertionError(f"gymnasium warned: {message % arguments if arguments else message}")

    monkeypatch.setattr(gymnasium.logger, "warn", fail)
    monkeypatch.setattr(gymnasium.logger, "error", fail)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@every_environment
def test_the_text_contract_holds(env_id, strict):
    check_text_env(gymnasium.make(env_id), num_episodes=5)


@every_environment
def test_gymnasiums_checker_accepts_the_text_environment(env_id, strict):
    check_env(gymnasium.make(env_id))
    check_env(gymnasium.make(env_id).unwrapped)


@every_environment
def test_gymnasiums_checker_accepts_the_numeric_game(env_id, strict):
    # A game has no id of its own, without which the checker cannot remake it for other pictures.
    check_env(make_text_env(env_id).game, skip_render_check=True)


@every_environment
@pytest.mark.parametrize("render_mode", ["ansi", "rgb_array"])
def test_a_picture_is_drawn_in_every_mode(env_id, render_mode, strict):
    env = gymnasium.make(env_id, render_mode=render_mode)
    observation, _ = env.reset(seed=0)
    picture = env.render()
    if render_mode == "ansi":
        assert picture == observation
    else:
        assert isinstance(picture, np.ndarray) and picture.dtype == np.uint8
        assert picture.ndim == 3 and picture.shape[2] == 3


@every_environment
def test_pickling_keeps_state_and_future(env_id):
    env = make_env(env_id)
    env.reset(seed=3)
    copy = pickle.loads(pickle.dumps(env))
    assert state_key(copy) == state_key(env)
    for text in actions_of(env_id):
        assert copy.step(text) == env.step(text)


@every_environment
def test_a_fork_works_through_wrappers(env_id):
    env = gymnasium.wrappers.TimeLimit(make_env(env_id, max_steps=50), max_episode_steps=3)
    check_text_env(env, num_episodes=1)
    env.reset(seed=0)
    twin = fork(env)
    steps = [twin.step("hello")[2:4] for _ in range(3)]
    assert steps[-1] == (False, True)
    assert env.step("hello")[2:4] == (False, False)


@every_environment
def test_every_field_of_the_text_spec_is_one_line(env_id):
    env = make_text_env(env_id)
    for line in (env.text_spec.instruction, env.text_spec.legend, env.text_spec.actions):
        assert "\n" not in line
    assert env.text_spec.instruction and env.text_spec.actions


@every_environment
def test_the_step_limit_truncates_or_ends_the_game(env_id):
    env = make_env(env_id, max_steps=3)
    env.reset(seed=0)
    ends = [env.step("hello")[2:4] for _ in range(3)]
    assert ends[:2] == [(False, False)] * 2
    assert sum(ends[2]) == 1


@every_environment
def test_a_seed_is_the_same_puzzle_in_every_process(env_id):
    program = (
        "from sesa_agent.environments import make_env\n"
        f"env = make_env({env_id!r})\n"
        "print([ascii(env.reset(seed=seed)[0]) for seed in range(10)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    env = make_env(env_id)
    assert output.strip() == str([ascii(env.reset(seed=seed)[0]) for seed in range(10)])


def test_every_entry_point_names_an_existing_module():
    for entry_point in ENVIRONMENTS.values():
        assert find_spec(entry_point.partition(":")[0])
