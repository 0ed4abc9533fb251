"""Actions that an environment allows now: from `info`, through adapter and guard, to a line."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete, Text
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import EnvError, GuardedEnv, TextAdapter, TextSpec, make_env
from sesa_agent.environments.available import (
    AVAILABLE,
    MAX_LETTERS,
    MAX_SHOWN,
    find_available,
    show_available,
    spell,
    with_available,
)
from sesa_agent.environments.text_env import fork, is_fully_observed

from ..helpers.plugins import ADVENTURE, FOLDER
from ..helpers.toy_game import TAXI

NAMES = ("Up", "Down", "Wait")


class Told(gymnasium.Env):
    """Returns the infos it is given, one after another; remembers what it is asked to play."""

    observation_space = Discrete(9)

    def __init__(self, *infos, action_space=None):
        self.infos, self.played = infos, []
        self.action_space = action_space or Discrete(3)
        self.action_names = NAMES

    def reset(self, *, seed=None, options=None):
        self.played = []
        return 0, dict(self.infos[0])

    def step(self, action):
        self.played.append(action)
        info = self.infos[min(len(self.played), len(self.infos) - 1)]
        return len(self.played), 0.0, False, False, dict(info)


# ---- reading ----


@pytest.mark.parametrize(
    ("info", "available"),
    [
        ({}, []),
        ({"admissible_commands": ["look", "go east"]}, ["look", "go east"]),
        ({"admissible_actions": ("look",)}, ["look"]),
        ({"valid_actions": np.array(["a", "b"])}, ["a", "b"]),
        ({"validActions": ["a", "a", " ", "b"]}, ["a", "b"]),
        ({"available_actions": ["x"], "admissible_commands": ["y"]}, ["x"]),
        ({"available_actions": [0, 1]}, []),
        ({"available_actions": "look"}, []),
        ({"valid_actions": {"a": 1}}, []),
        ({"action_mask": [1, 0, 1]}, ["Up", "Wait"]),
        ({"action_mask": np.array([False, True, False])}, ["Down"]),
        ({"action_mask": np.zeros(3, dtype=np.int8)}, []),
        ({"action_mask": np.ones((3, 3))}, []),
        ({"action_mask": [1, 0]}, []),
        ({"action_mask": [[1], [0, 1]]}, []),
        ({"action_mask": None}, []),
        ({"action_mask": "101"}, []),
    ],
)
def test_each_entry_of_info_is_read_and_other_kinds_are_ignored(info, available):
    assert find_available(info, NAMES) == available


@pytest.mark.parametrize("text", ["go east", " Go  EAST. ", "GO\nEAST!", "go east;"])
def test_case_white_space_and_punctuation_at_the_end_do_not_matter(text):
    assert spell(text, ["look", "go east"]) == "go east"


def test_an_exact_spelling_comes_first_and_other_texts_name_nothing():
    assert spell("a", ["A", "a"]) == "a" and spell("a.", ["A", "a"]) == "A"
    assert spell("go", ["go east"]) is None and spell("", ["?"]) is None
    assert spell("?", [".", "?"]) == "?"


@given(st.lists(st.text(max_size=12), max_size=8), st.text(max_size=12))
def test_an_action_names_itself_and_what_is_read_is_listed(available, text):
    assert all(spell(action, available) == action for action in available)
    assert spell(text, available) in (*available, None)


# ---- showing ----


def test_a_long_list_is_cut_and_counted():
    names = [f"go {number}" for number in range(MAX_SHOWN + 31)]
    line = show_available(names)
    assert line.startswith("Actions now: go 0; go 1; ") and line.endswith("go 49; and 31 more")
    long = show_available(["x" * 900] * 40)
    assert long.endswith("; and 37 more") and len(long) < 2 * MAX_LETTERS
    assert "\n" not in show_available(["go\neast"])


def test_without_a_list_an_observation_stays_as_it_is():
    assert with_available("You are here.", ()) == "You are here."
    assert with_available("Here.", ["look"]) == "Here.\nActions now: look"


# ---- the adapter ----


def adapted(*infos, **options) -> TextAdapter:
    env = TextAdapter(Told(*infos, **options))
    env.reset(seed=0)
    return env


def test_a_mask_names_what_is_allowed_and_the_rest_is_not_legal():
    env = adapted({"action_mask": [1, 0, 1]}, {"action_mask": [0, 1, 0]}, {})
    assert env.reset()[1][AVAILABLE] == ["Up", "Wait"]
    info = env.step("down")[4]
    assert (info["legal"], info[AVAILABLE]) == (False, ["Down"])
    info = env.step("down")[4]
    assert info["legal"] and AVAILABLE not in info


def test_a_text_that_is_no_action_leaves_the_list_as_it_is():
    env = adapted({"action_mask": [1, 0, 1]})
    assert env.step("fly")[4] == {"legal": False, AVAILABLE: ["Up", "Wait"]}


def test_a_list_of_a_discrete_game_holds_what_can_be_read():
    env = adapted({"valid_actions": ["up", "2", "fly"]})
    assert env.available == ["Up", "Wait"]


def test_other_things_of_that_name_are_left_out():
    assert AVAILABLE not in adapted({AVAILABLE: np.array([0, 2])}).reset()[1]


def test_a_listed_text_is_played_as_listed_even_if_the_space_lacks_its_characters():
    space = Text(20)
    assert "go east" not in space
    commands = {"admissible_commands": ["go east"]}
    env = adapted(commands, {"admissible_commands": ["take key"]}, action_space=space)
    outcomes = [env.step(text) for text in ("Go East.", "Take  KEY", "shout", "not here")]
    played = ["go east", "take key", "shout", "not here"]  # its space says nothing
    assert env.env.unwrapped.played == played  # pyright: ignore
    assert all(outcome[4]["legal"] for outcome in outcomes)
    env = adapted({"admissible_commands": ["east"]}, action_space=space)
    assert env.read_action("EAST") == ("east", "east") and env.read_action("not here") is None


def test_the_text_of_an_observation_may_use_info():
    class WithInventory(TextAdapter):
        def observation_text(self, observation, info):
            return f"room {observation}, you carry {info['inventory']}"

    env = WithInventory(Told({"inventory": "a key"}, {"inventory": "nothing"}))
    assert env.reset()[0] == "room 0, you carry a key"
    assert env.step("Up")[0] == "room 1, you carry nothing"


def test_an_adapter_that_takes_the_observation_alone_is_told_how_to_take_info():
    class Old(TextAdapter):
        def observation_text(self, observation):  # pyright: ignore
            return "text"

    with pytest.raises(SettingError, match=r"Old.observation_text.*\(self, observation, info\)"):
        Old(Told({}))


def test_the_taxi_says_where_it_can_go():
    env = make_env(TAXI)
    names = env.reset(seed=0)[1][AVAILABLE]
    assert set(names) < {"South", "North", "East", "West", "Pickup", "Dropoff"}


# ---- the guard ----


class Own(gymnasium.Env):
    """Has a text_spec, so no adapter stands between."""

    text_spec = TextSpec("Play.", "", "a command")
    observation_space = action_space = Text(99)

    def __init__(self, value):
        self.value = value

    def reset(self, *, seed=None, options=None):
        return "go", {AVAILABLE: self.value}

    def step(self, action):
        return "on", 0.0, False, False, {AVAILABLE: self.value}


@pytest.mark.parametrize(
    "value", [["look", "wait"], ("look", "wait", "look"), np.array(["look", "wait"])]
)
def test_the_guard_passes_a_list_of_texts(value):
    env = GuardedEnv(lambda: Own(value), 0)
    assert env.reset(seed=0)[1] == {AVAILABLE: ["look", "wait"]}
    assert fork(env).step("look")[4] == {"success": False, AVAILABLE: ["look", "wait"]}


@pytest.mark.parametrize("value", ["look", [1, 2], ["\ud800"], None, {"look": 1}])
def test_the_guard_refuses_anything_else(value):
    with pytest.raises(EnvError, match="available_actions"):
        GuardedEnv(lambda: Own(value), 0).reset(seed=0)


# ---- what is fully observed ----


def test_numbers_tell_everything_and_words_do_not_unless_they_say_so(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    assert is_fully_observed(make_env("sesa/Sokoban-v0")) is True
    assert is_fully_observed(make_env(TAXI)) is True
    assert is_fully_observed(make_env(ADVENTURE)) is False
    assert is_fully_observed(Own([])) is None

    class Claims(TextAdapter):
        is_fully_observed = True

    assert is_fully_observed(Claims(Told({}, action_space=Text(9)))) is True
