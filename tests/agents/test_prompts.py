"""Prompts against `tests/golden/`. The bundled models were made on these words: a new wording makes
them useless until `sesa-agent pretrain` has been run again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.parsing import read_answer
from sesa_agent.agents.prompts import (
    ANSWER_SYSTEM,
    SYSTEM,
    PromptStyle,
    ShortStyle,
    follow,
    list_answers,
    outline,
    propose_another,
)
from sesa_agent.environments import make_env
from sesa_agent.sampling.prompt_writer import prompt_style

GOLDEN = Path(__file__).parents[1] / "golden"


def sokoban_messages(earlier=(), **style) -> list[str]:
    """System, first question and second question of puzzle 0, as the policy is told them."""
    env = make_env("sesa/Sokoban-v0")
    words = prompt_style(env, **style)
    before, _ = env.reset(seed=0)
    after, reward, *_ = env.step("Left")
    first = words.first_message(before, turn=1, actions_left=10)
    second = words.next_message(float(reward), after, turn=2, actions_left=9)
    return [SYSTEM, first, second + (propose_another(earlier) if earlier else "")]


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("plain", {}),
        ("thinking", {"thinking": True}),
        ("several_actions", {"actions_per_turn": 5}),
        ("propose_another", {"earlier": ("Up", "Left")}),
    ],
)
def test_the_sokoban_prompts_match_the_golden_files(name, arguments):
    messages = "\n--------\n".join(sokoban_messages(**arguments)) + "\n"
    assert messages == (GOLDEN / f"sokoban_{name}.txt").read_text(encoding="utf-8")


ORDER = "the order in which to fill the blanks"


@pytest.mark.parametrize(
    "name, request_text",
    [
        ("list", list_answers(4)),
        ("outline", outline(ORDER, [])),
        ("outline_another", outline(ORDER, ["rows from the top", "digit by digit"])),
        ("follow", follow("columns from the left")),
    ],
)
def test_the_single_answer_prompts_match_the_golden_files(name, request_text):
    env = make_env("sesa/Sudoku-v0", answer="fill", num_blanks=6)
    words = prompt_style(env)
    assert words.sketch == ORDER
    first = words.first_message(env.reset(seed=0)[0], turn=1, actions_left=1)
    messages = "\n--------\n".join([SYSTEM, first + request_text]) + "\n"
    assert messages == (GOLDEN / f"sudoku_{name}.txt").read_text(encoding="utf-8")


def test_the_short_layout_holds_the_question_the_form_of_its_answer_and_the_reply_format():
    """ "You have 1 actions left" stood there, and turns and states of a game that is none."""
    style = ShortStyle("Solve the problem.", "", "a number")
    assert style.system == ANSWER_SYSTEM != SYSTEM
    assert style.first_message("What is 3 + 4?", turn=1, actions_left=1) == (
        "Solve the problem.\nWhat is 3 + 4?\n"
        "Answer with: a number. Reply with <answer>your answer</answer>."
    )
    style = ShortStyle("Solve it.", "_ is a blank", "digits", thinking=True)
    assert style.first_message("1 _", 1, 1) == (
        "Solve it.\nSymbols: _ is a blank.\n1 _\nAnswer with: digits. "
        "Reply with <think>your thoughts</think><answer>your answer</answer>."
    )


def test_the_outline_request_uses_the_games_own_words():
    assert "Outline one way to solve it in a few words" in outline(
        prompt_style(make_env("sesa/Sokoban-v0")).sketch, []
    )
    ours = ("sesa/Sudoku-v0", "sesa/Math-v0", "sesa/PathExploration-v0")
    assert len({prompt_style(make_env(env_id)).sketch for env_id in ours}) == 3


def test_a_game_without_symbols_has_no_symbols_line():
    style = PromptStyle("Win.", legend="", actions="Go")
    assert style.rules() == "Win.\nActions: Go.\n"


def test_a_request_for_another_proposal_only_adds_to_the_end():
    plain, asked = sokoban_messages(), sokoban_messages(earlier=("Up",))
    assert asked[:2] == plain[:2]
    assert asked[2].startswith(plain[2])


@given(st.text(st.characters(codec=None)), st.lists(st.text(st.characters(codec=None))))
def test_any_text_fits_into_a_prompt(text, earlier):
    style = PromptStyle(text, text, text, actions_per_turn=2, thinking=True, sketch=text)
    assert text in style.first_message(text, turn=1, actions_left=1)
    assert text in style.next_message(float("nan"), text, turn=2, actions_left=0)
    assert all(one in propose_another(earlier) for one in earlier)
    assert text in outline(text, earlier) and text in follow(text)


@pytest.mark.parametrize("thinking", [False, True])
def test_a_written_answer_is_in_the_format_that_is_read(thinking):
    written = PromptStyle("", "", "", thinking=thinking).write_answer("3 + 5")
    assert read_answer(written, thinking) == "3 + 5"
