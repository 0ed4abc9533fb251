"""The mean return stands beside success wherever it says more."""

import gymnasium
import pytest
from rich.console import Console

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.environments import make_env
from sesa_agent.evaluation.evaluate import Evaluation, evaluate
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.screen import result_table

from ..helpers.tiny_models import chatml_tokenizer
from ..helpers.toy_game import ENV_ID

LEFT, RIGHT = "<answer>Left</answer>", "<answer>Right</answer>"


class Toll(gymnasium.Wrapper):
    """Every step costs .25."""

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) - 0.25, *rest


def play(script: list[str], toll: bool, num_puzzles: int = 2) -> Evaluation:
    tokenizer = chatml_tokenizer()
    make = (lambda: Toll(make_env(ENV_ID))) if toll else (lambda: make_env(ENV_ID))
    dialogue = Dialogue(make, ChatFormat(tokenizer), max_turns=4)
    engine = ScriptedEngine(tokenizer, script)
    return evaluate(engine, dialogue, ENV_ID, range(num_puzzles), SamplingParams(temperature=0.5))


def table(result: Evaluation) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(result_table(ENV_ID, {"base": result}))
    return capture.get()


def test_the_mean_return_is_over_puzzles_with_a_t_interval():
    """Two steps to the right: 1 - .5; one to the left: -.25. t(.975, 1) = 12.7062."""
    result = play([RIGHT, LEFT, RIGHT], toll=True)
    assert result.success_rate == 0.5 and result.mean_return == pytest.approx(0.125)
    assert result.return_low == pytest.approx(0.125 - 12.7062 * 0.375, abs=1e-3)
    assert result.return_high == pytest.approx(0.125 + 12.7062 * 0.375, abs=1e-3)
    assert result.to_json()["mean_return"] == result.mean_return
    assert "return" in table(result) and "0.125" in table(result)


def test_a_return_that_equals_success_is_left_out_of_the_table():
    result = play([RIGHT, LEFT, RIGHT], toll=False)
    assert result.mean_return == result.success_rate == 0.5
    assert "return" not in table(result)


def test_one_puzzle_has_no_interval():
    result = play([LEFT], toll=True, num_puzzles=1)
    assert (result.mean_return, result.return_low, result.return_high) == (-0.25, None, None)


def test_an_unreadable_response_is_kept_as_an_example():
    assert play([LEFT, LEFT], toll=False).unreadable_response == ""
    result = play(["Hm"] * 8, toll=False)
    assert result.unreadable_response == "Hm" and result.readable_rate == 0
