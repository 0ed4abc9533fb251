from collections import Counter
from dataclasses import dataclass

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engine import SamplingParams
from sesa_agent.configs.schema import SamplingConfig, SettingError
from sesa_agent.environments import make_env, state_key
from sesa_agent.sampling import choose_sampler
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.parallel import sample_parallel
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree
from sesa_agent.sampling.tree import allocate_widths, resolve_merging

from .games import (
    CHAT,
    RecordingEngine,
    StreamingEngine,
    answers,
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
    trees = choose_sampler("tree", engine)(
        tasks, engine, dialogue, cfg, PARAMS, generator(rng_seed)
    )
    return trees, engine


def depths(tree: TrajectoryTree) -> list[int]:
    return [len(tree.path(node)) for node in range(len(tree))]


def is_over(turn) -> bool:
    return turn.terminated or turn.truncated


# ---- widths ----


@given(st.data())
def test_widths_are_even_and_keep_to_the_cap(data):
    num_open, num_finished = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 20))
    num_proposals = data.draw(st.integers(1, 6))
    cap = num_open + num_finished + data.draw(st.integers(0, 60))
    widths = allocate_widths(num_open, num_finished, num_proposals, cap)
    assert len(widths) == num_open
    assert all(1 <= width <= num_proposals for width in widths)
    assert max(widths) - min(widths) <= 1
    total = sum(widths)
    assert total + num_finished <= cap
    assert total == num_open * num_proposals or total + num_finished == cap  # nothing is wasted


def test_no_open_node_needs_no_width():
    assert allocate_widths(num_open=0, num_finished=3, num_proposals=4, max_trajectories=8) == []


# ---- what holds of every tree ----


@dataclass(frozen=True)
class Grown:
    """A tree, how it was grown, and the environment after each of its turns, played anew."""

    tree: TrajectoryTree
    dialogue: Dialogue
    settings: dict
    calls: int

    def replay(self, node: int) -> list[tuple]:
        """What a fresh environment says to the actions on the way to a turn."""
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
    context = draw(st.sampled_from(["state", "window", "full"]))
    max_turns = draw(st.integers(1, 6))
    dialogue = GAMES[game](max_turns=max_turns, context=context, window=2)
    moves = ("Left", "Right", "Jump", "Rest") if game == "line" else WAYS
    seeds = draw(st.lists(st.integers(0, 3), min_size=1, max_size=2))
    how = {"rng_seed": draw(st.integers(0, 2**16)), "is_streamed": draw(st.booleans())}
    trees, engine = grow(dialogue, at_random(*moves), *seeds, **how, **settings)
    assert sum(tree.num_calls for tree in trees) == engine.usage.calls
    return [Grown(tree, dialogue, settings, engine.usage.calls) for tree in trees]


@given(grown_trees())
def test_trajectories_that_are_open_or_over_never_exceed_the_cap(grown):
    for tree in (g.tree for g in grown):
        kept = [node for node, turn in enumerate(tree.turns) if not turn.is_repeat]
        depth = depths(tree)
        for level in range(1, max(depth) + 1):
            over = sum(is_over(tree.turns[n]) and depth[n] <= level for n in kept)
            still_open = sum(not is_over(tree.turns[n]) and depth[n] == level for n in kept)
            assert over + still_open <= grown[0].settings["max_trajectories"]


@given(grown_trees())
def test_siblings_differ_in_their_action_and_share_their_prompt(grown):
    for tree in (g.tree for g in grown):
        for children in tree.children().values():
            turns = [tree.turns[child] for child in children]
            assert len(turns) <= grown[0].settings["num_proposals"]
            assert len({turn.action for turn in turns}) == len(turns)
            assert len({turn.prompt_ids for turn in turns}) == 1
            indices = [turn.proposal_index for turn in turns]
            first = indices[0]  # 1 if they were asked for as a list of several
            assert first == 0 or grown[0].settings["proposer"] == "one_response"
            assert first <= 1
            assert indices == list(range(first, first + len(turns)))


@given(grown_trees(fork_noise="shared"))
def test_every_trajectory_replays_in_a_fresh_environment(grown):
    for g in grown:
        for leaf in g.tree.leaves():
            trajectory = g.tree.trajectory(leaf)
            told = [
                (t.observation, t.reward, t.terminated, t.success, t.legal)
                for t in trajectory.turns
            ]
            assert told == g.replay(leaf)
            assert trajectory.episode_return == sum(reward for _, reward, *_ in told)


@given(grown_trees())
def test_parents_come_first_and_only_leaves_are_over(grown):
    for g in grown:
        tree = g.tree
        assert all(parent < node for node, parent in enumerate(tree.parents))
        assert max(depths(tree)) <= g.dialogue.max_turns
        leaves = set(tree.leaves())
        for node, turn in enumerate(tree.turns):
            assert not (turn.terminated and turn.truncated)
            if is_over(turn) or turn.is_repeat:
                assert node in leaves
            elif node in leaves:  # cut off by a success elsewhere
                assert g.settings["stop_on_success"] == "on" and tree.success


@given(grown_trees())
def test_every_response_is_a_turn_or_a_duplicate(grown):
    assert sum(len(g.tree) + g.tree.num_duplicates for g in grown) == grown[0].calls


@given(grown_trees(games=("line", "sokoban", "lake"), merge_states="on"))
def test_with_merged_states_no_state_is_expanded_twice(grown):
    for g in grown:
        states = [g.state(ROOT)]
        for node, turn in enumerate(g.tree.turns):
            if not is_over(turn):
                state = g.state(node)
                assert turn.is_repeat == (state in states)
                states.append(state)


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
            proposals[layer] += len({g.tree.turns[child].proposal_index for child in children})
        cap = g.settings["max_trajectories"]
        assert max(nodes.values()) <= cap and max(proposals.values()) <= cap


@given(
    game=st.sampled_from(sorted(GAMES)),
    seeds=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    rng_seed=st.integers(0, 2**16),
    context=st.sampled_from(["state", "full"]),
)
def test_one_proposal_and_one_trajectory_are_a_plain_rollout(game, seeds, rng_seed, context):
    dialogue = GAMES[game](max_turns=5, context=context)
    choose = at_random("Left", "Right", "Up", "Down", "Jump")
    settings = {"num_proposals": 1, "max_trajectories": 1, "merge_states": "off"}
    grown, engine = grow(dialogue, choose, *seeds, rng_seed=rng_seed, **settings)
    tasks = [Task("Test-v0", seed) for seed in seeds]
    plain = RecordingEngine(choose)
    cfg = SamplingConfig(name="parallel", **settings)
    assert grown == sample_parallel(tasks, plain, dialogue, cfg, PARAMS, generator(rng_seed))
    assert [c.prompts for c in engine.calls] == [c.prompts for c in plain.calls]


# ---- small trees by hand ----


def test_a_tree_by_hand():
    """From 3 the line goes to 2, 4 and 5; with U = 4 one of them gets two children."""
    [tree], engine = grow(
        line_dialogue(max_turns=2),
        answers("Left", "Right", "Jump"),
        num_proposals=3,
        max_trajectories=4,
        merge_states="off",
    )
    assert tree.parents[:3] == [ROOT] * 3
    assert sorted(Counter(tree.parents[3:]).values()) == [1, 1, 2]
    assert [turn.action for turn in tree.turns[:3]] == ["Left", "Right", "Jump"]
    assert all(turn.truncated for turn in tree.turns[3:])
    assert (tree.num_calls, tree.num_duplicates) == (7, 0)
    # Three proposals one after another, then the second turn of all three nodes together.
    assert [len(call.prompts) for call in engine.calls] == [1, 1, 1, 3, 1]


def test_a_repeated_state_is_a_leaf_that_costs_nothing_more():
    """3 -> {2, 4, 5}; then U = 3 leaves one child each: 2 -> 1, and 4 -> 3, 5 -> 4 are repeats.
    So 1 has the whole cap for itself: 1 -> {0 (lost), 2, 3}, the last two repeats again."""
    [tree], engine = grow(
        line_dialogue(),
        answers("Left", "Right", "Jump"),
        num_proposals=3,
        max_trajectories=3,
        merge_states="on",
    )
    assert tree.parents == [ROOT, ROOT, ROOT, 0, 1, 2, 3, 3, 3]
    repeats = [node for node, turn in enumerate(tree.turns) if turn.is_repeat]
    assert repeats == [4, 5, 7, 8]
    assert [node for node, turn in enumerate(tree.turns) if turn.terminated] == [6]
    assert tree.num_calls == engine.usage.calls == 9


@pytest.mark.parametrize(
    "stop_on_success, deterministic, num_levels",
    [("on", True, 2), ("off", True, 4), ("auto", True, 2), ("auto", False, 4), ("on", False, 2)],
)
def test_growth_stops_at_the_turn_that_wins(stop_on_success, deterministic, num_levels):
    [tree], _ = grow(
        line_dialogue(max_turns=4, deterministic=deterministic),
        answers("Jump", "Rest"),
        num_proposals=2,
        max_trajectories=8,
        merge_states="off",
        stop_on_success=stop_on_success,
    )
    assert max(depths(tree)) == num_levels
    # The turn that wins is played for every open node: 3 -> {5, 3} -> {6, 5, 5, 3}.
    assert [turn.success for turn in tree.turns[:6]] == [False, False, True, False, False, False]


@pytest.mark.parametrize("allocation, num_nodes", [("early", [4, 8, 8, 8]), ("even", [2, 4, 6, 8])])
def test_allocation_says_how_soon_the_cap_is_spent(allocation, num_nodes):
    [tree], _ = grow(
        sokoban_dialogue(max_turns=6),
        answers(*WAYS),
        num_proposals=4,
        max_trajectories=8,
        merge_states="off",
        allocation=allocation,
    )
    levels = Counter(depths(tree))
    assert [levels[level] for level in (1, 2, 3, 4)] == num_nodes


def test_trees_of_several_tasks_are_grown_in_the_same_calls():
    settings = {"num_proposals": 2, "max_trajectories": 2, "merge_states": "off"}
    dialogue = sokoban_dialogue(max_turns=3)
    trees, engine = grow(dialogue, answers(*WAYS), 0, 1, 2, **settings)
    assert [tree.task.seed for tree in trees] == [0, 1, 2]
    assert [len(call.prompts) for call in engine.calls] == [3, 3, 6, 6]
    for tree in trees:  # this player rolls no dice, so company does not matter
        assert grow(dialogue, answers(*WAYS), tree.task.seed, **settings)[0] == [tree]


# ---- prompts ----


def test_in_context_full_a_child_continues_its_parents_tokens():
    [tree], _ = grow(
        line_dialogue(context="full", max_turns=4),
        at_random("Left", "Right"),
        num_proposals=2,
        max_trajectories=6,
        merge_states="off",
    )
    inner = [node for node, parent in enumerate(tree.parents) if parent != ROOT]
    assert inner
    for node in inner:
        above = tree.turns[tree.parents[node]]
        tokens = above.prompt_ids + above.response_ids
        assert tree.turns[node].prompt_ids[: len(tokens)] == tokens


@pytest.mark.parametrize("proposer", ["history", "without_replacement"])
def test_every_node_is_first_asked_plainly(proposer):
    [tree], engine = grow(
        line_dialogue(max_turns=3),
        at_random("Left", "Right", "Jump", nonsense=0.0),
        num_proposals=3,
        max_trajectories=8,
        merge_states="off",
        proposer=proposer,
        max_retries=0,
    )
    first = Counter(turn.prompt_ids for turn in tree.turns if turn.proposal_index == 0)
    assert first <= Counter(prompt for call in engine.calls for prompt in call.prompts)
    texts = [text for call in engine.calls for text in call.texts]
    num_plain = sum("Already proposed" not in text for text in texts)
    assert num_plain == (first.total() if proposer == "history" else len(texts))


def test_in_a_list_every_node_is_asked_for_its_own():
    [tree], engine = grow(
        line_dialogue(max_turns=2),
        at_random("Left", "Right", "Jump", nonsense=0.0),
        num_proposals=2,
        max_trajectories=4,
        merge_states="off",
        proposer="one_response",
    )
    texts = [text for call in engine.calls for text in call.texts]
    assert all("Give 2 different answers, one after another." in text for text in texts)
    assert not any("Give" in CHAT.tokenizer.decode(turn.prompt_ids) for turn in tree.turns)


def test_prompts_that_left_something_out_are_counted():
    """Room for one earlier proposal: the third and the fourth are not told of all."""
    dialogue = line_dialogue(max_turns=1)
    start = dialogue.start(Task("Test-v0", 0))
    limit = len(dialogue.proposal_prompt(start, ["Right"]).prompt_ids)
    moves = iter(("Left", "Right", "Jump", "Rest"))
    [tree], engine = grow(
        line_dialogue(max_turns=1, max_prompt_tokens=limit),
        lambda *_: f"<answer>{next(moves)}</answer>",
        num_proposals=4,
    )
    assert tree.num_cut_prompts == 2
    assert all(len(prompt) <= limit for call in engine.calls for prompt in call.prompts)


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
