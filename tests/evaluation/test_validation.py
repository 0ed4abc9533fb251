"""What is measured during training."""

import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.configs.load import load_config
from sesa_agent.environments import make_env
from sesa_agent.evaluation.validation import validate
from sesa_agent.sampling.dialogue import Dialogue

from ..helpers.tiny_models import chatml_tokenizer
from ..helpers.toy_game import ENV_ID

PLAIN = {
    f"eval/{name}" for name in ("success_rate", "return", "readable_rate", "legal_rate", "turns")
}
LEFT, RIGHT = "<answer>Left</answer>", "<answer>Right</answer>"


def measured(script, *settings, num_targets=0):
    tokenizer = chatml_tokenizer()
    dialogue = Dialogue(
        lambda: make_env(ENV_ID, num_targets=num_targets), ChatFormat(tokenizer), max_turns=4
    )
    cfg = load_config(ENV_ID, "sesa", list(settings))
    return validate(cfg, ScriptedEngine(tokenizer, script), dialogue, [0])


def test_one_attempt_says_nothing_of_several():
    assert set(measured([RIGHT, RIGHT], num_targets=1)) == PLAIN


def test_several_attempts_say_what_further_ones_find():
    """One of four attempts at a puzzle succeeds, with one of its two targets."""
    script = [RIGHT, LEFT, LEFT, LEFT, RIGHT]
    metrics = measured(script, "eval.samples=4", num_targets=2)
    assert {name: metrics[name] for name in metrics.keys() - PLAIN} == {
        "eval/pass_at_4": 1,
        "eval/pass_ratio": 4,
        "eval/distinct_answers": 2,
        "eval/coverage_at_4": pytest.approx(0.5),
    }
    assert metrics["eval/success_rate"] == 0.25


def test_what_does_not_exist_is_left_out():
    metrics = measured([LEFT, LEFT], "eval.samples=2")
    assert metrics.keys() - PLAIN == {"eval/pass_at_2", "eval/distinct_answers"}
