"""Whole answers one after another: in one reply, or in calls of their own."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.prompts import list_answers
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.single_pass import sample_single_pass
from sesa_agent.sampling.trajectory import ROOT, Task
from sesa_agent.sampling.tree import grow_trees

from ..helpers.games import (
    CHAT,
    TOKENIZER,
    RecordingEngine,
    answers,
    at_random,
    generator,
    in_order,
    line_dialogue,
)
from ..helpers.one_step import train_two_steps

PARAMS = SamplingParams(stop=("</answer>",))
DIALOGUE = line_dialogue(max_turns=1)
X = DIALOGUE.start(Task("Line-v0", 0)).prompt_ids
PROPOSERS = ("history", "one_response", "without_replacement")


def ids(*texts):
    """The ids that the engine samples for these replies, one after another."""
    return sum((tuple(TOKENIZER.encode(t, add_special_tokens=False)) for t in texts), ())


def sample(choose, *seeds, dialogue=DIALOGUE, rng_seed=0, **settings):
    cfg = SamplingConfig(name="single_pass", **settings)
    tasks = [Task("Line-v0", seed) for seed in seeds or (0,)]
    engine = RecordingEngine(choose)
    player = Player(engine, dialogue, PARAMS, generator(rng_seed))
    return player.run(sample_single_pass, tasks, cfg), engine


def one_reply(choose, *seeds, **settings):
    return sample(choose, *seeds, proposer="one_response", **settings)


# ---- the reply that is a list ----


def test_an_answer_continues_the_sampled_ids_of_those_before_it():
    moves = ("Right", " left ", "Jump", "REST")
    replies = [f"<answer>{move}</answer>" for move in moves]
    [tree], engine = one_reply(in_order(*replies), num_proposals=4)
    question = CHAT.append_to_question(X, list_answers(4))
    end = "\nGive 4 different answers, one after another." + CHAT.tail
    assert TOKENIZER.decode(question).endswith(end)
    assert [call.prompts for call in engine.calls] == [
        [question + ids(*replies[:count])] for count in range(4)
    ]
    assert [turn.action for turn in tree.turns] == ["Right", "Left", "Jump", "Rest"]
    assert [turn.response_ids for turn in tree.turns] == [ids(reply) for reply in replies]


def test_an_unreadable_answer_is_kept_but_not_continued():
    replies = [
        "hm",
        "<answer>Right</answer>",
        "eh",
        "<answer>Left</answer>",
        "<answer>Jump</answer>",
    ]
    [tree], engine = one_reply(in_order(*replies), num_proposals=3)
    assert [turn.action for turn in tree.turns] == [None, "Right", None, "Left", "Jump"]
    question = CHAT.append_to_question(X, list_answers(3))
    given_before = [(), (), replies[1:2], replies[1:2], [replies[1], replies[3]]]
    assert [call.prompts[0] for call in engine.calls] == [
        question + ids(*before) for before in given_before
    ]
    assert (tree.num_calls, tree.num_duplicates) == (5, 0)


def test_a_repetition_is_taken_back_and_drawn_again():
    replies = ["Right", "right ", "RIGHT", "Left"]
    replies = [f"<answer>{reply}</answer>" for reply in replies]
    [tree], engine = one_reply(in_order(*replies), num_proposals=2, max_retries=2)
    assert [turn.action for turn in tree.turns] == ["Right", "Left"]
    assert len({call.prompts[0] for call in engine.calls[1:]}) == 1
    refused = [[c.text for c in call.excluded[0]] for call in engine.calls]
    assert refused == [[], [], replies[1:2], replies[1:3]]
    assert (tree.num_calls, tree.num_duplicates) == (4, 2)


def test_a_list_that_only_repeats_ends_early():
    [tree], engine = one_reply(
        lambda *_: "<answer>Left</answer>", num_proposals=4, max_retries=1, max_trajectories=2
    )
    assert [turn.action for turn in tree.turns] == ["Left"]
    assert engine.usage.calls == tree.num_calls == 3


def test_listed_answers_are_numbered_from_1_and_trained_under_x():
    [tree], _ = one_reply(
        in_order("<answer>Left</answer>", "<answer>Jump</answer>"), num_proposals=2
    )
    assert [turn.proposal_index for turn in tree.turns] == [1, 2]
    assert [turn.prompt_ids for turn in tree.turns] == [X, X]
    assert tree.parents == [ROOT, ROOT]
    assert not any(turn.sketch for turn in tree.turns)


def test_a_list_too_long_leaves_its_earliest_answers_out():
    replies = [f"<answer>{move}</answer>" for move in ("Left", "Right", "Jump", "Rest")]
    question = CHAT.append_to_question(X, list_answers(4))
    limit = len(question) + len(ids(*replies[1:3]))
    dialogue = line_dialogue(max_turns=1, max_prompt_tokens=limit)
    [tree], engine = one_reply(in_order(*replies), dialogue=dialogue, num_proposals=4)
    shown = [replies[:0], replies[:1], replies[:2], replies[1:3]]
    assert [call.prompts[0] for call in engine.calls] == [question + ids(*some) for some in shown]
    assert tree.num_cut_prompts == 1
    assert len(tree) == 4


# ---- all proposers ----


@given(
    proposer=st.sampled_from(PROPOSERS),
    num_proposals=st.integers(1, 6),
    max_retries=st.integers(0, 2),
    seeds=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    rng_seed=st.integers(0, 2**16),
)
def test_it_is_a_tree_of_one_decision(proposer, num_proposals, max_retries, seeds, rng_seed):
    settings = {
        "proposer": proposer,
        "num_proposals": num_proposals,
        "max_retries": max_retries,
        "max_trajectories": num_proposals,
        "merge_states": "off",
    }
    choose = at_random("Left", "Right", "Jump", "Rest", nonsense=0.3)
    trees, engine = sample(choose, *seeds, rng_seed=rng_seed, **settings)
    other = RecordingEngine(choose)
    tasks = [Task("Line-v0", seed) for seed in seeds]
    cfg = SamplingConfig(name="tree", **settings)
    assert trees == Player(other, DIALOGUE, PARAMS, generator(rng_seed)).run(grow_trees, tasks, cfg)
    assert engine.calls == other.calls

    assert sum(tree.num_calls for tree in trees) == engine.usage.calls
    for tree in trees:
        actions = [turn.action for turn in tree.turns if turn.action is not None]
        assert len(actions) == len(set(actions)) <= num_proposals
        assert 1 <= len(tree) <= len(actions) + num_proposals
        assert tree.num_calls == len(tree) + tree.num_duplicates
        first = int(proposer == "one_response" and num_proposals > 1)
        indices = [turn.proposal_index for turn in tree.turns]
        assert indices == list(range(first, first + len(tree)))


@pytest.mark.parametrize("proposer", PROPOSERS)
@pytest.mark.parametrize("allocation", ["early", "even"])
def test_the_caps_and_rules_of_trees_do_not_bind_it(proposer, allocation):
    """Five answers, though U is 1, the first two lead to one state, and the third wins."""
    dialogue = line_dialogue(max_turns=1, actions_per_turn=2)
    moves = ["Rest", "Left || Right", "Jump || Jump", "Jump", "Right"]
    [tree], _ = sample(
        in_order(*(f"<answer>{move}</answer>" for move in moves)),
        dialogue=dialogue,
        proposer=proposer,
        num_proposals=5,
        max_trajectories=1,
        merge_states="on",
        stop_on_success="on",
        allocation=allocation,
    )
    assert [turn.action for turn in tree.turns] == moves
    assert [turn.success for turn in tree.turns] == [False, False, True, False, False]


def test_the_first_answer_of_separate_calls_is_a_plain_one():
    _, engine = sample(answers("Left", "Right"), num_proposals=2)
    assert [call.prompts for call in engine.calls] == [
        [X],
        [DIALOGUE.proposal_prompt(DIALOGUE.start(Task("Line-v0", 0)), ["Left"]).prompt_ids],
    ]
    assert all(replace(call.params, seed=0) == PARAMS for call in engine.calls)


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_an_episode_of_several_turns_is_refused_in_one_line(proposer):
    with pytest.raises(SettingError, match="sampling.name must be .* env.max_turns") as error:
        sample(answers("Left"), dialogue=line_dialogue(max_turns=3), proposer=proposer)
    assert "\n" not in str(error.value) and "'single_pass'" in str(error.value)


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_two_steps_of_training_run(llama, tmp_path, proposer):
    settings = ("sampling.name=single_pass", f"sampling.proposer={proposer}")
    lines = train_two_steps(llama, tmp_path, *settings)
    assert len(lines) == 2
    assert max(line["train/tokens"] for line in lines) > 0
    assert any("gap/proposal_1" in line for line in lines) == (proposer != "one_response")
