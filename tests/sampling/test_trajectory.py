import json
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
from hypothesis import given

from sesa_agent.sampling.trajectory import ROOT, DuplicateProposal, Trajectory, TrajectoryTree

from ..helpers.strategies import TASK, make_tree, make_turn, trees


def small_tree():
    """Start -> 0 -> {1, 2}, start -> 3; turn 2 wins."""
    turns = [
        make_turn(reward=0.5),
        make_turn(terminated=True, response_ids=(7, 8)),
        make_turn(reward=1.0, terminated=True, success=True),
        make_turn(truncated=True, action=None, legal=False),
    ]
    return make_tree([ROOT, 0, 0, ROOT], turns)


def test_leaves_paths_and_children_follow_the_parents():
    tree = small_tree()
    assert tree.leaves() == [1, 2, 3]
    assert tree.children() == {ROOT: [0, 3], 0: [1, 2]}
    assert [tree.path(node) for node in range(4)] == [[0], [0, 1], [0, 2], [3]]
    assert tree.path(ROOT) == []


def test_a_trajectory_adds_up_its_turns():
    lost, won, cut = small_tree().trajectories()
    assert [t.episode_return for t in (lost, won, cut)] == [0.5, 1.5, 0.0]
    assert [t.success for t in (lost, won, cut)] == [False, True, False]
    assert [t.num_response_tokens for t in (lost, won, cut)] == [3, 2, 1]


def test_a_tree_succeeds_if_any_trajectory_does():
    assert small_tree().success
    assert not make_tree([ROOT]).success
    assert not make_tree([]).success


def test_adding_a_turn_returns_its_number():
    tree = make_tree([])
    assert tree.add(ROOT, make_turn()) == 0
    assert tree.add(0, make_turn()) == 1
    assert (len(tree), tree.parents) == (2, [ROOT, 0])


@given(trees())
def test_trajectories_cover_every_turn_and_end_in_different_leaves(tree):
    paths = [tree.path(leaf) for leaf in tree.leaves()]
    assert {node for path in paths for node in path} == set(range(len(tree)))
    assert len({path[-1] for path in paths}) == len(paths)
    for path in paths:
        assert [tree.parents[node] for node in path] == [ROOT, *path[:-1]]
        assert tree.trajectory(path[-1]) == Trajectory(TASK, tuple(tree.turns[n] for n in path))


@given(trees())
def test_a_tree_comes_back_from_json_as_it_was(tree):
    tree = replace(tree, num_calls=7, num_duplicates=2)
    assert TrajectoryTree.from_json(json.loads(json.dumps(tree.to_json()))) == tree


def test_what_turns_share_is_written_once():
    turns = [
        make_turn(observation="a", next_observation="b", prompt_ids=(1, 2)),
        make_turn(observation="b", next_observation="c", prompt_ids=(3,)),
        make_turn(observation="b", next_observation="d", prompt_ids=(3,), proposal_index=1),
    ]
    tree = make_tree([ROOT, 0, 0], turns)
    tree.duplicates.append(DuplicateProposal(0, 2, (7,), (-0.5,), "up", "up", plain_logprob=-1.5))
    written = tree.to_json()
    assert "next_observation" not in written["turns"][0]
    assert [turn.get("prompt_ids") for turn in written["turns"]] == [(1, 2), (3,), None]
    assert TrajectoryTree.from_json(json.loads(json.dumps(written))) == tree


def test_trees_that_an_older_version_wrote_can_be_read():
    """They lack duplicates or call them repeats, and tell a result by the child's observation."""
    tree = make_tree([ROOT, 0], [make_turn(observation="a"), make_turn(observation="b")])
    old = asdict(tree)
    del old["duplicates"]
    for turn in old["turns"]:
        del turn["next_observation"], turn["plain_logprob"]
    read = TrajectoryTree.from_json(json.loads(json.dumps(old)))
    assert [turn.next_observation for turn in read.turns] == ["b", ""]
    assert (read.duplicates, read.turns[0].plain_logprob) == ([], None)
    dropped = DuplicateProposal(0, 2, (7,), (-0.5,), "up", "up")
    old["repeats"] = [asdict(dropped)]
    assert TrajectoryTree.from_json(json.loads(json.dumps(old))).duplicates == [dropped]


def test_a_turn_is_frozen():
    with pytest.raises(FrozenInstanceError, match="reward"):
        make_turn().reward = 1.0  # pyright: ignore[reportAttributeAccessIssue]
