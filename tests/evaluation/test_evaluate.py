"""Counting is right when the answers are known: a script plays."""

import json

import numpy as np
import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engine import SamplingParams, ScriptedEngine
from sesa_agent.environments import make_env
from sesa_agent.evaluation.evaluate import evaluate
from sesa_agent.evaluation.statistics import wilson_interval
from sesa_agent.sampling.dialogue import Dialogue

from ..tiny_models import CHATML, byte_tokenizer
from ..toy_game import ENV_ID

PARAMS = SamplingParams(temperature=0.5)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer(CHATML, ("<|pad|>", "<|im_start|>", "<|im_end|>"), eos="<|im_end|>")


@pytest.fixture(scope="module")
def dialogue(tokenizer):
    return Dialogue(lambda: make_env(ENV_ID), ChatFormat(tokenizer), max_turns=4)


def play(tokenizer, dialogue, script, num_puzzles=2, num_samples=1):
    engine = ScriptedEngine(tokenizer, script)
    return evaluate(engine, dialogue, ENV_ID, range(num_puzzles), PARAMS, num_samples)


def test_a_player_that_always_wins(tokenizer, dialogue):
    result = play(tokenizer, dialogue, lambda prompt: "<answer>right</answer>")
    assert (result.success_rate, result.mean_turns) == (1, 2)
    assert (result.readable_rate, result.legal_rate) == (1, 1)
    assert (result.low, result.high) == wilson_interval(2, 2)
    assert (result.num_episodes, result.num_samples, result.temperature) == (2, 1, 0.5)


@pytest.mark.parametrize(
    ("reply", "readable", "legal"),
    [("Right", 0, 0), ("<answer>fly</answer>", 0, 0), ("<answer>Up</answer>", 1, 0)],
)
def test_answers_that_do_nothing_last_until_the_limit(tokenizer, dialogue, reply, readable, legal):
    result = play(tokenizer, dialogue, lambda prompt: reply)
    assert (result.success_rate, result.mean_turns) == (0, 4)
    assert (result.readable_rate, result.legal_rate) == (readable, legal)


def test_pass_at_k_counts_attempts_and_the_interval_counts_puzzles(tokenizer, dialogue):
    """Of four attempts at each of two puzzles one wins at the first puzzle."""
    left, right = "<answer>Left</answer>", "<answer>Right</answer>"
    script = [right, *[left] * 7, right]
    result = play(tokenizer, dialogue, script, num_samples=4)
    assert result.success_rate == 1 / 8
    assert result.pass_at_k == {1: 1 / 8, 2: 1 / 4, 4: 1 / 2}
    assert (result.low, result.high) == wilson_interval(2 / 8, 2)
    assert result.mean_turns == 9 / 8


@pytest.mark.parametrize(("num_samples", "ks"), [(1, [1]), (3, [1, 2]), (8, [1, 2, 4, 8])])
def test_k_are_the_powers_of_two_up_to_n(tokenizer, dialogue, num_samples, ks):
    result = play(tokenizer, dialogue, lambda prompt: "none", num_samples=num_samples)
    assert list(result.pass_at_k) == ks


def test_batches_of_puzzles_change_nothing(tokenizer, dialogue, monkeypatch):
    def script(prompt):
        return "<answer>Right</answer>"

    whole = play(tokenizer, dialogue, script, num_puzzles=5)
    monkeypatch.setattr("sesa_agent.evaluation.evaluate.PUZZLES_AT_ONCE", 2)
    assert play(tokenizer, dialogue, script, num_puzzles=5) == whole


def test_a_result_is_plain_json(tokenizer, dialogue):
    result = play(tokenizer, dialogue, lambda prompt: "none", num_samples=2)
    values = json.loads(json.dumps(result.to_json()))
    assert values["pass_at_k"] == {"1": 0.0, "2": 0.0}
    assert all(not isinstance(value, np.generic) for value in result.to_json().values())
