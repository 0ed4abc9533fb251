"""Algorithm 1: sketches in sequence, solutions in parallel, pi(y | x) to be learnt."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.prompts import SKETCH_STOP
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import ROOT, Task
from sesa_agent.sampling.two_stage import sample_two_stage

from ..helpers.games import RecordingEngine, generator, line_dialogue
from ..helpers.one_step import train_two_steps

PARAMS = SamplingParams(max_new_tokens=9, stop=("</answer>",))
DIALOGUE = line_dialogue(max_turns=1)
START = DIALOGUE.start(Task("Line-v0", 0))
X = START.prompt_ids
MOVES = {"go back": "Left", "go on": "Right", "leap": "Jump"}
"""What a player does along a sketch; without one it rests."""


def player(*sketches):
    """Outline the first sketch that is not in view; solve along the sketch that is."""

    def choose(prompt, _):
        if "Outline" in prompt:
            earlier = prompt.rpartition("Already outlined: ")[2] if "Already" in prompt else ""
            return next((f"<sketch>{s}</sketch>" for s in sketches if s not in earlier), "")
        return answer_along(prompt)

    return choose


def script(*replies):
    """Outline in this order; solve along the sketch in view."""
    left = iter(replies)
    return lambda prompt, _: next(left) if "Outline" in prompt else answer_along(prompt)


def answer_along(prompt):
    move = next((move for way, move in MOVES.items() if f"this way: {way}" in prompt), "Rest")
    return f"<answer>{move}</answer>"


def sample(choose, *seeds, dialogue=DIALOGUE, **settings):
    cfg = SamplingConfig(name="two_stage", **settings)
    tasks = [Task("Line-v0", seed) for seed in seeds or (0,)]
    engine = RecordingEngine(choose)
    return Player(engine, dialogue, PARAMS, generator()).run(sample_two_stage, tasks, cfg), engine


def sketch_prompt(*earlier):
    return DIALOGUE.sketch_prompt(START, earlier).prompt_ids


def solve_prompt(sketch):
    return DIALOGUE.solve_prompt(START, sketch).prompt_ids


# ---- what is asked ----


def test_a_sketch_sees_the_earlier_ones_and_a_solution_its_own_alone():
    _, engine = sample(player(*MOVES), num_proposals=3)
    assert [call.prompts for call in engine.calls] == [
        [sketch_prompt()],
        [sketch_prompt("go back")],
        [sketch_prompt("go back", "go on")],
        [solve_prompt(sketch) for sketch in MOVES],
    ]
    for own, text in zip(MOVES, engine.calls[-1].texts, strict=True):
        assert [sketch for sketch in MOVES if sketch in text] == [own]


def test_sketches_have_a_length_and_an_end_of_their_own():
    _, engine = sample(player(*MOVES), num_proposals=3, sketch_tokens=5)
    *drafts, solutions = [call.params for call in engine.calls]
    for params in drafts:
        assert params == replace(PARAMS, stop=(SKETCH_STOP,), max_new_tokens=5, seed=params.seed)
    assert solutions == replace(PARAMS, seed=solutions.seed)
    assert len({params.seed for params in (*drafts, solutions)}) == 4


def test_without_replacement_excludes_the_earlier_sketches_from_one_prompt():
    replies = [f"<sketch>{sketch}</sketch>" for sketch in MOVES]
    [tree], engine = sample(script(*replies), num_proposals=3, proposer="without_replacement")
    *drafts, solutions = engine.calls
    assert all(call.prompts == [sketch_prompt()] for call in drafts)
    excluded = [[completion.text for completion in call.excluded[0]] for call in drafts]
    assert excluded == [[], replies[:1], replies[:2]]
    assert solutions.prompts == [solve_prompt(sketch) for sketch in MOVES]
    assert not any(solutions.excluded)
    assert [turn.sketch for turn in tree.turns] == list(MOVES)


def test_all_tasks_are_drafted_and_solved_together():
    trees, engine = sample(player(*MOVES), 3, 1, 2, num_proposals=2)
    assert [len(call.prompts) for call in engine.calls] == [3, 3, 6]
    assert [tree.task.seed for tree in trees] == [3, 1, 2]
    assert all([turn.sketch for turn in tree.turns] == ["go back", "go on"] for tree in trees)


# ---- what comes of it ----


def test_solutions_are_children_of_the_start_and_are_trained_under_x():
    [tree], engine = sample(player(*MOVES), num_proposals=3)
    assert tree.parents == [ROOT] * 3
    assert [turn.action for turn in tree.turns] == list(MOVES.values())
    assert [turn.sketch for turn in tree.turns] == list(MOVES)
    assert [turn.proposal_index for turn in tree.turns] == [1, 2, 3]
    assert all(turn.prompt_ids == X for turn in tree.turns)
    assert all(turn.response_ids and turn.sampling_logprobs for turn in tree.turns)
    assert tree.num_calls == engine.usage.calls == 6
    assert (tree.num_duplicates, tree.num_cut_prompts) == (0, 0)


def test_two_sketches_may_lead_to_one_solution():
    """Only sketches are kept apart: a solution that ignores its sketch is data."""
    [tree], _ = sample(player("wait", "stay"), num_proposals=2)
    assert [turn.action for turn in tree.turns] == ["Rest", "Rest"]
    assert tree.num_duplicates == 0


@pytest.mark.parametrize("max_retries", [0, 1, 3])
@pytest.mark.parametrize("proposer", ["history", "without_replacement"])
def test_a_repeated_sketch_is_asked_again_and_then_given_up(proposer, max_retries):
    replies = ("<sketch>leap</sketch>", "<sketch>LEAP.</sketch>", " Leap ", "<sketch>leap")
    [tree], engine = sample(
        script(*replies, "leaP"), num_proposals=3, max_retries=max_retries, proposer=proposer
    )
    assert [turn.sketch for turn in tree.turns] == ["leap"]
    assert tree.num_duplicates == 1 + max_retries
    assert tree.num_calls == engine.usage.calls == 1 + (1 + max_retries) + 1
    asked = [call.prompts for call in engine.calls[1:-1]]
    expected = sketch_prompt("leap") if proposer == "history" else sketch_prompt()
    assert asked == [[expected]] * (1 + max_retries)


def test_a_sketch_that_is_asked_again_may_be_new():
    replies = ("<sketch>leap</sketch>", "<sketch>Leap</sketch>", "<sketch>go on</sketch>")
    [tree], engine = sample(script(*replies), num_proposals=2)
    assert [turn.sketch for turn in tree.turns] == ["leap", "go on"]
    assert (tree.num_calls, tree.num_duplicates) == (5, 1)
    assert [c.text for c in engine.calls[2].excluded[0]] == ["<sketch>Leap</sketch>"]


def test_without_any_sketch_there_is_one_plain_solution():
    [tree], engine = sample(lambda *_: "", num_proposals=3, max_retries=1)
    assert engine.calls[-1].prompts == [X]
    [turn] = tree.turns
    assert (turn.sketch, turn.proposal_index, turn.prompt_ids) == ("", 0, X)
    # The first question has no sketch, and the second is given up after two tries.
    assert (tree.num_calls, tree.num_duplicates) == (4, 2)


def test_a_task_without_sketches_does_not_hold_the_others_up():
    def choose(prompt, numbers):
        return "" if "Outline" in prompt and lost else player(*MOVES)(prompt, numbers)

    lost = True
    [alone], _ = sample(choose, num_proposals=3)
    lost = False
    trees, _ = sample(choose, 0, 1, num_proposals=3)
    assert [len(alone), *map(len, trees)] == [1, 3, 3]


def test_an_unreadable_solution_is_kept_as_one():
    [tree], _ = sample(
        lambda prompt, _: "<sketch>leap</sketch>" if "Outline" in prompt else "no idea",
        num_proposals=1,
    )
    [turn] = tree.turns
    assert (turn.action, turn.sketch, turn.legal, turn.truncated) == (None, "leap", False, True)


def test_an_episode_of_several_turns_is_refused_in_one_line():
    with pytest.raises(SettingError, match="sampling.name must be .* env.max_turns") as error:
        sample(player(*MOVES), dialogue=line_dialogue(max_turns=2))
    assert "\n" not in str(error.value) and "'two_stage'" in str(error.value)


@given(
    sketches=st.lists(
        st.sampled_from(["up", "UP", "Up.", "down", "", "<sketch></sketch>", "a b"]), max_size=40
    ),
    num_proposals=st.integers(1, 5),
    max_retries=st.integers(0, 2),
    seeds=st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
def test_every_call_is_counted_and_sketches_always_differ(
    sketches, num_proposals, max_retries, seeds
):
    replies = iter(sketches)
    trees, engine = sample(
        lambda prompt, _: next(replies, "") if "Outline" in prompt else "<answer>Left</answer>",
        *seeds,
        num_proposals=num_proposals,
        max_retries=max_retries,
    )
    assert sum(tree.num_calls for tree in trees) == engine.usage.calls
    for tree in trees:
        names = [turn.sketch.casefold() for turn in tree.turns]
        assert 1 <= len(names) == len(set(names)) <= num_proposals
        indices = [turn.proposal_index for turn in tree.turns]
        assert indices == ([0] if names == [""] else list(range(1, len(names) + 1)))


# ---- prompts that would be too long ----


def test_too_many_sketches_leave_the_earliest_out_and_are_counted():
    sketches = [f"way number {number}" for number in range(6)]
    limit = len(sketch_prompt(*sketches[:3]))  # three fit, the fourth pushes the first out
    dialogue = line_dialogue(max_turns=1, max_prompt_tokens=limit)
    replies = [f"<sketch>{sketch}</sketch>" for sketch in sketches]
    [tree], engine = sample(script(*replies), dialogue=dialogue, num_proposals=6)
    drafts = [call.prompts[0] for call in engine.calls[:-1]]
    shown = [sketches[max(0, count - 3) : count] for count in range(6)]
    assert drafts == [sketch_prompt(*earlier) for earlier in shown]
    assert tree.num_cut_prompts == 2
    assert [turn.sketch for turn in tree.turns] == sketches


def test_too_long_a_sketch_is_followed_by_its_first_words_and_kept_whole():
    limit = len(solve_prompt("leap over"))
    dialogue = line_dialogue(max_turns=1, max_prompt_tokens=limit)
    [tree], engine = sample(
        player("leap over everything that stands in the way"), dialogue=dialogue, num_proposals=1
    )
    assert engine.calls[-1].prompts == [solve_prompt("leap over")]
    assert tree.num_cut_prompts == 2  # the request for the sketch was longer still
    assert tree.turns[0].sketch == "leap over everything that stands in the way"


@given(
    spare=st.integers(0, 80),
    sketches=st.lists(st.text("ab ", min_size=1, max_size=30), min_size=1, max_size=6),
)
def test_no_prompt_is_longer_than_the_limit_if_the_bare_request_fits(spare, sketches):
    limit = max(len(sketch_prompt("")), len(solve_prompt(" "))) + spare
    dialogue = line_dialogue(max_turns=1, max_prompt_tokens=limit)
    trees, engine = sample(script(*sketches, *[""] * 9), dialogue=dialogue, num_proposals=6)
    assert all(len(prompt) <= limit for call in engine.calls for prompt in call.prompts)
    assert all(tree.num_cut_prompts <= tree.num_calls for tree in trees)


# ---- training ----


@pytest.mark.parametrize("proposer", ["history", "without_replacement"])
def test_two_steps_of_training_run(llama, tmp_path, proposer):
    settings = ("sampling.name=two_stage", f"sampling.proposer={proposer}")
    lines = train_two_steps(llama, tmp_path, *settings)
    assert len(lines) == 2
    assert max(line["train/tokens"] for line in lines) > 0
    # No solution is drawn under x alone, and all that is asked is counted: a sketch for each.
    assert not any("gap/proposal_1" in line for line in lines)
    assert lines[-1]["progress/policy_calls"] >= 2 * 2 * 4
