import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.parsing import (
    bare_action,
    find_answer,
    first_action,
    read_answer,
    read_sketch,
    split_actions,
)

TAGS = ["<answer>", "</answer>", "<think>", "</think>", " ", "\n", "Up", "||", "<", "√", "\x00"]
SKETCH_TAGS = ["<sketch>", "</sketch>", "<sketch", " ", "\n", "\u2028", "Up", ".", "rows", "\x00"]


@pytest.mark.parametrize(
    "response, answer",
    [
        ("<answer>Up</answer>", "Up"),
        ("\n <answer> Up || Left\n</answer>", "Up || Left"),
        ("<answer>Up</answer> and more", "Up"),
        ("<answer></answer>", ""),
        ("<answer>1\n2</answer>", "1\n2"),
        ("I say <answer>Up</answer>", None),
        ("<think>hm</think><answer>Up</answer>", None),
        ("<answer>Up", None),
        ("Up</answer>", None),
        ("<Answer>Up</Answer>", None),
        ("<answer>Up<answer>", None),
        ("", None),
    ],
)
def test_plain_format_is_the_answer_and_nothing_before_it(response, answer):
    assert read_answer(response, thinking=False) == answer


@pytest.mark.parametrize(
    "response, answer",
    [
        ("<think>hm</think><answer>Up</answer>", "Up"),
        (" <think>a\nb</think>\n <answer>Up</answer>", "Up"),
        ("<think></think><answer>Up</answer>", "Up"),
        ("<think><answer>Up</answer></think><answer>Left</answer>", "Left"),
        ("<answer>Up</answer>", None),
        ("<think>hm<answer>Up</answer>", None),
        ("hm</think><answer>Up</answer>", None),
        ("<think>hm</think>so<answer>Up</answer>", None),
        ("<think>hm</think>", None),
    ],
)
def test_thinking_format_needs_thoughts_before_the_answer(response, answer):
    assert read_answer(response, thinking=True) == answer


@pytest.mark.parametrize(
    "answer, max_actions, actions",
    [
        ("Up", 1, ["Up"]),
        ("Up || Left || Up", 5, ["Up", "Left", "Up"]),
        ("Up||Left", 5, ["Up", "Left"]),
        ("Up || Left || Up", 2, ["Up", "Left"]),
        ("SELECT a || b", 1, ["SELECT a || b"]),
        ("make || exit 1", 1, ["make || exit 1"]),
        (" ", 1, []),
        ("|| Up ||  || Left ||", 5, ["Up", "Left"]),
        ("Up | Left", 5, ["Up | Left"]),
        ("", 5, []),
        (" || ", 5, []),
    ],
)
def test_actions_are_split_at_the_separator_up_to_a_limit(answer, max_actions, actions):
    assert split_actions(answer, max_actions) == actions


@given(
    response=st.one_of(st.text(), st.lists(st.sampled_from(TAGS)).map("".join)),
    thinking=st.booleans(),
    max_actions=st.integers(1, 5),
)
def test_any_text_is_read_without_an_error(response, thinking, max_actions):
    answer = read_answer(response, thinking)
    assert answer is None or answer == answer.strip()
    actions = split_actions(response if answer is None else answer, max_actions)
    assert len(actions) <= max_actions
    assert all(action and action == action.strip() for action in actions)
    assert max_actions == 1 or not any("||" in action for action in actions)


@given(st.text())
def test_the_text_between_the_tags_is_returned(text):
    if "</answer>" not in text:
        assert read_answer(f"<answer>{text}</answer>", thinking=False) == text.strip()


@pytest.mark.parametrize(
    "response, sketch",
    [
        ("<sketch>rows from the top</sketch>", "rows from the top"),
        ("<sketch> rows,\n\n then  boxes.\n</sketch>", "rows, then boxes"),
        ("Well: <sketch>rows</sketch> and more", "rows"),
        ("<sketch>rows</sketch><sketch>boxes</sketch>", "rows"),
        ("<sketch>rows from the", "rows from the"),  # cut off by its limit
        ("rows from the top.", "rows from the top"),
        ("rows</sketch>", "rows"),
        ("Rows", "Rows"),
        ("rows ...", "rows"),
        ("3.5 at a time", "3.5 at a time"),
        ("<sketch></sketch>", None),
        ("<sketch> \n </sketch>", None),
        ("<sketch>.</sketch>", None),
        ("</sketch>rows", None),
        ("", None),
    ],
)
def test_a_sketch_is_the_text_between_its_tags_or_the_whole_reply(response, sketch):
    assert read_sketch(response) == sketch


@given(st.one_of(st.text(), st.lists(st.sampled_from(SKETCH_TAGS)).map("".join)))
def test_any_reply_has_a_sketch_of_one_line_without_its_tags_or_none(response):
    sketch = read_sketch(response)
    if sketch is not None:
        assert sketch and sketch == " ".join(sketch.split())
        assert len(sketch.splitlines()) == 1
        assert not sketch.endswith(".")
        assert "<sketch>" not in sketch and "</sketch>" not in sketch


@given(st.text())
def test_a_sketch_that_is_repeated_word_for_word_reads_the_same(response):
    sketch = read_sketch(response)
    if sketch is not None:
        assert read_sketch(f"<sketch>{sketch}</sketch>") == read_sketch(sketch) == sketch


REFERENCE = {
    False: re.compile(r"\s*<answer>(.*?)</answer>", re.DOTALL),
    True: re.compile(r"\s*<think>.*?</think>\s*<answer>(.*?)</answer>", re.DOTALL),
}


@given(st.lists(st.sampled_from(TAGS), max_size=12).map("".join), st.booleans())
def test_an_answer_is_what_the_pattern_of_the_format_says(response, thinking):
    match = REFERENCE[thinking].match(response)
    assert read_answer(response, thinking) == (match.group(1).strip() if match else None)


# ---- tolerant reading ----


@pytest.mark.parametrize(
    "response, answer",
    [
        ("<answer>Up</answer>", "Up"),
        ("Sure: <answer>Up</answer>", "Up"),
        ("<answer> Up </answer>\nBecause the box is there.", "Up"),
        ("<Answer>Up</ANSWER>", "Up"),
        ("<think>hm</think><answer>Up</answer>", "Up"),
        ("<THINK>hm</Think> so: <answer>Up</answer>", "Up"),
        ("opened by the template</think><answer>Up</answer>", "Up"),
        # which of several: the first that ends, outside thoughts
        ("<answer>Up</answer><answer>Down</answer>", "Up"),
        ("<answer>Up</answer> or <answer>Down", "Up"),
        ("<think><answer>Up</answer></think><answer>Left</answer>", "Left"),
        ("<answer>Up</answer><think><answer>Left</answer></think>", "Up"),
        ("In <answer> tags: <answer>Up</answer>", "Up"),
        ("<answer><answer>Up</answer>", "Up"),
        ("Well <answer><think>hm</think><answer>Up</answer>", "Up"),
        ("<answer></answer><answer>Up</answer>", ""),
        # none
        ("Up</answer><answer>Down</answer>", None),
        ("<think><answer>Up</answer>", None),
        ("<think>a</think><think><answer>Up</answer>", None),
        ("<answer>Up<think></answer>", None),
        ("< answer>Up</ answer>", None),
        ("Up", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_tolerant_answer_ends_at_the_first_end_outside_thoughts(response, answer, is_whole):
    assert find_answer(response, is_whole) == answer


@pytest.mark.parametrize(
    "response", ["<answer>Up", "so: <Answer> Up\n", "<think>?</think><answer>Up"]
)
def test_the_last_tag_may_be_missing_where_the_model_ended_the_response(response):
    """Where a limit cut the response, the action might have gone on."""
    assert find_answer(response, is_whole=True) == "Up"
    assert find_answer(response, is_whole=False) is None


words = st.lists(st.sampled_from([tag for tag in TAGS if ">" not in tag])).map("".join)


@given(words, words, st.lists(st.sampled_from(TAGS)).map("".join), st.booleans(), st.booleans())
def test_tolerance_reads_the_format_as_ever(thoughts, answer, after, thinking, is_whole):
    before = f" <think>{thoughts}</think>\n" if thinking else "\n"
    response = f"{before}<answer>{answer}</answer>{after}"
    assert find_answer(response, is_whole) == read_answer(response, thinking) == answer.strip()


@given(st.lists(st.sampled_from([*TAGS, "<ANSWER>", "</Think>"]), max_size=14).map("".join))
def test_what_comes_after_an_answer_changes_nothing(response):
    answer = find_answer(response, is_whole=False)
    if answer is not None:
        for more in TAGS:
            assert find_answer(response + more) == answer


@pytest.mark.parametrize(
    "text, bare",
    [
        ("Up", "Up"),
        ("Up.", "Up"),
        ('"Up"', "Up"),
        ("'Up',", "Up"),
        ("“Up”", "Up"),
        ("`Up`", "Up"),
        ("**Up**", "Up"),
        ("*Up*:", "Up"),
        ("**`Up`**.", "Up"),
        ("```\nUp\n```", "Up"),
        ("```text\nUp\n```", "Up"),
        ("```Up```", "Up"),
        ("``` \n1 + 2\n```", "1 + 2"),
        ("'a' || 'b'", "'a' || 'b'"),
        ("2*", "2*"),
        ("3!", "3!"),
        ("-3", "-3"),
        ("'Up", "'Up"),
        ("''", "''"),
        ("", ""),
    ],
)
def test_a_bare_action_has_lost_what_stands_around_it(text, bare):
    assert bare_action(text) == bare


@given(st.text("Up*_`'\".;\n ", max_size=20))
def test_a_bare_action_is_a_part_of_the_text(text):
    assert bare_action(text) in text


def test_the_first_of_joined_actions():
    assert first_action("Up || Left", max_actions=5) == "Up"
    assert first_action("a || b", max_actions=1) == "a || b"


READERS = {
    "tolerant answer": find_answer,
    "bare action": bare_action,
    "answer": lambda text: read_answer(text, thinking=False),
    "answer after thoughts": lambda text: read_answer(text, thinking=True),
    "actions": lambda text: split_actions(text, max_actions=5),
    "sketch": read_sketch,
}
REPEATED = ("</think><answer>", "</think>", "<think>", "<answer>", " ", "</think> ", "||", ".")
REPEATED += (". ", "<sketch>", "\n", "\ud800", "\0", "a", "<", "'", "`'", "**`", "\"'.", "```\n")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("start", ["", "<think>", "<answer>", "<think></think>", "<sketch>"])
def test_a_long_response_is_read_in_time(reader, start):
    """Thoughts with many openings of an answer took seconds, by backtracking over all of them."""
    for repeated in REPEATED:
        text = start + repeated * (100_000 // len(repeated))
        times = []
        for _ in range(3):
            before = time.process_time()
            READERS[reader](text)
            times.append(time.process_time() - before)
        assert min(times) < 0.1, repeated


@given(st.text(st.characters(codec=None)))
def test_any_response_can_be_read(text):
    for read in READERS.values():
        read(text)
