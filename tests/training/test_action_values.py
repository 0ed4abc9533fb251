import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.schema import LossConfig, SamplingConfig
from sesa_agent.environments.games.frozen_lake import build_lake
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import ROOT, Task
from sesa_agent.sampling.tree import grow_trees
from sesa_agent.training.action_values import action_advantages, expected_values
from sesa_agent.training.advantages import best_credit, expected_credit

from ..helpers.credits import credit_of
from ..helpers.games import RecordingEngine, generator, lake_dialogue
from ..helpers.strategies import make_tree, make_turn, trees


def slippery_tree():
    """Two proposals at the start. The first leads on (node 0) or back to the start, two draws each;
    the second always loses (node 2). From node 0 three of four draws win."""
    return make_tree(
        [ROOT, ROOT, ROOT, 0, 0],
        [
            make_turn(num_draws=2),
            make_turn(num_draws=2, merged_into=ROOT),
            make_turn(num_draws=4, proposal_index=1, terminated=True),
            make_turn(num_draws=3, reward=1.0, terminated=True, success=True),
            make_turn(num_draws=1, terminated=True),
        ],
    )


def test_values_by_hand():
    """Two rounds at discount .5: Q(0, .) = 3/4, then Q(start, 0) = (2 * .5 * 3/4 + 0) / 4."""
    values = expected_values(slippery_tree(), discount=0.5)
    assert values == {(ROOT, 0): 0.1875, (ROOT, 1): 0.0, (0, 0): 0.75}


def test_an_action_is_taught_once_and_a_lone_one_not_at_all():
    advantages = action_advantages(slippery_tree(), discount=0.5)
    np.testing.assert_allclose(advantages, [0.1875, np.nan, -0.1875, np.nan, np.nan])
    credit = credit_of(
        expected_credit, slippery_tree(), LossConfig(discount=0.5, aggregate="token")
    )
    assert credit.positive.tolist() == [0.1875, 0, 0, 0, 0]
    assert credit.negative.tolist() == [0, 0, -0.1875, 0, 0]
    assert credit.weight.tolist() == [1, 0, 1, 0, 0]
    assert credit.denominator == 2


def test_a_state_that_was_left_out_is_unknown_and_not_worthless():
    tree = slippery_tree()
    tree.add(ROOT, make_turn(proposal_index=2))  # open, but never expanded: beyond the cap
    tree.add(ROOT, make_turn(proposal_index=3, num_draws=1))  # one draw as open, one that won
    tree.add(ROOT, make_turn(proposal_index=3, num_draws=1, reward=1.0, terminated=True))
    values = expected_values(tree, discount=0.5)
    assert math.isnan(values[ROOT, 2])
    assert values[ROOT, 3] == 1.0


def test_what_a_limit_cut_off_has_the_value_of_the_state_that_it_reached():
    tree = slippery_tree()
    tree.add(ROOT, make_turn(proposal_index=2, truncated=True, merged_into=0))
    tree.add(ROOT, make_turn(proposal_index=3, truncated=True))
    values = expected_values(tree, discount=0.5)
    assert values[ROOT, 2] == 0.5 * 0.75
    assert values[ROOT, 3] == 0.0


def test_an_unreadable_response_costs_its_penalty():
    tree = make_tree([ROOT], [make_turn(action=None, truncated=True)])
    assert expected_values(tree, discount=0.9, format_penalty=0.1) == {(ROOT, 0): -0.1}


@given(trees())
def test_advantages_of_a_decision_add_up_to_nothing(tree):
    advantages = action_advantages(tree, discount=0.9)
    for children in tree.children().values():
        assert abs(np.nansum(advantages[children])) < 1e-9


@given(st.integers(2, 5), st.integers(0, 4), st.floats(0.5, 1.0))
def test_where_nothing_is_left_to_chance_it_is_the_best_credit(width, winner, discount):
    """One decision whose proposals end the game: the same advantages up to the discount."""
    wins = [place == winner % width for place in range(width)]
    turns = [
        make_turn(proposal_index=place, terminated=True, success=won, reward=float(won))
        for place, won in enumerate(wins)
    ]
    tree, cfg = make_tree([ROOT] * width, turns), LossConfig(discount=discount)
    expected, best = credit_of(expected_credit, tree, cfg), credit_of(best_credit, tree, cfg)
    np.testing.assert_allclose(expected.positive * discount, best.positive)
    np.testing.assert_allclose(expected.negative * discount, best.negative)


@pytest.mark.parametrize("seed", [3, 7])
def test_with_all_actions_and_many_draws_values_are_those_of_value_iteration(seed):
    """150 draws leave about .04 of noise in an action's value, less where they pass on."""
    names, asked = ("Left", "Down", "Right", "Up"), {}

    def each_in_turn(prompt, _):
        asked[prompt] = asked.get(prompt, -1) + 1
        return f"<answer>{names[asked[prompt] % 4]}</answer>"

    dialogue = lake_dialogue(slippery=True, max_turns=8)
    cfg = SamplingConfig(
        proposer="without_replacement", num_proposals=4, max_trajectories=64, noise_draws=150
    )
    engine, task = RecordingEngine(each_in_turn), Task("sesa/FrozenLake-v0", seed)
    [tree] = Player(engine, dialogue, SamplingParams(), generator(0)).run(grow_trees, [task], cfg)
    values = expected_values(tree, discount=0.9)
    game = dialogue.start(task).env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
    depth = max(len(tree.path(leaf)) for leaf in tree.leaves())
    exact = value_iteration(game.lake, depth)[game.position]
    for index, name in enumerate(names):
        assert values[ROOT, index] == pytest.approx(exact[names.index(name)], abs=0.12)


def value_iteration(lake, num_rounds: int) -> np.ndarray:
    table = build_lake(lake, True).P
    states = np.zeros(len(table))
    actions = np.zeros((len(table), 4))
    for _ in range(num_rounds):
        for cell, moves in table.items():
            for move, outcomes in moves.items():
                actions[cell, move] = sum(
                    p * (reward + 0.9 * states[after] * (not over))
                    for p, after, reward, over in outcomes
                )
        states = actions.max(axis=1)
    return actions
