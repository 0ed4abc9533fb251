"""An environment that fails ends its own trajectories; all others go on."""

import re

import pytest

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.parallel import sample_parallel
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import ROOT, Task
from sesa_agent.sampling.tree import grow_trees
from sesa_agent.sampling.two_stage import sample_two_stage
from tests.helpers.bad_games import ENV_ID, FAULTS

from ..helpers.games import CHAT, RecordingEngine, StreamingEngine, at_random, generator

SAMPLERS = {
    "tree": (grow_trees, RecordingEngine),
    "parallel": (sample_parallel, RecordingEngine),
    "stream tree": (grow_trees, StreamingEngine),
    "stream parallel": (sample_parallel, StreamingEngine),
}


def draw(sampler, fault, noisy=False, **settings):
    def make():
        return make_env(ENV_ID, step_timeout=0.2, fault=fault, noisy=noisy)

    cfg = SamplingConfig(num_proposals=3, max_trajectories=6, **settings)
    sample, engine_class = SAMPLERS[sampler]
    engine = engine_class(at_random("Left", "Right", "Jump", nonsense=0.0))
    tasks = [Task(ENV_ID, seed) for seed in range(4)]
    dialogue = Dialogue(make, CHAT, max_turns=4)
    params = SamplingParams(temperature=1.0, max_new_tokens=8)
    return Player(engine, dialogue, params, generator(1)).run(sample, tasks, cfg)


CASES = [(name, fault) for name in SAMPLERS for fault in ("raise", "nan", "key", "read")]


@pytest.mark.parametrize(("sampler", "fault"), [*CASES, ("tree", "hang")])
def test_a_fault_ends_its_own_trajectory(sampler, fault):
    trees = draw(sampler, fault)
    turns = [turn for tree in trees for turn in tree.turns]
    assert any(turn.error for turn in turns) and any(turn.success for turn in turns)
    for turn in turns:
        assert bool(turn.error) == ("Left" in turn.response)
        if turn.error:
            assert re.fullmatch(FAULTS[fault] + ".*", turn.error)
            assert turn.truncated and not turn.terminated and not turn.success
            assert turn.reward == 0.0 and turn.merged_into is None
    inner = [tree.turns[node] for tree in trees for node in tree.parents if node != ROOT]
    assert inner and not any(turn.error for turn in inner)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_environment_that_cannot_be_forked_ends_every_trajectory_at_once(sampler):
    for tree in draw(sampler, "fork"):
        assert tree.turns
        assert all(re.match(FAULTS["fork"], turn.error) for turn in tree.turns)
        assert len(tree.leaves()) == len(tree.turns)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_puzzle_that_does_not_open_leaves_the_others_alone(sampler):
    trees = draw(sampler, "odd_seeds")
    assert [len(tree) > 0 for tree in trees] == [True, False, True, False]
    assert "no such level" in trees[1].error and trees[1].num_calls == 0
    assert [len(tree.env_errors) for tree in trees] == [0, 1, 0, 1]


def test_several_failures_of_one_proposal_are_one_outcome():
    trees = draw("tree", "raise", noisy=True, noise_draws=3)
    failed = [turn for tree in trees for turn in tree.turns if turn.error]
    assert failed and all(turn.num_draws == 3 and turn.truncated for turn in failed)


def test_two_stage_sampling_leaves_out_puzzles_that_do_not_open():
    engine = StreamingEngine(at_random("Right", "Left", nonsense=0.0))
    dialogue = Dialogue(lambda: make_env(ENV_ID, fault="odd_seeds"), CHAT, max_turns=1)
    cfg = SamplingConfig(name="two_stage", num_proposals=2)
    params = SamplingParams(temperature=1.0, max_new_tokens=8)
    tasks = [Task(ENV_ID, seed) for seed in range(2)]
    trees = Player(engine, dialogue, params, generator()).run(sample_two_stage, tasks, cfg)
    assert [len(tree) > 0 for tree in trees] == [True, False]
