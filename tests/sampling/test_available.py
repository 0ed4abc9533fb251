"""Available actions in the prompts of a dialogue, and as the choice that proposals differ over."""

import sys

import pytest

from sesa_agent.agents.engines.base import Completion, SamplingParams
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task, TrajectoryTree
from sesa_agent.sampling.tree import grow_trees

from ..helpers.games import CHAT, TOKENIZER, RecordingEngine, generator, in_order
from ..helpers.plugins import ADVENTURE, DIALOGUE_GAME, FOLDER
from ..helpers.toy_game import TAXI


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    assert "adventure" not in sys.modules or sys.modules["adventure"].__file__


def dialogue_of(env_id, **options) -> Dialogue:
    return Dialogue(lambda: make_env(env_id), CHAT, **options)


def answer(text):
    return Completion(f"<answer>{text}</answer>", (1,), (-0.5,), "stop")


def test_each_state_shows_its_own_actions():
    dialogue = dialogue_of(ADVENTURE, window=10)
    start = dialogue.start(Task(ADVENTURE, 0))
    line = "You are in the hall.\nActions now: go north; go down\nYou have 8 actions left."
    assert line in TOKENIZER.decode(start.prompt_ids)
    turn, after = dialogue.play(start, answer("GO North."))
    assert turn.action == "go north" and turn.legal
    assert turn.observation == start.observation
    assert after.observation.splitlines()[-1].startswith("Actions now: go south")
    text = TOKENIZER.decode(after.prompt_ids)
    assert text.count("Actions now: ") == 2


def test_a_text_outside_the_list_is_played_and_the_environment_judges_it():
    dialogue = dialogue_of(ADVENTURE)
    start = dialogue.start(Task(ADVENTURE, 0))
    turn, after = dialogue.play(start, answer("dance"))
    assert (turn.action, turn.legal, turn.num_env_steps) == ("dance", False, 1)
    assert after.observation == "Nothing happens.\nActions now: go north; go down"
    turn, after = dialogue.play(start, answer(""))
    assert (turn.action, turn.num_env_steps) == (None, 0)
    assert after.observation == start.observation and after.available == start.available


def test_later_actions_of_a_turn_are_read_where_they_are_played():
    dialogue = dialogue_of(ADVENTURE, actions_per_turn=3)
    start = dialogue.start(Task(ADVENTURE, 0))
    turn, after = dialogue.play(start, answer("Go north || GO South || jump"))
    assert turn.action == "go north || GO South || jump" and not turn.legal
    assert after.observation == "Nothing happens.\nActions now: go north; go down"


def test_spellings_of_one_command_are_one_proposal():
    dialogue = dialogue_of(ADVENTURE, max_turns=1)
    replies = [f"<answer>{text}</answer>" for text in ("go north", "Go North!", "GO DOWN")]
    engine = RecordingEngine(in_order(*replies))
    cfg = SamplingConfig(num_proposals=2, max_trajectories=2)
    player = Player(engine, dialogue, SamplingParams(), generator())
    [tree] = player.run(grow_trees, [Task(ADVENTURE, 0)], cfg)
    assert [turn.action for turn in tree.turns] == ["go north", "go down"]
    assert tree.num_duplicates == 1
    assert "Already proposed: go north. Propose a different" in engine.calls[-1].texts[0]
    assert TrajectoryTree.from_json(tree.to_json()) == tree


def test_the_last_observation_of_a_won_game_lists_nothing():
    dialogue = dialogue_of(ADVENTURE)
    position = dialogue.start(Task(ADVENTURE, 0))
    way = "north" if position.env.unwrapped.env.unwrapped.lamp == "attic" else "down"  # pyright: ignore
    back = {"north": "south", "down": "up"}[way]
    for text in (f"go {way}", "Take Lamp", f"go {back}"):
        turn, position = dialogue.play(position, answer(text))
    assert turn.success and turn.terminated
    assert position.observation == "You are in the hall."


def test_a_mask_is_shown_as_the_names_of_what_it_allows():
    dialogue = dialogue_of(TAXI)
    start = dialogue.start(Task(TAXI, 0))
    assert f"\nActions now: {'; '.join(start.available)}\n" in TOKENIZER.decode(start.prompt_ids)
    masked = ({"South", "North", "East", "West"} - set(start.available)).pop()
    turn, _ = dialogue.play(start, answer(masked.lower()))
    assert (turn.action, turn.legal) == (masked, False)


def test_a_game_without_lists_shows_no_line():
    dialogue = dialogue_of(DIALOGUE_GAME, window=3)
    start = dialogue.start(Task(DIALOGUE_GAME, 0))
    _, after = dialogue.play(start, answer("Can it fly?"))
    assert "Actions now" not in TOKENIZER.decode(after.prompt_ids)
    assert "Ask me." in TOKENIZER.decode(after.prompt_ids) and after.turn == 2
