"""Samplers of other methods: they play on from earlier states, or play hard puzzles more often."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.sampling import SAMPLERS
from sesa_agent.sampling.arpo import branch_probability, entropy
from sesa_agent.sampling.dars import extra_rollouts
from sesa_agent.sampling.forking import ForkedTree
from sesa_agent.sampling.go_explore import Archive
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree
from sesa_agent.training.setup import resolve_auto

from ..helpers.games import (
    RecordingEngine,
    StreamingEngine,
    answers,
    at_random,
    generator,
    lake_dialogue,
    line_dialogue,
)
from ..helpers.grown import Grown, depths, grow
from ..helpers.runs import make_config, read_metrics, run
from ..helpers.strategies import make_turn

FORKING = ("tree_grpo", "tree_rl", "cure", "arpo", "go_explore", "dars", "dars_hw")
PRESETS = ("tree-grpo", "tree-rl", "spo-tree", "treepo", "cure", "arpo", "go-explore", "dars")
PARAMS = SamplingParams()


def sample(name, engine, *seeds, dialogue=None, size=8, rng_seed=0, **more):
    cfg = SamplingConfig(name=name, max_trajectories=size, num_proposals=1, **more)
    player = Player(engine, dialogue or line_dialogue(), PARAMS, generator(rng_seed))
    tasks = [Task("Test-v0", seed) for seed in seeds or (0,)]
    return player.run(SAMPLERS[name].sample, tasks, cfg)


def branchings(tree: TrajectoryTree) -> dict[int, int]:
    return {node: len(children) for node, children in tree.children().items() if len(children) > 1}


@pytest.mark.parametrize("name", FORKING)
@given(st.integers(1, 16), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_trees_are_whole_paid_for_and_replay(name, size, max_turns, is_streamed, seed):
    """Every response is a turn and a call; a branch goes on from the very state of its parent."""
    choose = at_random("Left", "Right", "Jump", "Rest")
    engine = StreamingEngine(choose) if is_streamed else RecordingEngine(choose)
    dialogue = line_dialogue(max_turns=max_turns)
    trees = sample(name, engine, 0, 1, dialogue=dialogue, size=size, rng_seed=seed)
    assert sum(tree.num_calls for tree in trees) == engine.usage.calls == sum(map(len, trees))
    for tree in trees:
        leaves = tree.leaves()
        most = {"dars": 4, "dars_hw": 8}.get(name, 1) * size
        assert size <= len(leaves) <= most if "dars" in name else len(leaves) == size
        assert all(tree.turns[leaf].terminated or tree.turns[leaf].truncated for leaf in leaves)
        assert max(depths(tree)) <= max_turns
        assert tree.num_env_steps == sum(turn.action is not None for turn in tree.turns)
        grown = Grown(tree, dialogue, {}, engine.usage.calls)
        turns = [tree.turns[node] for node in tree.path(leaves[-1])]
        told = [(t.observation, t.reward, t.terminated, t.success, t.legal) for t in turns]
        assert grown.replay(leaves[-1]) == told


@pytest.mark.parametrize("name", [name for name in FORKING if name != "arpo"])
def test_with_one_turn_they_are_independent_rollouts(name):
    """ARPO branches at no first turn, so it is too; DARS adds to what nobody solved."""
    engine = RecordingEngine(at_random("Left", "Right"))
    [tree] = sample(name, engine, dialogue=line_dialogue(max_turns=1), size=6)
    assert set(tree.parents) == {ROOT}
    assert len(tree) == 6 + (extra_rollouts(0, 6, name == "dars_hw") if "dars" in name else 0)


@pytest.mark.parametrize("name", FORKING)
def test_the_order_of_responses_does_not_matter(name):
    trees = []
    for order in range(3):
        engine = StreamingEngine(at_random("Left", "Right", "Rest"))
        engine.order.seed(order)
        trees.append(sample(name, engine, 0, 1, dialogue=line_dialogue(max_turns=4)))
    first = [tree.to_json() for tree in trees[0]]
    assert all([tree.to_json() for tree in others] == first for others in trees)


def test_tree_grpo_forks_where_a_trajectory_goes_on():
    """U = 9: three trees of three leaves, each forked at turns that are neither start nor leaf."""
    engine = RecordingEngine(answers("Rest"))
    [tree] = sample("tree_grpo", engine, dialogue=line_dialogue(max_turns=4), size=9)
    assert len(tree.children()[ROOT]) == 3
    firsts = Counter(tree.path(leaf)[0] for leaf in tree.leaves())
    assert list(firsts.values()) == [3, 3, 3]
    assert all(len(tree.path(node)) < 4 for node in branchings(tree) if node != ROOT)


def test_tree_rl_plays_the_least_likely_turns_again():
    """U = 5: one trajectory; the two turns that were least likely are played twice more each."""
    likely, unlikely = iter([0.9, 0.2, 0.8, 0.1, 0.7]), 0.5

    def choose(prompt, numbers):
        engine.probability = next(likely, unlikely)
        return "<answer>Rest</answer>"

    engine = RecordingEngine(choose)
    [tree] = sample("tree_rl", engine, dialogue=line_dialogue(max_turns=5), size=5)
    assert branchings(tree) == {0: 3, 2: 3}  # before turns 1 and 3, with .2 and .1
    assert len(tree.leaves()) == 5


def test_cure_plays_one_turn_of_each_trajectory_again():
    """U = 8: two trajectories; three more go on from before one turn of each."""
    engine = RecordingEngine(answers("Rest"))
    [tree] = sample("cure", engine, dialogue=line_dialogue(max_turns=5), size=8)
    firsts = Counter(tree.path(leaf)[0] for leaf in tree.leaves())
    forks = [count for node, count in branchings(tree).items() if node != ROOT]
    assert len(tree.leaves()) == 8 and set(forks) <= {4}
    assert len(firsts) == 2 + 3 * (2 - len(forks))  # a first turn may be the one


def test_arpo_branches_where_the_policy_is_less_sure():
    # At P = .5: 1 nat more adds .2, 5 nats more make it certain, 5 fewer exclude it.
    assert branch_probability(0.5, 0.5) == 0.5
    assert branch_probability(1.5, 0.5) == pytest.approx(0.7)
    assert (branch_probability(5.0, 0.0), branch_probability(0.0, 5.0)) == (1.0, 0.0)
    logprobs = (-1.0,) * 20 + (-9.0,) * 5  # the first 20 tokens count
    turn = make_turn(response_ids=(7,) * 25, sampling_logprobs=logprobs)
    assert entropy(turn) == 1.0


def test_arpo_starts_with_half_and_fills_up_to_the_cap():
    engine = RecordingEngine(answers("Rest"))
    [tree] = sample("arpo", engine, dialogue=line_dialogue(max_turns=6), size=16)
    assert len(tree.leaves()) == 16
    assert len(tree.children()[ROOT]) >= 8
    assert branchings(tree).keys() - {ROOT}


def forked(*moves_of_trajectories):
    """A tree of the line game in which these moves were played, and its archive."""
    dialogue = line_dialogue(max_turns=9)
    tree = TrajectoryTree(Task("Test-v0", 0))
    grown = ForkedTree(tree, dialogue.start(tree.task))
    archive = Archive(grown)
    for moves in moves_of_trajectories:
        node, position = ROOT, grown.start
        for move in moves:
            completion = RecordingEngine(answers(move)).generate([position.prompt_ids], PARAMS)[0]
            turn, position = dialogue.play(position, completion)
            node = tree.add(node, turn)
            grown.after[node] = position
            archive.reach(node)
    return archive


def test_the_archive_by_hand():
    """Start 3. Left Right: 2, 3. Right Right: 4, 5. Jump: 5, a shorter way; the next one wins."""
    archive = forked(["Left", "Right"], ["Right", "Right"], ["Jump", "Jump"])
    assert archive.counts == {3: 1, 2: 1, 4: 1, 5: 2}
    assert archive.turns == {3: ROOT, 2: 0, 4: 2, 5: 4}  # 5 was first reached by turn 3
    weights = np.array([1 / math.sqrt(2)] * 3 + [1 / math.sqrt(3)])
    assert archive.weights() == pytest.approx(weights / weights.sum())
    chosen = Counter(archive.choose(4000, generator()))
    assert set(chosen) == {ROOT, 0, 2, 4} and chosen[4] < min(chosen[ROOT], chosen[0], chosen[2])


@pytest.mark.parametrize(("move", "branching"), [("Rest", {ROOT}), ("Left", {ROOT, 0, 1})])
def test_go_explore_returns_to_states_alone(move, branching):
    """Rest leads nowhere new, so all starts are the first; Left passes 2 and 1 before the pit."""
    engine = RecordingEngine(answers(move))
    [tree] = sample("go_explore", engine, dialogue=line_dialogue(max_turns=4), size=16)
    assert len(tree.leaves()) == 16
    assert set(branchings(tree)) <= branching and ROOT in branchings(tree)


@pytest.mark.parametrize(
    ("num_wins", "equal", "hard"),
    # S(a) = 2 sqrt(a (1 - a)): .484 at 1/16, .661 at 1/8, .866 at 2/8, .968 at 3/8.
    # 8 / .484 - 8 = 8.5; 8 / .661 - 8 = 4.1; 1.24; .26. Hard: 8 * 1.875 / .484 - 8 = 22.98, ...
    [(0, 9, 23), (1, 5, 14), (2, 2, 6), (3, 1, 3), (4, 0, 0), (8, 0, 0)],
)
def test_extra_rollouts_of_dars_by_hand(num_wins, equal, hard):
    assert extra_rollouts(num_wins, 8) == equal
    assert extra_rollouts(num_wins, 8, weighs_hard=True) == hard


@given(st.integers(1, 64), st.booleans())
def test_dars_makes_the_advantages_of_hard_groups_add_up_to_those_of_medium_ones(num, hard):
    for num_wins in range(num // 2):
        total = num + extra_rollouts(num_wins, num, hard)
        rate = max(num_wins, 0.5) / num
        size = 2 * math.sqrt(rate * (1 - rate))
        wanted = num * (2 * (1 - rate) if hard else 1)
        most = (8 if hard else 4) * num
        assert total == most or wanted - 1e-6 <= total * size < wanted + size + 1e-6


def test_dars_plays_on_where_nobody_won():
    engine = RecordingEngine(lambda prompt, _: "<answer>Left</answer>")
    [tree] = sample("dars", engine, size=8)
    assert len(tree.leaves()) == 17
    engine = RecordingEngine(lambda prompt, _: "<answer>Jump</answer>")
    [tree] = sample("dars", engine, size=8)
    assert len(tree.leaves()) == 8


@given(st.integers(1, 4), st.integers(0, 50))
def test_with_replacement_every_duplicate_is_played(num_proposals, seed):
    choose = at_random("Left", "Right", "Rest", nonsense=0.0)
    [tree], engine = grow(
        line_dialogue(max_turns=4),
        choose,
        rng_seed=seed,
        num_proposals=num_proposals,
        max_trajectories=6 + num_proposals,
        proposer="with_replacement",
        merge_states="off",
        stop_on_success="off",
    )
    assert len(tree) == tree.num_calls == engine.usage.calls and tree.num_duplicates == 0
    assert len(tree.children()[ROOT]) == num_proposals


def test_children_with_replacement_may_be_alike():
    [tree], _ = grow(
        line_dialogue(max_turns=2),
        answers("Rest"),
        num_proposals=3,
        max_trajectories=9,
        proposer="with_replacement",
        merge_states="off",
    )
    assert [len(children) for children in tree.children().values()] == [3, 3, 3, 3]


def test_independent_noise_makes_forks_slip_apart():
    paths = {}
    for noise in ("shared", "independent"):
        engine = RecordingEngine(lambda prompt, _: "<answer>Right</answer>")
        dialogue = lake_dialogue(slippery=True, max_turns=4)
        trees = sample("tree_grpo", engine, 0, 1, 2, dialogue=dialogue, fork_noise=noise)
        paths[noise] = [
            {tuple(t.observation for t in one.turns) for one in tree.trajectories()}
            for tree in trees
        ]
    assert all(len(walks) == 1 for walks in paths["shared"])
    assert any(len(walks) > 1 for walks in paths["independent"])


def test_go_explore_needs_a_state_key():
    with pytest.raises(
        SettingError, match=r"sampling.name must be another sampler in .* state_key"
    ):
        resolve_auto(load_config("CartPole-v1", "go-explore", ["env.success=truncated"]))


@pytest.mark.parametrize("method", PRESETS)
def test_two_steps_run_with_every_preset(llama, tmp_path, method):
    words = ("sampling.num_tasks=4", "sampling.max_trajectories=6", "sampling.max_redraws=0")
    words += ("loss.overlong_buffer=0",)
    run(make_config(llama, *words, "optim.lr=0.01", method=method), tmp_path)
    lines = read_metrics(tmp_path)
    assert len(lines) == 2 and max(line["train/tokens"] for line in lines) > 0
