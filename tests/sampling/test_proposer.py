from dataclasses import replace

import pytest

from sesa_agent.agents.engine import SamplingParams
from sesa_agent.sampling.proposer import Decision, propose, reseeded
from sesa_agent.sampling.trajectory import Task

from .games import RecordingEngine, answers, generator, line_dialogue

DIALOGUE = line_dialogue()
START = DIALOGUE.start(Task("Line-v0", 0))
PARAMS = SamplingParams(max_new_tokens=5, stop=("</answer>",))


def script(*replies):
    """Answer in this order, one reply a row."""
    left = iter(replies)
    return lambda prompt, numbers: next(left)


def run(choose, *widths, **options):
    engine = RecordingEngine(choose)
    decisions = [Decision(START, width) for width in widths]
    propose(engine, DIALOGUE, decisions, PARAMS, generator(), **options)
    return engine, decisions


def test_each_proposal_sees_the_earlier_ones_in_order():
    engine, [decision] = run(answers("Left", "Right", "Jump"), 3)
    assert decision.actions == ["Left", "Right", "Jump"]
    prompts = [call.prompts[0] for call in engine.calls]
    assert prompts == [
        START.prompt_ids,
        DIALOGUE.proposal_prompt(START, ["Left"]),
        DIALOGUE.proposal_prompt(START, ["Left", "Right"]),
    ]
    assert [call.excluded for call in engine.calls] == [[[]], [[]], [[]]]
    assert (decision.num_calls, decision.num_duplicates) == (3, 0)


def test_without_replacement_draws_from_the_plain_prompt_what_was_not_drawn():
    replies = [f"<answer>{move}</answer>" for move in ("Left", "Right", "Jump")]
    engine, [decision] = run(script(*replies), 3, proposer="without_replacement")
    assert decision.actions == ["Left", "Right", "Jump"]
    assert all(call.prompts == [START.prompt_ids] for call in engine.calls)
    drawn = decision.proposals
    assert [call.excluded for call in engine.calls] == [[[]], [drawn[:1]], [drawn[:2]]]


@pytest.mark.parametrize("proposer", ["history", "without_replacement"])
@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_a_repeated_action_is_asked_for_again_and_then_dropped(proposer, max_retries):
    engine, [decision] = run(
        lambda *_: "<answer>Right</answer>", 3, proposer=proposer, max_retries=max_retries
    )
    assert decision.actions == ["Right"]
    assert decision.num_calls == engine.usage.calls == 2 + max_retries
    assert decision.num_duplicates == 1 + max_retries


@pytest.mark.parametrize("proposer", ["history", "without_replacement"])
def test_what_is_asked_again_may_be_new(proposer):
    replies = ["Right", "right ", "RIGHT", "Left"]
    engine, [decision] = run(
        script(*(f"<answer>{reply}</answer>" for reply in replies)), 2, proposer=proposer
    )
    assert decision.actions == ["Right", "Left"]
    assert (decision.num_calls, decision.num_duplicates) == (4, 2)
    assert len({call.prompts[0] for call in engine.calls[1:]}) == 1
    refused = [[c.text for c in call.excluded[0]] for call in engine.calls[1:]]
    kept = ["<answer>Right</answer>"] if proposer == "without_replacement" else []
    repeats = ["<answer>right </answer>", "<answer>RIGHT</answer>"]
    assert refused == [kept, kept + repeats[:1], kept + repeats]


def test_an_unreadable_response_is_one_proposal_and_is_not_named():
    replies = ["hm", "eh", "<answer>Left</answer>", "<answer>Right</answer>"]
    engine, [decision] = run(script(*replies), 3)
    assert decision.actions == [None, "Left", "Right"]
    assert decision.num_duplicates == 1
    assert [call.prompts[0] for call in engine.calls] == [
        *[START.prompt_ids] * 3,
        DIALOGUE.proposal_prompt(START, ["Left"]),
    ]


def test_decisions_are_batched_and_each_gets_its_width():
    engine, decisions = run(answers("Left", "Right", "Jump", "Rest"), 3, 1, 0, 4)
    assert [len(decision.proposals) for decision in decisions] == [3, 1, 0, 4]
    assert [len(call.prompts) for call in engine.calls] == [3, 2, 2, 1]


def test_a_dropped_decision_does_not_hold_the_others_up():
    def choose(prompt, _):
        return f"<answer>{'Left' if 'Already proposed: Left' not in prompt else 'Rest'}</answer>"

    engine, decisions = run(choose, 4, 2)
    # Left, then Rest for both; the first asks three times more and gets Rest each time.
    assert [decision.actions for decision in decisions] == [["Left", "Rest"]] * 2
    assert [len(call.prompts) for call in engine.calls] == [2, 2, 1, 1, 1]


def test_every_call_has_a_seed_of_its_own_and_else_the_same_parameters():
    engine, _ = run(answers("Left", "Right", "Jump"), 3)
    seeds = [call.params.seed for call in engine.calls]
    assert len(set(seeds)) == 3
    assert all(replace(call.params, seed=0) == PARAMS for call in engine.calls)
    assert seeds[0] == reseeded(PARAMS, generator()).seed
