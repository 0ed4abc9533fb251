import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.sampling.dialogue import Request
from sesa_agent.sampling.player import Player, reseeded, together
from sesa_agent.sampling.proposer import Decision, fill, first_index, propose
from sesa_agent.sampling.trajectory import Task

from ..helpers.games import RecordingEngine, answers, at_random, generator, in_order, line_dialogue

DIALOGUE = line_dialogue()
START = DIALOGUE.start(Task("Line-v0", 0))
PARAMS = SamplingParams(max_new_tokens=5, stop=("</answer>",))
PROPOSERS = ("history", "one_response", "without_replacement")


def run(choose, *widths, probability=0.5, **options):
    engine = RecordingEngine(choose, probability)
    decisions = [Decision(START, width) for width in widths]
    player, cfg = Player(engine, DIALOGUE, PARAMS, generator()), SamplingConfig(**options)
    player.drive(together(*(propose(decision, player, cfg) for decision in decisions)))
    return engine, decisions


def test_each_proposal_sees_the_earlier_ones_in_order():
    engine, [decision] = run(answers("Left", "Right", "Jump"), 3)
    assert decision.actions == ["Left", "Right", "Jump"]
    prompts = [call.prompts[0] for call in engine.calls]
    assert prompts == [
        START.prompt_ids,
        DIALOGUE.proposal_prompt(START, ["Left"]).prompt_ids,
        DIALOGUE.proposal_prompt(START, ["Left", "Right"]).prompt_ids,
    ]
    assert [call.excluded for call in engine.calls] == [[[]], [[]], [[]]]
    assert (decision.num_calls, decision.num_duplicates) == (3, 0)


def test_without_replacement_draws_from_the_plain_prompt_what_was_not_drawn():
    replies = [f"<answer>{move}</answer>" for move in ("Left", "Right", "Jump")]
    engine, [decision] = run(in_order(*replies), 3, proposer="without_replacement")
    assert decision.actions == ["Left", "Right", "Jump"]
    assert all(call.prompts == [START.prompt_ids] for call in engine.calls)
    excluded = [[said.text for said in call.excluded[0]] for call in engine.calls]
    assert excluded == [[], replies[:1], replies[:2]]


def test_without_replacement_draws_many_at_once_where_few_will_repeat():
    replies = [f"<answer>{move}</answer>" for move in ("Left", "Right", "left ", "Jump", "Rest")]
    engine, [decision] = run(
        in_order(*replies), 4, proposer="without_replacement", probability=0.01
    )
    assert [len(call.prompts) for call in engine.calls] == [1, 1, 2, 1]
    assert decision.actions == ["Left", "Right", "Jump", "Rest"]
    assert [(earlier, action) for earlier, _, action in decision.duplicates] == [(2, "Left")]
    excluded = [[said.text for said in call.excluded[0]] for call in engine.calls]
    assert excluded == [[], replies[:1], replies[:2], [*replies[:2], replies[3], replies[2]]]
    # After Left with its two spellings, and after that Right, and Jump.
    left = [1.0, 0.98, 0.97, 0.96]
    chances = [math.exp(math.fsum(said.logprobs)) for said in decision.proposals]
    assert chances == pytest.approx([0.01 / share for share in left])


def test_after_a_batch_of_repeats_responses_are_drawn_one_by_one():
    engine, [decision] = run(
        in_order(*(f"<answer>{move}</answer>" for move in ("Left", "Right", *["Left"] * 4))),
        16,
        proposer="without_replacement",
        probability=1e-9,  # responses with long thoughts are never equal, but their actions are
        max_retries=2,
    )
    assert decision.actions == ["Left", "Right"]
    assert [len(call.prompts) for call in engine.calls] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize("proposer", PROPOSERS)
@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_a_repeated_action_is_asked_for_again_and_then_dropped(proposer, max_retries):
    engine, [decision] = run(
        lambda *_: "<answer>Right</answer>", 3, proposer=proposer, max_retries=max_retries
    )
    assert decision.actions == ["Right"]
    assert decision.num_calls == engine.usage.calls == 2 + max_retries
    assert decision.num_duplicates == 1 + max_retries


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_what_is_asked_again_may_be_new(proposer):
    replies = ["Right", "right ", "RIGHT", "Left"]
    engine, [decision] = run(
        in_order(*(f"<answer>{reply}</answer>" for reply in replies)), 2, proposer=proposer
    )
    assert decision.actions == ["Right", "Left"]
    assert (decision.num_calls, decision.num_duplicates) == (4, 2)
    assert len({call.prompts[0] for call in engine.calls[1:]}) == 1
    refused = [[c.text for c in call.excluded[0]] for call in engine.calls[1:]]
    kept = ["<answer>Right</answer>"] if proposer == "without_replacement" else []
    repeats = ["<answer>right </answer>", "<answer>RIGHT</answer>"]
    assert refused == [kept, kept + repeats[:1], kept + repeats]


def test_unreadable_responses_take_no_place_and_are_not_named():
    replies = [
        "hm",
        "eh",
        "<answer>Left</answer>",
        "<answer>Right</answer>",
        "<answer>Jump</answer>",
    ]
    engine, [decision] = run(in_order(*replies), 3)
    assert decision.actions == [None, None, "Left", "Right", "Jump"]
    assert (decision.num_calls, decision.num_duplicates) == (5, 0)
    assert [call.prompts[0] for call in engine.calls] == [
        *[START.prompt_ids] * 3,
        DIALOGUE.proposal_prompt(START, ["Left"]).prompt_ids,
        DIALOGUE.proposal_prompt(START, ["Left", "Right"]).prompt_ids,
    ]


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_a_decision_ends_when_as_many_were_unreadable_as_actions_were_wanted(proposer):
    engine, [decision] = run(in_order("hm", "eh", "oh"), 3, proposer=proposer)
    assert decision.actions == [None] * 3
    assert engine.usage.calls == 3


def test_only_the_same_response_again_duplicates_an_unreadable_one():
    left, right, jump = (f"<answer>{move}</answer>" for move in ("Left", "Right", "Jump"))
    replies = ["hm", "hm", left, "eh", right, jump]
    engine, [decision] = run(in_order(*replies), 3, proposer="without_replacement", probability=0.2)
    assert decision.actions == [None, "Left", None, "Right", "Jump"]
    assert decision.num_duplicates == 1
    excluded = [[said.text for said in call.excluded[0]] for call in engine.calls]
    drawn = [["hm"], ["hm", "hm"], ["hm", left, "hm"], ["hm", left, "eh", "hm"]]
    assert excluded == [[], *drawn, ["hm", left, "eh", right, "hm"]]
    chances = [math.exp(math.fsum(said.logprobs)) for said in decision.proposals]
    assert chances == pytest.approx([0.2, 0.2 / 0.8, 0.2 / 0.6, 0.2 / 0.4, 0.2 / 0.2])


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


def test_a_list_is_continued_and_its_repetitions_are_refused():
    replies = [f"<answer>{move}</answer>" for move in ("Left", "left", "Jump")]
    engine, [decision] = run(in_order(*replies), 2, proposer="one_response")
    assert decision.actions == ["Left", "Jump"]
    given_before = [[], decision.proposals[:1], decision.proposals[:1]]
    assert [call.prompts[0] for call in engine.calls] == [
        DIALOGUE.list_prompt(START, 2, before).prompt_ids for before in given_before
    ]
    assert [[c.text for c in call.excluded[0]] for call in engine.calls] == [[], [], replies[1:2]]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("proposer", PROPOSERS)
def test_proposals_are_numbered_from_0_where_the_first_is_drawn_under_x(proposer, width):
    engine, _ = run(answers("Left"), width, proposer=proposer)
    is_plain = engine.calls[0].prompts == [START.prompt_ids]
    assert is_plain == (proposer != "one_response" or width == 1)
    assert is_plain == (first_index(proposer, width) == 0)


@given(
    proposer=st.sampled_from(PROPOSERS),
    widths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    max_retries=st.integers(0, 3),
    nonsense=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_proposals_differ_keep_to_their_width_and_are_all_counted(
    proposer, widths, max_retries, nonsense
):
    choose = at_random("Left", "Right", "Jump", nonsense=nonsense)
    engine, decisions = run(choose, *widths, proposer=proposer, max_retries=max_retries)
    assert sum(decision.num_calls for decision in decisions) == engine.usage.calls
    for decision, width in zip(decisions, widths, strict=True):
        readable, num_unreadable = decision.readable, decision.actions.count(None)
        keys = [
            said.token_ids if action is None else action
            for said, action in zip(decision.proposals, decision.actions, strict=True)
        ]
        assert min(width, 1) <= len(set(keys)) == len(keys) <= 2 * width
        assert len(readable) == len(set(readable)) <= width
        assert num_unreadable <= width
        assert decision.num_calls == len(decision.proposals) + decision.num_duplicates
        # A row of repetitions or many unreadable responses end a list early, and nothing else.
        has_many = num_unreadable == width or decision.num_duplicates > max_retries
        assert len(readable) == width or has_many
        assert decision.num_cut_prompts == 0


def test_calls_whose_prompts_left_something_out_are_counted():
    decisions = [Decision(START, 2), Decision(START, 1)]
    engine = RecordingEngine(in_order("a", "b", "a", "a", "c"))
    player, cfg = Player(engine, DIALOGUE, PARAMS, generator()), SamplingConfig(max_retries=2)

    def filled(decision):
        def request():
            return Request(START.prompt_ids, is_cut=bool(decision.proposals))

        async def read(completion):
            return completion.text

        return fill(decision, player, cfg, request, read)

    player.drive(together(*map(filled, decisions)))
    assert [decision.actions for decision in decisions] == [["a", "c"], ["b"]]
    assert [decision.num_cut_prompts for decision in decisions] == [3, 0]
