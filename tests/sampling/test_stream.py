"""Trees that grow request by request are those of waves, whatever ends first.

What holds of every tree is tested in test_tree.py, for both.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import EngineError, SamplingParams
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.sampling import SAMPLERS
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task

from ..helpers.games import (
    RecordingEngine,
    StreamingEngine,
    answers,
    at_random,
    generator,
    line_dialogue,
    sokoban_dialogue,
)

PARAMS = SamplingParams()
TASKS = [Task("Test-v0", seed) for seed in range(3)]
PROPOSERS = ("history", "without_replacement", "independent")


def draw(name, dialogue, engine, **settings):
    cfg = SamplingConfig(name=name, **settings)
    return Player(engine, dialogue, PARAMS, generator(4)).run(SAMPLERS[name].sample, TASKS, cfg)


@pytest.mark.parametrize("proposer", PROPOSERS)
@pytest.mark.parametrize("merge_states", ["on", "off"])
def test_a_policy_without_chance_gives_the_trees_of_waves(proposer, merge_states):
    """With room for every proposal no width is drawn by lot either."""
    settings = {"num_proposals": 3, "max_trajectories": 100, "allocation": "early"}
    settings |= {"proposer": proposer, "merge_states": merge_states}
    choose = answers("Right", "Left", "Rest")
    streamed, waves = (
        draw("tree", line_dialogue(max_turns=3), engine, **settings)
        for engine in (StreamingEngine(choose), RecordingEngine(choose))
    )
    assert streamed == waves
    assert len(streamed[0]) > (3 if proposer == "history" else 0)


@pytest.mark.parametrize("name", ["tree", "parallel"])
@pytest.mark.parametrize("proposer", PROPOSERS)
@given(order=st.integers(0, 1000))
@settings(max_examples=8)  # each grows six trees of Sokoban
def test_what_is_drawn_does_not_depend_on_what_ends_first(name, proposer, order):
    widths = {"num_proposals": 3, "max_trajectories": 5, "proposer": proposer}
    choose = at_random("Up", "Down", "Left", "Right")
    engines = [StreamingEngine(choose, order=random.Random(seed)) for seed in (0, order)]
    first, other = (draw(name, sokoban_dialogue(), engine, **widths) for engine in engines)
    assert first == other
    for engine, trees in zip(engines, (first, other), strict=True):
        assert engine.usage.calls == sum(tree.num_calls for tree in trees)
        assert not engine.open


def test_no_tree_waits_for_another():
    """One tree's requests always take a hundred steps; the others are long done by then."""

    class Stuck(StreamingEngine):
        def step(self):
            self.num_open.append(len(self.open))
            slow = [name for name in self.open if is_slow[name]]
            fast = [name for name in self.open if not is_slow[name]]
            done = fast or (slow if len(self.num_open) > 100 else [])
            return [(name, self.open.pop(name)) for name in done]

        def submit(self, prompt, params, seed, excluded=()):
            name = super().submit(prompt, params, seed, excluded)
            is_slow[name] = not is_slow  # the very first request
            return name

    is_slow: dict[str, bool] = {}
    engine = Stuck(at_random("Left", "Right", nonsense=0))
    trees = draw("tree", line_dialogue(), engine, num_proposals=1, max_trajectories=1)
    assert len(engine.num_open) > 100
    assert engine.num_open[60:100] == [1] * 40  # only the slow one is left
    assert all(len(tree) for tree in trees)


def test_a_failing_engine_ends_the_rollout():
    class Failing(StreamingEngine):
        def step(self):
            raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        draw("tree", line_dialogue(), Failing(answers("Left")), num_proposals=2)
