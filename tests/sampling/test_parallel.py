import pytest

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.sampling.parallel import sample_parallel
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import ROOT, Task

from ..helpers.games import (
    TOKENIZER,
    RecordingEngine,
    at_random,
    generator,
    lake_dialogue,
    line_dialogue,
)

PARAMS = SamplingParams()


def sample(dialogue, engine, *seeds, size=4, fork_noise="shared"):
    cfg = SamplingConfig(
        name="parallel", max_trajectories=size, num_proposals=1, fork_noise=fork_noise
    )
    tasks = [Task("Test-v0", seed) for seed in seeds or (0,)]
    return Player(engine, dialogue, PARAMS, generator()).run(sample_parallel, tasks, cfg)


def test_a_group_branches_at_its_start_only():
    engine = RecordingEngine(at_random("Left", "Right"))
    [tree] = sample(line_dialogue(max_turns=5), engine, size=6)
    children = tree.children()
    assert len(children.pop(ROOT)) == len(tree.leaves()) == 6
    assert all(len(nodes) == 1 for nodes in children.values())
    assert {turn.proposal_index for turn in tree.turns} == {0}


def test_every_response_is_a_turn():
    engine = RecordingEngine(at_random("Left", "Right"))
    trees = sample(line_dialogue(max_turns=5), engine, 0, 1, 2)
    assert [tree.num_calls for tree in trees] == [len(tree) for tree in trees]
    assert engine.usage.calls == sum(map(len, trees))
    assert [tree.num_duplicates for tree in trees] == [0, 0, 0]


def test_the_members_of_a_group_play_games_of_their_own():
    """Two members: one wins in two turns, the other is lost in three."""
    replies = ["Jump", "Left", "Jump", "Left", "Left"]
    engine = ScriptedEngine(TOKENIZER, [f"<answer>{reply}</answer>" for reply in replies])
    [tree] = sample(line_dialogue(), engine, size=2)
    won, lost = tree.trajectories()
    assert [turn.action for turn in won.turns] == ["Jump", "Jump"]
    assert [turn.action for turn in lost.turns] == ["Left", "Left", "Left"]
    assert (won.episode_return, lost.episode_return) == (1.0, -1.0)
    assert (won.success, lost.success) == (True, False)


def test_episodes_end_at_the_last_turn():
    engine = RecordingEngine(lambda *_: "hm")
    [tree] = sample(line_dialogue(max_turns=3), engine, size=2)
    trajectories = list(tree.trajectories())
    assert len(trajectories) == 2
    for trajectory in trajectories:
        assert [turn.truncated for turn in trajectory.turns] == [False, False, True]
        assert [turn.action for turn in trajectory.turns] == [None] * 3


def walks(tree):
    """Where each member of a group was, by the member's first turn."""
    return {
        tree.path(leaf)[0]: tuple(turn.observation for turn in tree.trajectory(leaf).turns)
        for leaf in tree.leaves()
    }


@pytest.mark.parametrize("fork_noise", ["shared", "independent"])
def test_shared_noise_gives_a_group_one_sequence_of_slips(fork_noise):
    engine = ScriptedEngine(TOKENIZER, lambda _: "<answer>Right</answer>")
    dialogue = lake_dialogue(slippery=True, max_turns=6)
    trees = sample(dialogue, engine, *range(6), fork_noise=fork_noise)
    all_alike = all(len(set(walks(tree).values())) == 1 for tree in trees)
    assert all_alike == (fork_noise == "shared")
    shared = sample(dialogue, engine, *range(6), fork_noise="shared")
    assert [walks(tree)[0] for tree in trees] == [walks(tree)[0] for tree in shared]
