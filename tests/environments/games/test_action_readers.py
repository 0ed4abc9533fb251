"""What every game owes to a model's text: an action or None, at once, whatever it says."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.environments import ENVIRONMENTS, make_env

VARIANTS = {
    **{env_id: (env_id, {}) for env_id in ENVIRONMENTS},
    "Sudoku, fill": ("sesa/Sudoku-v0", {"answer": "fill"}),
    "Sudoku, grid": ("sesa/Sudoku-v0", {"answer": "grid"}),
    "PathExploration, open": ("sesa/PathExploration-v0", {"world": "open"}),
    "Countdown, dense": ("sesa/Countdown-v0", {"reward": "dense"}),
}
ENVS: dict[str, Any] = {
    name: make_env(env_id, **options) for name, (env_id, options) in VARIANTS.items()
}
PIECES = [
    *("Left", "up", "1", "2 3 4", "1 2 3 4", "/", "|", " / ", "\n", " ", ",", ".", "-", "−", "+"),
    *("*", "(", ")", "=", "²", "٣", "３", "½", "Ⅷ", "①", "\\boxed{", "}", "{", "\\frac", "\\sqrt{"),
    *("$", "#### ", "answer is ", "Pudong", "浦东", "Shanghai", "'", "’", "İ", "ß", "\0", "\ud800"),
    *("\u200b", "\u2028", "e", "1e9", "9" * 50, "0", "00", "%", "cm", "🙂", "é", "<", ">"),
]
texts = st.text() | st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@pytest.mark.parametrize("name", VARIANTS)
@given(texts)
def test_any_text_is_an_action_or_none(name, text):
    env = ENVS[name]
    env.reset(seed=3)
    canonical = env.canonical_action(text)
    assert canonical is None or env.canonical_action(canonical) == canonical
    env.step(text)


LONG = ("1", "(", ")", "1+", "(1", " ", "\n", "1 2 3\n", "1/", "/ ", "a", "Left ", "'", "½", "=")
LONG += ("\\boxed{", "{", "}", "\\frac{", "$1", "####", "1,", "1 or ", "answer is 1 ", "²", "-")
LONG += (
    "\\",
    "\\boxed{1}",
    "\\sqrt{x",
    "e\u0301",
    "İ",
    "浦",
    "<",
    "%",
    ".1",
    "1.",
    "9 ",
    "answer:",
)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_text_of_a_million_characters_is_read_at_once(name):
    env = ENVS[name]
    env.reset(seed=3)
    for piece in LONG:
        text = piece * (1_000_000 // len(piece))
        start = time.process_time()
        env.canonical_action(text)
        assert time.process_time() - start < 1, piece
