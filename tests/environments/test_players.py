"""The scripted players: distinct moves, in the shares they promise."""

import random
from collections import Counter

import pytest

from sesa_agent.environments import ENVIRONMENTS, make_env
from sesa_agent.environments.players import PLAYERS, ScriptedPlayer


def game_of(env_id: str, seed: int):
    env = make_env(env_id)
    env.reset(seed=seed)
    return env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]


def player(expert: str | None, habit: str, anything: str, **shares: float) -> ScriptedPlayer:
    return ScriptedPlayer(
        lambda game, rng: expert, lambda game, rng: habit, lambda game, rng: anything, **shares
    )


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_every_environment_has_a_player_whose_moves_it_can_read(env_id):
    rng = random.Random(0)
    for seed in range(20):
        game = game_of(env_id, seed)
        moves = PLAYERS[env_id].choose_distinct(game, rng, 4)
        assert len(set(moves)) == len(moves)
        assert all(game.read_action(move) is not None for move in moves)


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
