"""Fuzzes everything that reads the text of a model: no exception, and no slow text.

The texts are made from what models write (tags, moves, numbers, LaTeX), cut, repeated and mixed
with rare characters; they follow from the seed.
"""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import gymnasium

from sesa_agent.agents.parsing import (
    bare_action,
    find_answer,
    read_answer,
    read_sketch,
    split_actions,
)
from sesa_agent.agents.tool_calls import READERS, read_tool_response
from sesa_agent.configs.load import env_names, load_config
from sesa_agent.environments.games.expressions import evaluate_expression
from sesa_agent.environments.games.math_answers import extract_answer, is_equal, parse_number

from .table import Row

LIMIT_S = 0.1
COMPARED_LIMIT_S = 1.5
"""For comparisons of mathematics, which stop after a second of work."""
COMPARED_EVERY = 100
"""Comparing takes milliseconds, so it is done for one text in so many."""
WORDS = r"""
<answer> </answer> <think> </think> <sketch> </sketch> Left Down right UP || Go to A row column R1C2
0 1 2 37 1,2 1e5 - + * / ( ) = . , [ ] e if or lambda __import__('os') #### x= % $ the answer
\boxed{ } { \frac \sqrt ^ _ \left( \right) \pi \text{ ^\circ \infty \begin{pmatrix} & \\ × ÷ − ½
<tool_call> </tool_call> [TOOL_CALLS] {"name":"sql","arguments":{"a":1}} <query> </query> </tool>
１２ é 😀 ٣ <|im_end|> <Answer> </ANSWER>
""".split()
PARTS = (
    *WORDS,
    '<tool name="sql">',
    " ",
    "\n",
    "\t",
    " || ",
    "1 2 3",
    "9" * 30,
    "\u200b",
    "\u202e",
    "\x00",
    "\ud800",
)
REPEATS = (
    "(",
    ")",
    "{",
    "}",
    "\\frac{",
    "<answer>",
    "9",
    "^9",
    "-",
    " ",
    "a",
    "((((1))))",
    "**`",
    "```\n",
    "\\sqrt{",
    "||",
    "1,",
    '<tool name="sql">',
    "<tool_call>",
    "[",
)


def text_rows(num_texts: int, seed: int) -> Iterator[Row]:
    """Fuzz with so many texts, in two processes."""
    halves = [(num_texts // 2, seed * 2), (num_texts - num_texts // 2, seed * 2 + 1)]
    with ProcessPoolExecutor(2) as pool:
        found = [fault for faults in pool.map(_fuzz, halves) for fault in faults]
    note = f"all readers of text; comparisons of mathematics on {num_texts // COMPARED_EVERY}"
    yield Row("a fuzzed text", num_texts, tuple(found), note)


def fuzzed_text(rng: random.Random) -> str:
    """One text: mostly short, sometimes tens of thousands of characters."""
    if rng.random() < 0.002:
        return rng.choice(REPEATS) * rng.choice((100, 3000, 30_000))
    text = "".join(rng.choices(PARTS, k=rng.randrange(1, 24)))
    if rng.random() < 0.3:
        start = rng.randrange(len(text))
        text = text[start:] + text[: rng.randrange(len(text) + 1)]
    return f"<answer>{text}</answer>" if rng.random() < 0.3 else text


def readers() -> dict[str, Callable[[str], Any]]:
    """What reads text, by name: the parsers, and each game's reader of actions."""
    found: dict[str, Callable[[str], Any]] = {
        "read_answer": lambda text: read_answer(text, thinking=False),
        "read_answer, thinking": lambda text: read_answer(text, thinking=True),
        "find_answer": find_answer,
        "bare_action": bare_action,
        "split_actions": lambda text: split_actions(text, 3),
        "read_sketch": read_sketch,
        **{
            f"read_tool_response, {name}": lambda text, name=name: read_tool_response(
                text, name, thinking=False
            )
            for name in READERS
        },
        "extract_answer": extract_answer,
        "parse_number": parse_number,
        "evaluate_expression": _evaluated,
    }
    for name in env_names():
        env = gymnasium.make(load_config(name).env.id)
        env.reset(seed=0)
        found[name] = env.get_wrapper_attr("canonical_action")
    return found


def _evaluated(text: str) -> Any:
    try:
        return evaluate_expression(text)
    except ValueError:  # its own error, the documented answer to what is no expression
        return None


def _fuzz(task: tuple[int, int]) -> list[str]:
    num_texts, seed = task
    rng, found, faults = random.Random(seed), readers(), []
    for i in range(num_texts):
        text = fuzzed_text(rng)
        for name, read in found.items():
            faults += _try(name, read, text, LIMIT_S)
        if not i % COMPARED_EVERY:
            gold = rng.choice((r"\frac{1}{2}", "3", r"x^2+1", "(1,2)", r"\{1,2\}", "5 cm"))
            faults += _try(
                "is_equal", lambda given, gold=gold: is_equal(given, gold), text, COMPARED_LIMIT_S
            )
    return faults[:100]


def _try(name: str, read: Callable[[str], Any], text: str, limit_s: float) -> list[str]:
    try:
        seconds = _seconds(read, text)
        if seconds > limit_s:  # again: it may have been a pause of the machine
            seconds = min(seconds, _seconds(read, text), _seconds(read, text))
    except Exception as error:
        return [f"{name}: {type(error).__name__} at {text[:60]!r} ({len(text)} characters)"]
    if seconds > limit_s:
        return [f"{name}: {seconds:.2f} s at {text[:40]!r} ({len(text)} characters)"]
    return []


def _seconds(read: Callable[[str], Any], text: str) -> float:
    start = time.thread_time()
    read(text)
    return time.thread_time() - start
