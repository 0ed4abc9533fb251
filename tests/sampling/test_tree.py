from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.sampling.parallel import sample_parallel
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import ROOT, Task
from sesa_agent.sampling.tree import allocate_widths

from ..helpers.games import (
    CHAT,
    RecordingEngine,
    answers,
    at_random,
    generator,
    line_dialogue,
    sokoban_dialogue,
)
from ..helpers.grown import GAMES, PARAMS, WAYS, depths, grow, grown_trees, is_over

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


@given(grown_trees())
def test_trajectories_that_are_open_or_over_never_exceed_the_cap(grown):
    for tree in (g.tree for g in grown):
        spare = {node for children in tree.children().values() for node in unread(tree, children)}
        kept = [n for n, turn in enumerate(tree.turns) if not turn.is_merged and n not in spare]
        depth = depths(tree)
        for level in range(1, max(depth) + 1):
            over = sum(is_over(tree.turns[n]) and depth[n] <= level for n in kept)
            still_open = sum(not is_over(tree.turns[n]) and depth[n] == level for n in kept)
            assert over + still_open <= grown[0].settings["max_trajectories"]


def unread(tree, children):
    """Unreadable turns of a decision, without the one that goes on where there is no other."""
    nodes = [node for node in children if tree.turns[node].action is None]
    return nodes if len(nodes) < len(children) else nodes[1:]


@given(grown_trees(merge_states="off"))
def test_an_unreadable_turn_goes_on_only_if_its_decision_has_no_other(grown):
    for tree in (g.tree for g in grown):
        for parent, children in tree.children().items():
            for node in unread(tree, children):
                turn = tree.turns[node]
                assert node in tree.leaves()
                assert turn.merged_into == (None if is_over(turn) else parent)


@given(grown_trees())
def test_siblings_differ_in_their_action_and_share_their_prompt(grown):
    for tree in (g.tree for g in grown):
        for children in tree.children().values():
            turns = [tree.turns[child] for child in children]
            actions = [turn.action for turn in turns if turn.action is not None]
            assert len(set(actions)) == len(actions) <= grown[0].settings["num_proposals"]
            assert len(turns) - len(actions) <= grown[0].settings["num_proposals"]
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
            if is_over(turn) or turn.is_merged:
                assert node in leaves
            elif node in leaves:  # cut off by a success elsewhere
                assert g.settings["stop_on_success"] == "on" and tree.success


@given(grown_trees())
def test_every_response_is_a_turn_or_a_duplicate(grown):
    assert sum(len(g.tree) + g.tree.num_duplicates for g in grown) == grown[0].calls


@given(grown_trees())
def test_every_duplicate_is_kept_beside_the_proposal_that_it_repeats(grown):
    for tree in (g.tree for g in grown):
        assert len(tree.duplicates) == tree.num_duplicates
        children = tree.children()
        for said in tree.duplicates:
            earlier = [tree.turns[node].action for node in children[said.parent]]
            assert said.action in earlier[: said.num_earlier]


@given(grown_trees())
def test_a_turn_leads_to_what_its_children_see(grown):
    for tree in (g.tree for g in grown):
        for node, parent in enumerate(tree.parents):
            if parent != ROOT:
                assert tree.turns[parent].next_observation == tree.turns[node].observation


@given(grown_trees(games=("line", "sokoban", "lake"), merge_states="on"))
def test_with_merged_states_no_state_is_expanded_twice(grown):
    for g in grown:
        states = [g.state(ROOT)]
        for node, turn in enumerate(g.tree.turns):
            if not is_over(turn):
                state = g.state(node)
                assert turn.is_merged == (state in states)
                states.append(state)


@given(
    game=st.sampled_from(sorted(GAMES)),
    seeds=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    rng_seed=st.integers(0, 2**16),
    window=st.sampled_from([1, 5]),
)
def test_one_proposal_and_one_trajectory_are_a_plain_rollout(game, seeds, rng_seed, window):
    dialogue = GAMES[game](max_turns=5, window=window)
    choose = at_random("Left", "Right", "Up", "Down", "Jump")
    settings = {"num_proposals": 1, "max_trajectories": 1, "merge_states": "off"}
    grown, engine = grow(dialogue, choose, *seeds, rng_seed=rng_seed, **settings)
    tasks = [Task("Test-v0", seed) for seed in seeds]
    plain = RecordingEngine(choose)
    cfg = SamplingConfig(name="parallel", **settings)
    player = Player(plain, dialogue, PARAMS, generator(rng_seed))
    assert grown == player.run(sample_parallel, tasks, cfg)
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
    repeats = [node for node, turn in enumerate(tree.turns) if turn.is_merged]
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
        line_dialogue(window=4, max_turns=4),
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
