"""Trees where moves go astray: repeated draws, merged states, shared and independent noise."""

from collections import Counter

import gymnasium
import pytest
from hypothesis import given

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import make_env
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.sampling.tree import resolve_merging

from ..helpers.games import lake_dialogue
from ..helpers.grown import WAYS, Grown, grow, grown_trees


@given(grown_trees(games=("slippery lake",), merge_states="on", noise_draws=5))
def test_in_a_noisy_world_every_state_is_expanded_once(grown):
    for tree in (g.tree for g in grown):
        places = Counter(
            tree.turns[children[0]].observation for children in tree.children().values()
        )
        assert set(places.values()) == {1}


@given(grown_trees(games=("slippery lake",), merge_states="on", noise_draws=5))
def test_in_a_noisy_world_a_repeat_points_to_the_turn_that_came_first(grown):
    for tree in (g.tree for g in grown):
        children, start = tree.children(), tree.turns[0].observation
        for node, turn in enumerate(tree.turns):
            if turn.merged_into not in (None, ROOT):
                assert turn.merged_into < node and node not in children
                # A state's text is what its own decision was shown.
                first = children.get(turn.merged_into)
                assert first is None or tree.turns[first[0]].observation != start


@given(grown_trees(games=("slippery lake",), merge_states="on", noise_draws=5))
def test_in_a_noisy_world_every_proposal_is_played_as_often_as_asked(grown):
    for tree in (g.tree for g in grown):
        draws, steps, num_firsts = Counter(), Counter(), 0
        for parent, turn in zip(tree.parents, tree.turns, strict=True):
            draws[parent, turn.proposal_index] += turn.num_draws
            steps[parent, turn.proposal_index] += turn.num_env_steps
            is_readable = turn.action is not None
            num_firsts += turn.outcome == 0
            assert turn.num_env_steps == turn.num_draws * is_readable
        assert set(draws.values()) == {5}
        assert num_firsts == len(draws)
        assert len(draws) <= tree.num_calls  # playing more often asks the policy no more often


@given(grown_trees(games=("slippery lake",), merge_states="on", noise_draws=5))
def test_in_a_noisy_world_the_cap_bounds_open_nodes_and_proposals_of_a_layer(grown):
    for g in grown:
        nodes, proposals = Counter(), Counter()
        for parent, children in g.tree.children().items():
            layer = 0 if parent == ROOT else len(g.tree.path(parent))
            nodes[layer] += 1
            turns = [g.tree.turns[child] for child in children]
            readable = {turn.proposal_index for turn in turns if turn.action is not None}
            proposals[layer] += max(1, len(readable))
        cap = g.settings["max_trajectories"]
        assert max(nodes.values()) <= cap and max(proposals.values()) <= cap


# ---- noise of the environment ----


def first_not_in_view(prompt, _):
    """A move that neither the request nor the reply so far names."""
    asked = prompt.rpartition("You have ")[2]
    return next(f"<answer>{move}</answer>" for move in WAYS if move not in asked)


def slippery_trees(fork_noise, proposer):
    return [
        (tree, Grown(tree, dialogue, {}, 0))
        for seed in range(8)
        for dialogue in [lake_dialogue(slippery=True, max_turns=4)]
        for tree in grow(
            dialogue,
            first_not_in_view,
            seed,
            num_proposals=3,
            max_trajectories=8,
            fork_noise=fork_noise,
            proposer=proposer,
            merge_states="off",
        )[0]
    ]


def replays(tree, grown, leaf) -> bool:
    observations = [turn.observation for turn in tree.trajectory(leaf).turns]
    return observations == [before for before, *_ in grown.replay(leaf)]


@pytest.mark.parametrize("proposer", ["history", "one_response"])
def test_shared_noise_lets_all_branches_slip_alike(proposer):
    for tree, grown in slippery_trees("shared", proposer):
        assert all(replays(tree, grown, leaf) for leaf in tree.leaves())


@pytest.mark.parametrize("proposer", ["history", "one_response"])
def test_independent_noise_gives_each_branch_but_the_first_its_own(proposer):
    results = {True: [], False: []}
    for tree, grown in slippery_trees("independent", proposer):
        for leaf in tree.leaves():
            children = tree.children()
            is_first = all(children[tree.parents[node]][0] == node for node in tree.path(leaf))
            results[is_first].append(replays(tree, grown, leaf))
    assert all(results[True]) and results[True]
    assert not all(results[False])


def test_merging_where_states_cannot_be_told_apart_is_refused():
    with pytest.raises(SettingError, match="sampling.merge_states must be off or auto .*'on'"):
        resolve_merging("on", gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize(
    "merge_states, env_id, merges",
    [
        ("on", "sesa/FrozenLake-v0", True),
        ("auto", "sesa/FrozenLake-v0", True),
        ("off", "sesa/FrozenLake-v0", False),
        ("auto", "CartPole-v1", False),
        ("off", "CartPole-v1", False),
    ],
)
def test_auto_merges_where_states_can_be_told_apart(merge_states, env_id, merges):
    assert resolve_merging(merge_states, make_env(env_id)) == merges
