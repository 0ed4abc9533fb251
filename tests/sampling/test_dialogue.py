import gymnasium
import pytest
from gymnasium.spaces import Text
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import Completion
from sesa_agent.agents.prompts import SYSTEM
from sesa_agent.configs.errors import SettingError
from sesa_agent.environments.text_env import TextSpec
from sesa_agent.sampling.dialogue import Dialogue, check_single_answer
from sesa_agent.sampling.trajectory import Task

from ..helpers.games import CHAT, TOKENIZER, line_dialogue
from ..helpers.tiny_models import CHATML, FORGETFUL, byte_tokenizer

TASK = Task("Line-v0", 0)


class FreeText(gymnasium.Env):
    """Takes any text, and rewards each."""

    text_spec = TextSpec("Play.", "", "anything")
    observation_space = action_space = Text(10)

    def reset(self, *, seed=None, options=None):
        return "go", {}

    def step(self, action):
        return "on", 0.25, action == "end", False, {}


def completion(text, *end):
    ids = (*TOKENIZER.encode(text, add_special_tokens=False), *end)
    return Completion(text, ids, (-0.5,) * len(ids), "stop")


def answer(actions, *end):
    return completion(f"<answer>{actions}</answer>", *end)


def play(dialogue, *replies):
    """Positions before each reply and after the last, and the turns."""
    positions, turns = [dialogue.start(TASK)], []
    for reply in replies:
        turn, after = dialogue.play(positions[-1], reply)
        turns.append(turn)
        positions.append(after)
    return positions, turns


# ---- prompts ----


def test_a_window_of_one_turn_shows_the_present_observation_alone():
    dialogue = line_dialogue(window=1)
    positions, turns = play(dialogue, answer("Right"), answer("Rest"))
    observations = [("You are at 3.", 1, 10), ("You are at 4.", 2, 9), ("You are at 4.", 3, 8)]
    for position, place in zip(positions, observations, strict=True):
        message = dialogue.style.first_message(*place)
        assert position.prompt_ids == CHAT.opening(SYSTEM, message)
    assert [turn.prompt_ids for turn in turns] == [p.prompt_ids for p in positions[:2]]


def test_a_window_of_all_turns_continues_the_sampled_tokens():
    dialogue = line_dialogue(window=10)
    replies = [
        answer("Right"),
        completion("well", TOKENIZER.eos_token_id),
        completion("<answer>left </answer>"),
    ]
    (start, second, third, last), _ = play(dialogue, *replies)
    expected = start.prompt_ids
    later = [("You are at 4.", 2, 9), ("You are at 4.", 3, 9), ("You are at 3.", 4, 8)]
    for reply, place, position in zip(replies, later, (second, third, last), strict=True):
        message = dialogue.style.next_message(0.0, *place)
        expected += reply.token_ids + CHAT.reply(reply.token_ids, message)
        assert position.prompt_ids == expected


def test_a_window_opens_with_its_oldest_turn():
    dialogue = line_dialogue(window=2)
    replies = [answer("Right"), answer("Left"), answer("Jump")]
    (_, second, third, last), _ = play(dialogue, *replies)
    for position, reply, oldest, newest in [
        (second, replies[0], ("You are at 3.", 1, 10), ("You are at 4.", 2, 9)),
        (third, replies[1], ("You are at 4.", 2, 9), ("You are at 3.", 3, 8)),
        (last, replies[2], ("You are at 3.", 3, 8), ("You are at 5.", 4, 7)),
    ]:
        opening = CHAT.opening(SYSTEM, dialogue.style.first_message(*oldest))
        message = dialogue.style.next_message(0.0, *newest)
        between = CHAT.reply(reply.token_ids, message)
        assert position.prompt_ids == opening + reply.token_ids + between


@pytest.mark.parametrize("window", [1, 3, 10])
def test_a_request_for_another_proposal_keeps_the_prompt_before_it(window):
    dialogue = line_dialogue(window=window)
    (_, position), _ = play(dialogue, answer("Right"))
    assert dialogue.proposal_prompt(position, []).prompt_ids == position.prompt_ids
    asked = dialogue.proposal_prompt(position, ["Left", "Jump"]).prompt_ids
    shared = len(position.prompt_ids) - len(CHAT.tail_ids)
    assert asked[:shared] == position.prompt_ids[:shared]
    assert TOKENIZER.decode(asked[shared:]) == (
        "\nAlready proposed: Left; Jump. Propose a different answer." + CHAT.tail
    )


@pytest.mark.parametrize("window", [1, 10])
@pytest.mark.parametrize(
    "ask, request_text",
    [
        (
            lambda d, at: d.list_prompt(at, 3, []),
            "\nGive 3 different answers, one after another.",
        ),
        (
            lambda d, at: d.sketch_prompt(at, []),
            "\nDo not answer yet. Outline one way to solve it in a few words: "
            "<sketch>your outline</sketch>.",
        ),
        (
            lambda d, at: d.sketch_prompt(at, ["jump", "walk"]),
            "\nDo not answer yet. Outline one way to solve it in a few words: "
            "<sketch>your outline</sketch>. Already outlined: jump; walk. Outline a different one.",
        ),
        (lambda d, at: d.solve_prompt(at, "jump first"), "\nDo it this way: jump first."),
        (lambda d, at: d.solve_prompt(at, ""), ""),
    ],
    ids=["list", "outline", "another outline", "follow", "plain"],
)
def test_every_request_is_the_plain_prompt_with_more_at_its_end(window, ask, request_text):
    dialogue = line_dialogue(window=window)
    (_, position), _ = play(dialogue, answer("Right"))
    request = ask(dialogue, position)
    shared = len(position.prompt_ids) - len(CHAT.tail_ids)
    assert request.prompt_ids[:shared] == position.prompt_ids[:shared]
    assert TOKENIZER.decode(request.prompt_ids[shared:]) == request_text + CHAT.tail
    assert not request.is_cut


def test_a_list_goes_on_with_the_sampled_ids_of_its_answers():
    dialogue = line_dialogue(max_turns=1)
    start = dialogue.start(TASK)
    given_answers = [answer("Right"), completion("<answer> left", 200, 201)]
    question = dialogue.list_prompt(start, 4, []).prompt_ids
    request = dialogue.list_prompt(start, 4, given_answers)
    ids = given_answers[0].token_ids + given_answers[1].token_ids
    assert request.prompt_ids == question + ids


WORD_LISTS = st.lists(st.text("ab", min_size=1, max_size=12), min_size=1, max_size=8)


@pytest.mark.parametrize(
    "ask, keeps_last",
    [
        (lambda d, at, texts: d.proposal_prompt(at, texts), True),
        (lambda d, at, texts: d.sketch_prompt(at, texts), True),
        (lambda d, at, texts: d.list_prompt(at, 9, [answer(text) for text in texts]), True),
        (lambda d, at, texts: d.solve_prompt(at, " ".join(texts)), False),
    ],
    ids=["proposal", "sketch", "list", "solve"],
)
@given(texts=WORD_LISTS, limit=st.integers(0, 400))
def test_a_request_holds_as_much_as_fits_and_says_if_it_is_cut(ask, keeps_last, texts, limit):
    """Of earlier proposals the last are kept, of a sketch the first words."""
    roomy, tight = line_dialogue(max_turns=1), line_dialogue(max_turns=1, max_prompt_tokens=limit)
    start = roomy.start(TASK)
    request = ask(tight, start, texts)
    parts = [texts[cut:] if keeps_last else texts[: len(texts) - cut] for cut in range(len(texts))]
    whole = [ask(roomy, start, part).prompt_ids for part in parts]
    fitting = [prompt for prompt in whole if len(prompt) <= limit]
    if fitting:
        assert request.prompt_ids == fitting[0]
        assert request.is_cut == (fitting[0] != whole[0])
    else:
        assert request.is_cut
        assert len(request.prompt_ids) < min(map(len, whole))


def test_an_episode_of_one_turn_alone_is_a_single_answer():
    check_single_answer("two_stage", max_turns=1)
    message = "sampling.name must be tree or parallel while env.max_turns is 2, got 'two_stage'"
    with pytest.raises(SettingError, match=message):
        check_single_answer("two_stage", max_turns=2)


def test_a_template_that_rewrites_history_holds_a_state_but_no_conversation():
    special = ("<|pad|>", "<|im_start|>", "<|im_end|>")
    chat = ChatFormat(byte_tokenizer(FORGETFUL, special, eos="<|im_end|>"))
    make = line_dialogue().make
    play(Dialogue(make, chat, window=1), answer("Right"))
    for window in (2, 10):
        with pytest.raises(SettingError, match=r"model\.context=state"):
            Dialogue(make, chat, window=window)


def test_thoughts_need_a_template_that_keeps_them():
    template = CHATML.replace("message['content'] +", "message['content'].split('</think>')[-1] +")
    special = ("<|pad|>", "<|im_start|>", "<|im_end|>")
    chat = ChatFormat(byte_tokenizer(template, special, eos="<|im_end|>"))
    make = line_dialogue().make
    Dialogue(make, chat, window=10, thinking=False)
    with pytest.raises(SettingError, match=r"model\.context=state"):
        Dialogue(make, chat, window=10, thinking=True)


# ---- actions ----


@pytest.mark.parametrize(
    "reply, action, cell, num_played, legal",
    [
        ("Right", "Right", 4, 1, True),
        (" right||LEFT ", "Right || Left", 3, 2, True),
        ("Right || Rest || Left", "Right || Rest || Left", 3, 3, False),
        ("Right || fly || Left", "Right", 4, 1, False),
        ("Right || Left || Right || fly", "Right || Left || Right", 4, 3, True),
        ("fly || Right", None, 3, 0, False),
        ("", None, 3, 0, False),
    ],
)
def test_actions_are_played_up_to_the_first_that_nobody_knows(
    reply, action, cell, num_played, legal
):
    dialogue = line_dialogue(actions_per_turn=3)
    (start, after), (turn,) = play(dialogue, answer(reply))
    assert dialogue.read(start, answer(reply)) == turn.action == action
    assert after.observation == f"You are at {cell}."
    assert after.actions_left == 10 - num_played
    assert after.turn == 2
    assert (turn.legal, turn.reward) == (legal, 0.0)
    assert (turn.terminated, turn.truncated, turn.success) == (False, False, False)


@pytest.mark.parametrize(
    "response, action, exact",
    [
        ("<answer>Right</answer>", "Right", "Right"),
        ("Sure: <answer>**right**.</answer>", "Right", None),
        ("<think>Left?</think><Answer>`Right`</Answer>", "Right", None),
        ("<answer>Right || 'Left'</answer>", "Right || Left", "Right"),
        ('<answer>"Right || Left."</answer>', "Right || Left", None),
        ("<answer>`Right` || `Left`</answer>", "Right || Left", None),
        ("<answer>Right || fly</answer>", "Right", "Right"),
        ("<answer>'Right || fly'</answer>", None, None),
        ("<answer>I would go right</answer>", None, None),
        ("Right", None, None),
    ],
)
def test_a_tolerant_dialogue_reads_what_cannot_mean_anything_else(response, action, exact):
    dialogue = line_dialogue(actions_per_turn=3, is_strict=False)
    (start, _), (turn,) = play(dialogue, completion(response))
    assert dialogue.read(start, completion(response)) == turn.action == action
    strict = line_dialogue(actions_per_turn=3)
    assert strict.read(start, completion(response)) == exact


def test_an_answer_may_lack_its_end_only_where_the_model_ended_it():
    dialogue = line_dialogue(is_strict=False)
    start = dialogue.start(TASK)
    for reason, action in (("eos", "Right"), ("length", None)):
        response = Completion("<answer>Right", (1,), (-0.5,), reason)
        assert dialogue.read(start, response) == action
        assert dialogue.play(start, response)[0].action == action


@pytest.mark.parametrize("is_strict", [True, False])
def test_with_one_action_a_turn_the_separator_belongs_to_the_action(is_strict):
    """`SELECT a || b` was cut at `||`, in environments whose prompt never mentions it."""
    dialogue = Dialogue(FreeText, CHAT, is_strict=is_strict)
    _, (turn,) = play(dialogue, answer("SELECT 'a' || b;"))
    assert turn.action == "SELECT 'a' || b;"
    assert turn.num_env_steps == 1


@pytest.mark.parametrize(
    "reply, reward, success",
    [("Jump || Jump || Left", 1.0, True), ("Left || Left || Left", -1.0, False)],
)
def test_a_turn_ends_with_the_game(reply, reward, success):
    (_, after), (turn,) = play(line_dialogue(actions_per_turn=3), answer(reply))
    assert (turn.reward, turn.success) == (reward, success)
    assert (turn.terminated, turn.truncated) == (True, False)
    assert turn.action == reply
    assert after.observation == ("You are at 6." if success else "You are at 0.")


def test_rewards_of_one_turn_are_added_up():
    dialogue = Dialogue(FreeText, CHAT, actions_per_turn=4)
    _, (turn,) = play(dialogue, answer("a || b || end || c"))
    assert (turn.reward, turn.action) == (0.75, "a || b || end || c")
    assert turn.terminated and turn.success and turn.legal  # an end with a reward counts as won


def test_thoughts_are_asked_for_and_read():
    dialogue = line_dialogue(thinking=True)
    assert "<think>" in TOKENIZER.decode(dialogue.start(TASK).prompt_ids)
    thoughtful = completion("<think>the goal is far</think><answer>Right</answer>")
    _, turns = play(dialogue, thoughtful, answer("Right"))
    assert [turn.action for turn in turns] == ["Right", None]


def test_the_turn_keeps_what_was_sampled():
    reply = answer(" right ", TOKENIZER.eos_token_id)
    _, (turn,) = play(line_dialogue(), reply)
    assert turn.response_ids == reply.token_ids
    assert turn.sampling_logprobs == reply.logprobs
    assert (turn.response, turn.action) == ("<answer> right </answer>", "Right")


@pytest.mark.parametrize("in_place", [False, True])
def test_a_position_can_be_played_again_unless_it_was_played_in_place(in_place):
    dialogue = line_dialogue()
    position = dialogue.start(TASK)
    _, after = dialogue.play(position, answer("Right"), in_place=in_place)
    again, _ = dialogue.play(position, answer("Right"), proposal_index=1)
    assert after.observation == "You are at 4."
    assert (position.env.unwrapped.state_key() == 3) is not in_place  # pyright: ignore
    assert again.proposal_index == 1


# ---- limits ----


@pytest.mark.parametrize(
    "options, replies",
    [
        ({"max_turns": 3}, ["Rest", "fly", "Rest"]),
        ({"max_turns": 9, "max_steps": 3}, ["Rest", "Rest", "Rest"]),
        ({"max_turns": 9, "max_steps": 4, "actions_per_turn": 3}, ["Rest || Rest", "Rest || Rest"]),
    ],
    ids=["turns", "actions", "several actions"],
)
def test_the_last_turn_of_a_limit_is_truncated(options, replies):
    _, turns = play(line_dialogue(**options), *map(answer, replies))
    assert [turn.truncated for turn in turns] == [False] * (len(turns) - 1) + [True]


def test_a_game_that_ends_in_its_last_turn_is_terminated_and_not_truncated():
    _, turns = play(line_dialogue(max_turns=2), answer("Jump"), answer("Jump"))
    assert [(turn.terminated, turn.truncated) for turn in turns] == [(False, False), (True, False)]


@pytest.mark.parametrize(
    "options, actions_left",
    [
        ({"max_turns": 4}, 4),
        ({"max_turns": 4, "actions_per_turn": 2}, 8),
        ({"max_turns": 20}, 10),
    ],
)
def test_the_actions_left_are_the_smaller_of_both_limits(options, actions_left):
    assert line_dialogue(**options).start(TASK).actions_left == actions_left


def test_an_environment_that_does_not_explain_itself_is_refused():
    with pytest.raises(SettingError, match="env.id 'CartPole-v1' has no text_spec"):
        Dialogue(lambda: gymnasium.make("CartPole-v1"), CHAT)


# ---- replies that begin inside the answer ----

OPENED = ChatFormat(TOKENIZER, prefill="<answer>")


def test_a_prefill_ends_every_prompt_and_is_read_with_the_reply():
    """Of two turns in a window: the prompts are those without it, with `<answer>` after each."""
    plain = play(line_dialogue(window=10), answer("Right"), answer("Rest"))[0]
    positions, turns = play(
        line_dialogue(window=10, chat=OPENED),
        completion("Right</answer>"),
        completion("Rest</answer>"),
    )
    assert [turn.action for turn in turns] == ["Right", "Rest"]
    for with_it, without in zip(positions[:2], plain[:2], strict=True):
        text = TOKENIZER.decode(without.prompt_ids)
        assert TOKENIZER.decode(with_it.prompt_ids) == text + "<answer>"
    request = line_dialogue(chat=OPENED).proposal_prompt(positions[0], ["Left"])
    assert TOKENIZER.decode(request.prompt_ids).endswith("<|assistant|><answer>")
    assert request.prompt_ids[-len(OPENED.tail_ids) :] == OPENED.tail_ids


@pytest.mark.parametrize("is_strict", [True, False])
def test_under_a_prefill_a_reply_without_the_tag_is_readable(is_strict):
    dialogue = line_dialogue(chat=OPENED, is_strict=is_strict)
    start = dialogue.start(TASK)
    assert dialogue.read(start, completion("Right</answer>")) == "Right"
    assert dialogue.read(start, completion("nothing</answer>")) is None
    opened_twice = dialogue.read(start, answer("Right"))
    assert opened_twice == (None if is_strict else "Right")
