"""Trees grown without a model, and a strategy that grows them at random."""

from dataclasses import dataclass

from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments import state_key
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task, TrajectoryTree
from sesa_agent.sampling.tree import grow_trees

from .games import (
    RecordingEngine,
    StreamingEngine,
    at_random,
    generator,
    lake_dialogue,
    line_dialogue,
    sokoban_dialogue,
)

PARAMS = SamplingParams()
WAYS = ("Up", "Down", "Left", "Right")
GAMES = {
    "line": line_dialogue,
    "sokoban": sokoban_dialogue,
    "lake": lambda **options: lake_dialogue(slippery=False, **options),
    "slippery lake": lambda **options: lake_dialogue(slippery=True, **options),
}


def grow(dialogue, choose, *seeds, rng_seed=0, is_streamed=False, **settings):
    cfg = SamplingConfig(**settings)
    tasks = [Task("Test-v0", seed) for seed in seeds or (0,)]
    engine = StreamingEngine(choose) if is_streamed else RecordingEngine(choose)
    player = Player(engine, dialogue, PARAMS, generator(rng_seed))
    return player.run(grow_trees, tasks, cfg), engine


def depths(tree: TrajectoryTree) -> list[int]:
    return [len(tree.path(node)) for node in range(len(tree))]


def is_over(turn) -> bool:
    return turn.terminated or turn.truncated


@dataclass(frozen=True)
class Grown:
    """A tree, its settings, and replays of its turns in a fresh environment."""

    tree: TrajectoryTree
    dialogue: Dialogue
    settings: dict
    calls: int

    def replay(self, node: int) -> list[tuple]:
        """What a fresh environment returns for the actions on the path to a turn."""
        env = self.dialogue.make()
        observation, _ = env.reset(seed=self.tree.task.seed)
        told = []
        for turn in (self.tree.turns[n] for n in self.tree.path(node)):
            before = observation
            reward, terminated, success, legal = 0.0, False, False, turn.action is not None
            if turn.action is not None:
                observation, reward, terminated, _, info = env.step(turn.action)
                success, legal = info["success"], info["legal"]
            told.append((before, float(reward), terminated, success, legal))
        return told

    def state(self, node: int):
        env = self.dialogue.make()
        env.reset(seed=self.tree.task.seed)
        for n in self.tree.path(node):
            action = self.tree.turns[n].action
            if action is not None:
                env.step(action)
        return state_key(env)


@st.composite
def grown_trees(draw, games=tuple(GAMES), **fixed):
    num_proposals = draw(st.integers(1, 4))
    game = draw(st.sampled_from(games))
    settings = {
        "num_proposals": num_proposals,
        "max_trajectories": draw(st.integers(num_proposals, 10)),
        "proposer": draw(
            st.sampled_from(["history", "one_response", "without_replacement", "independent"])
        ),
        "allocation": draw(st.sampled_from(["early", "even"])),
        "max_retries": draw(st.integers(0, 2)),
        "merge_states": "off"
        if game == "slippery lake"
        else draw(st.sampled_from(["auto", "off"])),
        "stop_on_success": draw(st.sampled_from(["on", "off"])),
    } | fixed
    max_turns = draw(st.integers(1, 6))
    window = draw(st.sampled_from([1, 2, max_turns]))
    dialogue = GAMES[game](max_turns=max_turns, window=window)
    moves = ("Left", "Right", "Jump", "Rest") if game == "line" else WAYS
    seeds = draw(st.lists(st.integers(0, 3), min_size=1, max_size=2))
    how = {"rng_seed": draw(st.integers(0, 2**16)), "is_streamed": draw(st.booleans())}
    trees, engine = grow(dialogue, at_random(*moves), *seeds, **how, **settings)
    assert sum(tree.num_calls for tree in trees) == engine.usage.calls
    return [Grown(tree, dialogue, settings, engine.usage.calls) for tree in trees]
