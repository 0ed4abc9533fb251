"""The scripted players: distinct moves, in the shares they promise."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.environments import ENVIRONMENTS, make_env
from sesa_agent.environments.games.math_answers import extract_answer
from sesa_agent.environments.games.places import PLACES, TREASURES
from sesa_agent.environments.games.sudoku import ORDERS
from sesa_agent.training.pretraining.players import (
    METHOD_PLAYERS,
    PLAYERS,
    MethodPlayer,
    ScriptedPlayer,
    draw_distinct,
    rank_places,
)

RANKED = {"sesa/PathExploration-v0": rank_places()[0]}
"""Environments whose player draws from a list of known answers."""
LEARNED = [env_id for env_id in ENVIRONMENTS if env_id != "sesa/Countries-v0"]
"""Environments that bundled models learn: all but the one for pre-trained models."""


def game_of(env_id: str, seed: int, **options):
    env = make_env(env_id, **options)
    env.reset(seed=seed)
    return env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]


def player(expert: str | None, habit: str, anything: str, **shares: float) -> ScriptedPlayer:
    return ScriptedPlayer(
        lambda game, rng: expert, lambda game, rng: habit, lambda game, rng: anything, **shares
    )


@pytest.mark.parametrize("env_id", LEARNED)
def test_every_environment_has_a_player_whose_moves_it_can_read(env_id):
    rng = random.Random(0)
    for seed in range(20):
        if env_id in PLAYERS:
            game = game_of(env_id, seed)
            moves = PLAYERS[env_id].choose_distinct(game, rng, 4)
            assert len(set(moves)) == len(moves)
            assert all(game.read_action(move) is not None for move in moves)
        elif env_id in RANKED:
            game = game_of(env_id, seed)
            assert all(game.read_action(answer) is not None for answer in RANKED[env_id])
        else:
            assert env_id in METHOD_PLAYERS


@pytest.mark.parametrize(
    ("env_id", "options"), [("sesa/Sudoku-v0", {"answer": "fill"}), ("sesa/Math-v0", {})]
)
def test_every_method_gives_an_answer_that_its_game_can_read(env_id, options):
    rng = random.Random(0)
    for seed in range(20):
        game = game_of(env_id, seed, **options)
        for method, write in METHOD_PLAYERS[env_id].methods.items():
            assert game.read_action(write(game, rng)) is not None, method


def test_the_players_are_for_environments_of_ours():
    assert {*PLAYERS, *METHOD_PLAYERS, *RANKED} == set(LEARNED)


def test_moves_come_in_the_promised_shares():
    mixed = player("good", "usual", "any", expert_share=0.2, random_share=0.25)
    rng = random.Random(0)
    counts = Counter(mixed.choose(None, rng) for _ in range(20_000))
    # .2 expert; of the other .8 a quarter at random, three quarters by habit
    assert counts["good"] / 20_000 == pytest.approx(0.2, abs=0.015)
    assert counts["any"] / 20_000 == pytest.approx(0.2, abs=0.015)
    assert counts["usual"] / 20_000 == pytest.approx(0.6, abs=0.015)


def test_second_moves_are_the_shares_without_the_first():
    mixed = player("good", "usual", "any", expert_share=0.2, random_share=0.25)
    rng = random.Random(0)
    seconds = Counter(
        moves[1]
        for moves in (mixed.choose_distinct(None, rng, 2) for _ in range(20_000))
        if moves[0] == "usual"
    )
    # good and any have .2 each: half of what is left
    assert seconds["good"] / sum(seconds.values()) == pytest.approx(0.5, abs=0.02)


def test_a_player_without_advice_follows_its_habit_or_chance():
    lost = player(None, "usual", "any", expert_share=0.5, random_share=0.0)
    assert lost.choose_distinct(None, random.Random(0), 1) == ["usual"]


def test_the_list_is_short_where_there_are_too_few_moves():
    assert len(player("a", "a", "b").choose_distinct(None, random.Random(0), 5)) == 2


# ---- draws without replacement ----


def test_names_are_drawn_in_their_shares_of_what_is_left():
    """By counting: after a (4 of 8), b comes in 3 of the 4 parts that are left."""
    rng, weights = random.Random(0), {"a": 4.0, "b": 3.0, "c": 1.0}
    names, parts = list(weights), list(weights.values())
    draws = [tuple(draw_distinct(names, parts, rng, 2)) for _ in range(20_000)]
    pairs = Counter(draws)
    for first, weight in weights.items():
        for second, other in weights.items():
            expected = weight / 8 * other / (8 - weight) if first != second else 0.0
            assert pairs[first, second] / len(draws) == pytest.approx(expected, abs=0.012)


@given(
    weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12),
    count=st.integers(0, 15),
    seed=st.integers(0, 2**16),
)
def test_no_name_is_drawn_twice_and_none_is_left_over(weights, count, seed):
    names = [str(number) for number in range(len(weights))]
    drawn = draw_distinct(names, weights, random.Random(seed), count)
    assert len(drawn) == len(set(drawn)) == min(count, len(names))
    assert set(drawn) <= set(names)


@pytest.mark.parametrize("env_id", METHOD_PLAYERS)
def test_the_first_method_is_the_habit_and_the_others_share_the_rest(env_id):
    player, rng = METHOD_PLAYERS[env_id], random.Random(0)
    firsts = Counter(player.draw_methods(rng, 1)[0] for _ in range(20_000))
    habit, *others = player.methods
    assert firsts[habit] / 20_000 == pytest.approx(player.habit_share, abs=0.008)
    for method in others:
        expected = (1 - player.habit_share) / len(others)
        assert firsts[method] / 20_000 == pytest.approx(expected, abs=0.004)


def test_a_player_of_one_method_always_takes_it():
    player = MethodPlayer({"only": lambda game, rng: "17"})
    assert player.draw_methods(random.Random(0), 5) == ["only"]


def test_all_methods_come_when_all_are_drawn():
    for player in METHOD_PLAYERS.values():
        methods = player.draw_methods(random.Random(0), 99)
        assert sorted(methods) == sorted(player.methods)


def test_by_habit_a_sum_is_answered_in_one_go_without_carrying():
    player = METHOD_PLAYERS["sesa/Math-v0"]
    assert next(iter(player.methods)) == "in one go"
    rng = random.Random(0)
    right: Counter[str] = Counter()
    for seed in range(200):
        game = game_of("sesa/Math-v0", seed)
        for method, write in player.methods.items():
            answer = write(game, rng)
            right[method] += extract_answer(answer) == str(sum(game.terms))
    # Every method but the careless habit works its sums out to the right end.
    assert right.pop("in one go") < 120
    assert set(right.values()) == {200}


def test_by_habit_a_sudoku_is_filled_row_by_row_and_mostly_wrong():
    player = METHOD_PLAYERS["sesa/Sudoku-v0"]
    assert list(player.methods) == list(ORDERS)
    habit, rng = next(iter(player.methods.values())), random.Random(0)
    num_right = 0
    for seed in range(200):
        game = game_of("sesa/Sudoku-v0", seed, answer="fill")
        answer = habit(game, rng)
        cells = [part.split()[:2] for part in answer.split("; ")]
        assert cells == sorted(cells)
        num_right += game.step(game.read_action(answer)[1])[4]["success"]
    assert num_right < 60


# ---- places ----


def test_all_places_are_ranked_by_falling_weight():
    names, weights = rank_places()
    assert sorted(names) == sorted(PLACES) and len(names) == len(set(names))
    assert weights[0] == 1.0
    assert list(weights) == sorted(weights, reverse=True)
    assert weights[9] == pytest.approx(10**-1.5)


def test_the_ranks_know_nothing_of_the_treasures():
    """The mean rank of 20 of 200 is 100.5 with a standard error of 12.2."""
    means = []
    for seed in range(40):
        names, _ = rank_places(seed)
        means.append(sum(names.index(treasure) for treasure in TREASURES) / len(TREASURES))
    assert sum(means) / 40 == pytest.approx(99.5, abs=4 * 12.2 / 40**0.5)
    assert rank_places(3) == rank_places(3) != rank_places(4)
