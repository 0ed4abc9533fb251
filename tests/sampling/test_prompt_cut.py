"""A prompt that is too long loses its oldest turns, then the middle of its observation."""

import gymnasium
import pytest
from gymnasium.spaces import Text
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import Completion, SamplingParams
from sesa_agent.agents.prompts import propose_another
from sesa_agent.configs.schema import EngineConfig, SamplingConfig
from sesa_agent.environments.text_env import TextSpec
from sesa_agent.evaluation.evaluate import evaluate
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.parallel import sample_parallel
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.prompt_cut import shorten, without_middle
from sesa_agent.sampling.trajectory import Task
from sesa_agent.sampling.tree import grow_trees
from sesa_agent.training.rollout import describe_cut_prompts

from ..helpers.games import CHAT, TOKENIZER, RecordingEngine, answers, generator, line_dialogue

TASK = Task("Log-v0", 0)


class Log(gymnasium.Env):
    """Shows numbered lines, as many as the next of `lengths` says."""

    text_spec = TextSpec("Find the number in the log.", "", "the number")
    observation_space = action_space = Text(100_000)

    def __init__(self, lengths):
        self.lengths = lengths

    def reset(self, *, seed=None, options=None):
        self.num_steps = 0
        return self._show(), {}

    def step(self, action):
        self.num_steps += 1
        return self._show(), 0.0, False, False, {}

    def _show(self):
        count = self.lengths[min(self.num_steps, len(self.lengths) - 1)]
        return "\n".join(f"{self.num_steps}: line {line}" for line in range(count))


def log_dialogue(*lengths, **options) -> Dialogue:
    return Dialogue(lambda: Log(lengths), CHAT, **options)


def reply(text: str) -> Completion:
    ids = tuple(TOKENIZER.encode(text, add_special_tokens=False))
    return Completion(text, ids, (-0.5,) * len(ids), "stop")


def text_of(position) -> str:
    return TOKENIZER.decode(position.prompt_ids)


def player_of(engine, dialogue) -> Player:
    return Player(engine, dialogue, SamplingParams(), generator())


# ---- the middle of an observation ----


def test_the_middle_of_a_long_observation_goes_and_everything_else_stays():
    """The whole beginning used to go: system message, rules and the form of an answer."""
    dialogue = log_dialogue(400, max_prompt_tokens=600)
    start = dialogue.start(TASK)
    text = text_of(start)
    assert start.is_cut and 500 < len(start.prompt_ids) <= 600
    assert text.startswith(text_of(log_dialogue(1).start(TASK)).partition("State:")[0])
    assert text.endswith("Reply with <answer>your answer</answer>." + CHAT.tail)
    head, _, tail = start.shown.partition("\n[... ")
    number, _, end = tail.partition(" characters left out ...]\n")
    assert head.startswith("0: line 0\n0: line 1\n") and end.endswith("0: line 399")
    assert int(number.replace(",", "")) == len(start.observation) - len(head) - len(end)


def test_the_line_says_how_much_is_left_out():
    assert without_middle("x" * 6000, 880).split("\n")[1] == "[... 5,120 characters left out ...]"
    assert without_middle("abc", 0) == "[... 3 characters left out ...]"


@given(text=st.text(max_size=300), limit=st.integers(-5, 350), overhead=st.integers(0, 60))
def test_a_shortened_text_fits_wherever_anything_fits(text, limit, overhead):
    def num_tokens(text: str) -> int:
        return overhead + sum(1 + (letter > "m") for letter in text)

    shown = shorten(text, num_tokens, limit)
    least = min(text, without_middle(text, 0), key=num_tokens)
    assert num_tokens(shown) <= max(limit, num_tokens(least))
    assert shown == text or " characters left out ...]" in shown


def test_little_of_the_room_is_wasted():
    text = "".join(chr(97 + place % 26) for place in range(50_000))
    assert 3_700 < len(shorten(text, len, 4_000)) <= 4_000


def test_rules_that_are_too_long_themselves_leave_the_end_of_the_prompt():
    dialogue = log_dialogue(3, max_prompt_tokens=40)
    start = dialogue.start(TASK)
    assert start.is_cut and len(start.prompt_ids) == 40
    assert text_of(start).endswith(CHAT.tail)


# ---- turns ----


def test_the_oldest_turns_go_before_the_episode_does():
    """An episode used to be truncated when its next prompt was too long."""
    roomy = log_dialogue(4, window=10)
    position, positions = roomy.start(TASK), []
    for number in range(4):
        _, position = roomy.play(position, reply(f"<answer>{number}</answer>"))
        positions.append(position)
    limit = len(positions[1].prompt_ids)  # three turns
    tight = log_dialogue(4, window=10, max_prompt_tokens=limit)
    position = tight.start(TASK)
    for number, whole in enumerate(positions):
        turn, position = tight.play(position, reply(f"<answer>{number}</answer>"))
        assert not turn.truncated
        assert position.is_cut == (number > 1)
        assert position.observation == whole.observation == position.shown
        kept = whole.history[-len(position.history) :]
        assert position.history == kept and len(kept) == min(number + 1, 2)
        expected = tight.writer.ids(kept, (whole.observation, whole.turn, whole.actions_left))
        assert position.prompt_ids == expected


def test_a_turn_that_is_too_long_alone_stands_alone_and_is_cut_and_the_game_goes_on():
    dialogue = log_dialogue(2, 300, 2, window=10, max_prompt_tokens=500)
    start = dialogue.start(TASK)
    _, second = dialogue.play(start, reply("<answer>1</answer>"))
    assert second.is_cut and second.history == () and "left out" in second.shown
    assert len(second.prompt_ids) <= 500 and "Find the number" in text_of(second)
    turn, third = dialogue.play(second, reply("<answer>2</answer>"))
    assert not turn.truncated
    assert turn.observation == second.observation and "left out" not in turn.observation
    assert third.shown == third.observation and "Find the number" in text_of(third)


def test_a_cut_observation_is_shown_as_cut_in_later_turns_too():
    """So a prompt of context=full goes on where the one before ended, token for token."""
    dialogue = log_dialogue(300, 2, window=10, max_prompt_tokens=900)
    start = dialogue.start(TASK)
    dialogue.max_prompt_tokens = 2_000
    answer = reply("<answer>1</answer>")
    _, second = dialogue.play(start, answer)
    before = start.prompt_ids + answer.token_ids
    assert second.prompt_ids[: len(before)] == before


# ---- requests ----


@pytest.mark.parametrize("spare", [0, 3])
def test_a_request_makes_room_for_itself_in_a_long_observation(spare):
    whole = log_dialogue(100).start(TASK)
    dialogue = log_dialogue(100, max_prompt_tokens=len(whole.prompt_ids) + spare)
    start = dialogue.start(TASK)
    assert not start.is_cut
    for request, text in (
        (dialogue.proposal_prompt(start, ["7", "8"]), propose_another(["7", "8"])),
        (dialogue.list_prompt(start, 3, []), "\nGive 3 different answers, one after another."),
        (dialogue.sketch_prompt(start, []), "<sketch>your outline</sketch>."),
    ):
        told = TOKENIZER.decode(request.prompt_ids)
        assert request.is_cut and len(request.prompt_ids) <= dialogue.max_prompt_tokens
        assert told.endswith(text + CHAT.tail) and "Find the number" in told
        assert "characters left out" in told


def test_where_the_observation_is_cut_anyway_all_earlier_proposals_are_shown():
    """A cut prompt is nearly full, so hardly any used to fit, and proposals repeated each other."""
    dialogue = log_dialogue(300, max_prompt_tokens=700)
    start = dialogue.start(TASK)
    earlier = ["seventeen", "forty-two", "ninety-nine"]
    request = dialogue.proposal_prompt(start, earlier)
    assert len(request.prompt_ids) <= 700
    told = TOKENIZER.decode(request.prompt_ids)
    assert told.endswith(propose_another(earlier) + CHAT.tail)
    many = [f"answer {number}" for number in range(100)]
    told = TOKENIZER.decode(dialogue.proposal_prompt(start, many).prompt_ids)
    shown = told.rpartition("Already proposed: ")[2].count("answer ")
    assert "Find the number" in told and 1 < shown < 100 and "answer 99" in told


# ---- counts ----


def test_every_cut_prompt_that_is_asked_is_counted():
    engine = RecordingEngine(lambda *_: "<answer>1</answer>")
    dialogue = log_dialogue(200, max_turns=2, max_prompt_tokens=500)
    cfg = SamplingConfig(name="parallel", max_trajectories=3)
    [tree] = player_of(engine, dialogue).run(sample_parallel, [TASK], cfg)
    assert tree.num_cut_prompts == tree.num_calls == 6
    engine = RecordingEngine(answers("1", "2", "3"))
    cfg = SamplingConfig(num_proposals=2, max_trajectories=2, max_retries=0)
    [tree] = player_of(engine, dialogue).run(grow_trees, [TASK], cfg)
    assert tree.num_cut_prompts == tree.num_calls == 4


def test_an_evaluation_counts_them_too():
    dialogue = log_dialogue(200, max_turns=1, max_prompt_tokens=500)
    engine = RecordingEngine(lambda *_: "<answer>1</answer>")
    result = evaluate(engine, dialogue, "Log-v0", [0, 1], SamplingParams(), num_samples=2)
    assert result.num_cut_prompts == 4
    assert describe_cut_prompts(4, EngineConfig(max_prompt_tokens=500)).startswith(
        "4 prompts were longer than engine.max_prompt_tokens=500"
    )


def test_a_prompt_that_fits_is_not_counted():
    [tree] = player_of(RecordingEngine(answers("Right")), line_dialogue(max_turns=2)).run(
        sample_parallel, [TASK], SamplingConfig(name="parallel", max_trajectories=2)
    )
    assert tree.num_cut_prompts == 0
