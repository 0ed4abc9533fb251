import pytest

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import make_env
from sesa_agent.evaluation.evaluate import evaluate
from sesa_agent.sampling.dialogue import Dialogue
from tests.helpers.bad_games import ENV_ID
from tests.helpers.games import CHAT, RecordingEngine, answers


def measure(fault, *moves):
    dialogue = Dialogue(lambda: make_env(ENV_ID, fault=fault), CHAT, max_turns=4)
    params = SamplingParams(temperature=1.0, max_new_tokens=8)
    return evaluate(RecordingEngine(answers(*moves)), dialogue, ENV_ID, range(6), params)


def test_an_attempt_that_ends_with_an_environment_error_fails():
    result = measure("raise", "Left")
    assert (result.success_rate, result.num_env_errors, result.left_out) == (0.0, 6, ())


def test_puzzles_that_do_not_open_are_left_out_of_the_success():
    result = measure("odd_seeds", "Jump")
    assert (result.success_rate, result.num_episodes, result.num_env_errors) == (1.0, 3, 3)
    assert result.left_out == (1, 3, 5)


def test_if_no_puzzle_opens_the_line_says_why():
    with pytest.raises(
        SettingError, match=r"the environment failed 6 times, the first time with: reset\(seed=0"
    ):
        measure("every_seed", "Jump")
