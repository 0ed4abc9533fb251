"""A run whose responses cannot be read, or that has nothing to learn from, says so at once."""

import pytest

from sesa_agent.configs.load import load_config
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree, Turn
from sesa_agent.training.monitor import EARLY, find_no_start, latest_readable_rates
from sesa_agent.training.progress import Progress
from sesa_agent.training.readability import describe_unreadable, find_unreadable
from sesa_agent.training.trainer import _look_after
from sesa_agent.training.tree_summary import TreeSummary, summarize

CONFIG = load_config("sokoban", overrides=["engine.max_new_tokens=3"])


def tree(response: str, action: str | None, num_tokens: int = 2) -> TreeSummary:
    ids = tuple(range(num_tokens))
    turn = Turn("a wall", (1,), ids, (0.0,) * num_tokens, response, action, 0.0, False, True)
    grown = TrajectoryTree(Task("sesa/Sokoban-v0", 0))
    grown.add(ROOT, turn)
    return summarize(grown, 0.0, CONFIG.engine.max_new_tokens)


def step(signal: float = 0.0, success: float = 0.0, readable: float = 1.0) -> dict[str, float]:
    return {
        "rollout/signal_groups": signal,
        "rollout/success_rate": success,
        "rollout/readable_rate": readable,
    }


@pytest.mark.parametrize(
    ("success", "kind", "advice"),
    [
        (0.0, "too_hard", "env.max_turns"),
        (1.0, "too_easy", "Make it harder"),
        (0.5, "same_returns", "engine.temperature"),
    ],
)
def test_a_run_without_any_signal_says_so_after_a_few_steps(success, kind, advice):
    (symptom,) = find_no_start([step(success=success)] * EARLY)
    assert symptom.kind == kind and advice in symptom.text and not symptom.is_collapse
    assert find_no_start([step(success=success)] * (EARLY - 1)) == []
    assert find_no_start([step(success=success)] * EARLY + [step(signal=0.1)]) == []
    assert find_no_start([{}] * EARLY) == []


def test_unreadable_responses_are_quoted_with_the_wanted_format():
    (symptom,) = find_unreadable([0.0] * 3, [tree("Sure: Up\x1b[1m", None)], CONFIG)
    assert "one is 'Sure: Up" in symptom.text and "\x1b" not in symptom.text
    assert "Reply with <answer>your answer</answer>." in symptom.text
    assert "max_new_tokens" not in symptom.text and "--model" in symptom.text


def test_responses_that_are_cut_need_more_tokens():
    (symptom,) = find_unreadable([0.0], [tree("I think that", None, num_tokens=3)], CONFIG)
    assert "raise engine.max_new_tokens (3)" in symptom.text


def test_of_a_long_response_the_end_is_quoted():
    text = describe_unreadable("so " * 1000 + "Up", 0.0, CONFIG)
    assert "one ends with" in text and "Up'" in text and len(text) < 500


def test_readable_responses_are_no_symptom():
    assert find_unreadable([0.0, 0.5, 0.0], [tree("Up", None)], CONFIG) == []
    assert find_unreadable([0.0], [tree("Up", "Up")], CONFIG) == []
    assert latest_readable_rates([step(readable=0.0)] * 2) == []  # too early to say
    assert latest_readable_rates([step()] + [step(readable=0.0)] * 3) == [0.0] * 3


def test_a_run_names_the_cause_once_and_not_what_follows_from_it():
    """Responses that cannot be read make every task too hard."""
    progress = Progress()
    news = [
        [symptom.kind for symptom in _look_after(progress, step(readable=0.0), CONFIG, trees)]
        for trees in [[tree("Hm", None)]] * 50
    ]
    assert news[2] == ["unreadable"]
    assert not any(found for number, found in enumerate(news) if number != 2)
