"""How a player drives the coroutines of a sampler, for both kinds of engine."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.sampling.player import Player, reseeded, together

from ..helpers.games import TOKENIZER, RecordingEngine, StreamingEngine, generator, line_dialogue

PARAMS = SamplingParams(max_new_tokens=5)
DIALOGUE = line_dialogue()


def make_player(engine: Any = None) -> Any:
    engine = engine or RecordingEngine(lambda prompt, rng: f"{prompt} {rng.random():.6f}")
    return Player(engine, DIALOGUE, PARAMS, generator())


def prompt(name: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(name))


async def chain(player, name, length):
    """Ask `length` times, one after another."""
    return [(await player.ask(prompt(f"{name}{n}"))).text[:2] for n in range(length)]


@given(lengths=st.lists(st.integers(0, 4), max_size=5))
def test_all_open_requests_are_answered_in_one_call(lengths):
    player = make_player()
    chains = [chain(player, "abcde"[n], length) for n, length in enumerate(lengths)]
    results = player.drive(together(*chains))
    assert results == [
        [f"{'abcde'[n]}{place}" for place in range(length)] for n, length in enumerate(lengths)
    ]
    rounds = [
        [f"{'abcde'[n]}{place}" for n, length in enumerate(lengths) if length > place]
        for place in range(max(lengths, default=0))
    ]
    assert [call.texts for call in player.engine.calls] == rounds


def test_every_call_has_the_next_seed():
    player, rng = make_player(), generator()
    player.drive(chain(player, "a", 3))
    seeds = [call.params.seed for call in player.engine.calls]
    assert seeds == [reseeded(PARAMS, rng).seed for _ in range(3)]


def test_branches_can_branch_again_and_wait_for_all_of_theirs():
    player = make_player()

    async def twice(name):
        both = await together(chain(player, name, 1), chain(player, name.upper(), 2))
        return both, await chain(player, name, 1)

    first, second = player.drive(together(twice("a"), twice("b")))
    assert first == ([["a0"], ["A0", "A1"]], ["a0"])
    assert second == ([["b0"], ["B0", "B1"]], ["b0"])
    assert [call.texts for call in player.engine.calls] == [
        ["a0", "A0", "b0", "B0"],
        ["A1", "B1"],
        ["a0", "b0"],
    ]


def test_requests_that_are_sampled_otherwise_have_a_call_of_their_own():
    player = make_player()
    short = player.with_params(max_new_tokens=2)
    player.drive(together(chain(player, "a", 1), chain(short, "b", 1), chain(player, "c", 1)))
    calls = player.engine.calls
    assert [(call.texts, call.params.max_new_tokens) for call in calls] == [
        (["a0", "c0"], 5),
        (["b0"], 2),
    ]


@pytest.mark.parametrize("engine_class", [RecordingEngine, StreamingEngine])
def test_an_error_closes_every_branch(engine_class):
    player, closed = make_player(engine_class(lambda *_: "x")), []

    async def stuck(name):
        try:
            while True:
                await player.ask(prompt(name))
        finally:
            closed.append(name)

    async def failing():
        await player.ask(prompt("c"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        player.drive(together(stuck("a"), stuck("b"), failing()))
    assert sorted(closed) == ["a", "b"]


def test_items_have_random_numbers_of_their_own_only_when_streaming():
    batched, streaming = make_player(), make_player(StreamingEngine(lambda *_: "x"))
    assert all(own is batched for _, own in batched.split("ab"))
    (_, first), (_, second) = streaming.split("ab")
    assert first.rng.random() != second.rng.random()
    assert [item for item, _ in streaming.split("ab")] == ["a", "b"]
