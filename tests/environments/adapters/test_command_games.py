"""TextWorld, TextWorldExpress, ScienceWorld, ALFWorld and BabyAI are played by commands."""

import copy
import os
import pickle
import shutil
import subprocess
import sys

import gymnasium
import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import fork, fork_kind, make_env
from sesa_agent.environments.adapters import jvm
from tests.helpers.collections import JAVA, ids, need
from tests.helpers.tiny_alfworld import write_game

OUTSIDE = ids("textworld", "textworld_express", "scienceworld")
WAYS = {
    "textworld/treasure_hunter": ["look", "go south", "inventory"],
    "textworld_express/coin": ["look around", "move north", "inventory"],
    "scienceworld/boil": ["open door to hallway", "go to hallway", "wait1"],
}


@pytest.fixture
def opened():
    """Makes environments and closes them at the end."""
    made = []

    def make(env_id, seed=1, **options):
        need(env_id.partition("/")[0])
        env = make_env(env_id, step_timeout=0, **options)
        made.append(env)
        env.reset(seed=seed)
        return env

    yield make
    for env in made:
        env.close()


@pytest.mark.parametrize("env_id", OUTSIDE)
def test_a_fork_replays_and_has_the_original_future(env_id, opened):
    env, way = opened(env_id), WAYS[env_id]
    env.step(way[0])
    twin = fork(env)
    assert fork_kind(env) == "replay"
    assert [twin.step(text)[:4] for text in way] == [env.step(text)[:4] for text in way]
    twin.close()


@pytest.mark.parametrize("env_id", OUTSIDE)
def test_they_refuse_to_be_copied_and_say_so(env_id, opened):
    game = opened(env_id).unwrapped
    for make_copy in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied: its state is not in Python"):
            make_copy(game)
    assert game.is_reusable and game.max_instances == 0


@pytest.mark.parametrize("env_id", OUTSIDE)
def test_a_seed_gives_the_same_puzzle_on_a_used_instance(env_id, opened):
    env = opened(env_id, seed=3)
    first = env.reset(seed=3)[0]
    env.step(WAYS[env_id][1])
    other = env.reset(seed=4)[0]
    assert env.reset(seed=3)[0] == first != other


@pytest.mark.parametrize("env_id", JAVA)
def test_games_share_one_java_process_and_the_last_one_ends_it(env_id, opened):
    name = f"{env_id}/{'coin' if 'express' in env_id else 'boil'}"
    one, other = opened(name), opened(name, seed=2)
    process = jvm._running[env_id].gateway.java_process
    text = one.step("inventory")[0]
    other.step(WAYS[name][1])
    assert one.step("inventory")[0] == text
    one.close()
    assert process.poll() is None
    other.step("inventory")
    other.close()
    other.close()
    assert process.poll() is not None and env_id not in jvm._running


@pytest.mark.parametrize("env_id", ["scienceworld/boil", "textworld_express/coin"])
def test_missing_java_is_one_line_with_what_to_install(env_id, monkeypatch):
    need(env_id.partition("/")[0])
    monkeypatch.setattr(jvm, "_running", {})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingError, match=rf"env.id {env_id} needs Java, .* default-jre-headless"):
        make_env(env_id)


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("scienceworld/boil", {"split": "exam"}, "split must be one of train, dev, test, got"),
        ("scienceworld/boil", {"simplifications": "none"}, "simplifications must be some of"),
        ("textworld_express/coin", {"params": "numRooms=3"}, "params: "),
    ],
)
def test_options_out_of_range_are_refused(env_id, options, message):
    need(env_id.partition("/")[0])
    with pytest.raises(ValueError, match=message):
        make_env(env_id, step_timeout=0, **options)
    assert jvm._running == {}


def test_the_commands_of_textworld_lead_to_the_treasure(opened):
    """A search over the listed commands finds the goal, and only its last step is rewarded."""
    env = opened("textworld/coin_collector", level=1)
    assert env.reset(seed=1)[1]["available_actions"].count("take coin") == 1
    text, reward, terminated, _, info = env.step("Take  coin")
    assert (reward, terminated, info["success"], info["legal"]) == (1.0, True, True, True)
    assert "-= " not in text.splitlines()[-1]


def test_a_text_that_is_no_command_is_answered_and_not_legal(opened):
    env = opened("textworld/coin_collector", level=1)
    text, reward, terminated, _, info = env.step("xyzzy")
    assert "not a verb I recognise" in text
    assert (reward, terminated, info["legal"], info["success"]) == (0.0, False, False, False)


def test_game_files_of_somebody_else_are_played(tmp_path, opened):
    need("textworld")
    import textworld  # pyright: ignore[reportMissingImports]

    options = textworld.GameOptions()
    options.seeds, options.path = 3, str(tmp_path / "mine.z8")
    textworld.make(options)
    env = opened("textworld/files", pattern=str(tmp_path / "*.z8"))
    assert "look" in env.reset(seed=7)[1]["available_actions"]


def test_files_of_textworld_are_removed_with_their_game():
    need("textworld")
    from sesa_agent.environments.adapters.textworld_env import GameFile

    folder = "gone-with-the-game"
    os.mkdir(folder)
    try:
        game = GameFile(folder, f"{folder}/game.z8")
        del game
        assert not os.path.exists(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("textworld/files", {}, "needs env.options.pattern, such as"),
        ("textworld/files", {"pattern": "nowhere/*.z8"}, "'nowhere/.*' names none"),
        ("textworld/cooking", {"pattern": "a.z8"}, "pattern goes with --env textworld/files"),
        ("textworld/cooking", {"take": "two"}, "env.options.take must be"),
    ],
)
def test_wrong_options_of_textworld_are_one_line(env_id, options, message):
    need("textworld")
    with pytest.raises(SettingError, match=message):
        make_env(env_id, **options)


def test_an_unknown_option_of_textworld_names_the_known_ones():
    need("textworld")
    with pytest.raises(
        TypeError, match="textworld/treasure_hunter has no option 'room', only level"
    ):
        make_env("textworld/treasure_hunter", room=3)


def test_a_household_task_of_alfworld_is_solved(tmp_path, opened):
    need("alfworld")
    need("fast_downward")
    write_game(tmp_path)
    env = opened("alfworld/train", data=str(tmp_path))
    text, info = env.reset(seed=0)
    assert "you see a desk 1, and a shelf 1." in text and "put a mug on the shelf" in text
    assert "go to desk 1" in info["available_actions"]
    way = ["go to desk 1", "take mug 1 from desk 1", "go to shelf 1"]
    assert [env.step(text)[1:3] for text in way] == [(0.0, False)] * 3
    twin = fork(env)
    for game in (twin, env):
        _, reward, terminated, _, info = game.step("move mug 1 to shelf 1")
        assert (reward, terminated, info["success"]) == (1.0, True, True)
    twin.close()


def test_alfworld_without_its_games_says_where_they_come_from(tmp_path, monkeypatch):
    need("alfworld")
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    with pytest.raises(SettingError, match=r"no folder is given.*alfworld-download.*ALFWORLD_DATA"):
        make_env("alfworld/train")
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with pytest.raises(SettingError, match=r"has none\)\. Download them with alfworld-download"):
        make_env("alfworld/valid_seen")
    with pytest.raises(SettingError, match="task_types must be some of pick_and_place_simple"):
        make_env("alfworld/train", task_types="cook")


def test_the_view_of_babyai_is_told_in_sentences(opened):
    """Level GoToObj of seed 1, beside its picture: the sentences follow from the grid."""
    env = opened("babyai/GoToObj-v0")
    text, _ = env.reset(seed=1)
    lines = text.splitlines()
    assert lines[0].startswith("Mission: go to") and lines[-1] == "You carry nothing."
    assert all(line.startswith("You see a ") for line in lines[1:-1])
    turned = env.step("Turn left")
    assert turned[4]["legal"] and turned[0] != text
    for _ in range(3):
        turned = env.step("turn left")
    assert turned[0] == text


def test_levels_that_were_taken_out_of_the_registry_are_found_again(opened):
    """Tests of the documentation clean the registry, and an import registers only once."""
    opened("babyai/GoToObj-v0")
    for name in [name for name in gymnasium.registry if name.lower().startswith("babyai")]:
        del gymnasium.registry[name]
    assert opened("babyai/GoToObj-v0").reset(seed=0)[0].startswith("Mission: go to")


def test_a_thing_of_babyai_is_where_the_sentence_says():
    need("babyai")
    from minigrid.core.grid import Grid  # pyright: ignore[reportMissingImports]
    from minigrid.core.world_object import Ball, Door, Wall  # pyright: ignore[reportMissingImports]

    from sesa_agent.environments.adapters.babyai_env import describe_view

    view = Grid(5, 5)  # the agent stands at (2, 4) and looks up
    view.set(2, 2, Ball("red"))
    view.set(0, 4, Wall())
    view.set(3, 3, Door("blue", is_locked=True))
    view.set(1, 1, Ball("green"))
    is_visible = [[True] * 5 for _ in range(5)]
    is_visible[1][1] = False

    class Mask:
        def __getitem__(self, place):
            return is_visible[place[0]][place[1]]

    assert describe_view(view, Mask()) == [
        "You see a wall 2 steps to the left.",
        "You see a locked blue door 1 step ahead and 1 to the right.",
        "You see a red ball 2 steps ahead.",
    ]


def test_a_run_ends_its_java_process_without_a_word():
    """An environment that nobody closes must not keep the process or print at the end."""
    need("textworld_express")
    code = (
        "from sesa_agent.environments import make_env\n"
        "env = make_env('textworld_express/coin', step_timeout=0)\n"
        "env.reset(seed=0)\n"
        "from sesa_agent.environments.adapters import jvm\n"
        "print(jvm._running['textworld_express'].gateway.java_process.pid)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    process = int(answer.stdout)
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(process, 0)
            subprocess.run(["sleep", "0.1"], check=True)
