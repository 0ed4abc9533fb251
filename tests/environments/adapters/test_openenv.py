"""OpenEnv servers are played by their address: a real server over loopback."""

import socket
import time

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import fork, fork_kind, make_env
from sesa_agent.environments.adapters.openenv_env import ActionForm
from tests.helpers.collections import need
from tests.helpers.openenv_server import openenv_server


@pytest.fixture(scope="module")
def server():
    need("openenv")
    with openenv_server() as (url, game):
        yield url, game


@pytest.fixture
def opened(server):
    """Makes environments of the server, and closes them at the end."""
    made = []

    def make(**options):
        env = make_env(f"openenv:{server[0]}", **options)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()


def secret(env):
    """The number that wins, found by halving in forks."""
    low, high = 1, 9
    while low < high:
        twin = fork(env)
        guess = (low + high) // 2
        text, _, terminated, _, _ = twin.step(str(guess))
        twin.close()
        if terminated:
            return guess
        low, high = (guess + 1, high) if "higher" in text else (low, guess - 1)
    return low


def test_a_server_is_played_by_its_address(opened):
    env = opened()
    text, info = env.reset(seed=3)
    assert text == "Guess a number from 1 to 9."
    assert info == {
        "success": False,
        "legal": True,
        "available_actions": list("123456789"),
    }
    number = secret(env)
    text, reward, terminated, truncated, info = env.step(str(number))
    assert (text, reward, terminated, truncated) == ("Yes!", 1.0, True, False)
    assert info["success"] and info["legal"]


def test_a_fork_replays_the_episode_in_a_session_of_its_own(opened):
    env = opened()
    env.reset(seed=5)
    number = secret(env)
    other = 1 if number > 5 else 9
    first = env.step(str(other))
    twin = fork(env)
    assert fork_kind(env) == "replay"
    assert twin.step(str(number))[1] == 1.0
    assert env.step(str(other))[0] == first[0]
    twin.close()


def test_closing_ends_the_session_on_the_server(server, opened):
    before = server[1].num_open
    env = opened()
    assert server[1].num_open == before + 1
    env.close()
    for _ in range(200):
        if server[1].num_open == before:
            return
        time.sleep(0.05)
    raise AssertionError("the session is still open")


def test_episodes_reuse_the_session(server, opened):
    env = opened()
    before = server[1].num_open
    assert env.reset(seed=1)[0] == env.reset(seed=2)[0]
    assert server[1].num_open == before


def test_a_full_server_is_one_line_with_what_to_do():
    need("openenv")
    with openenv_server(sessions=1) as (url, _):
        env = make_env(f"openenv:{url}", sessions=1)
        assert getattr(env.unwrapped, "max_instances", None) == 1
        with pytest.raises(SettingError, match=r"is full: .*1/1.* env\.options\.sessions=N\.$"):
            make_env(f"openenv:{url}")
        env.close()


def test_no_server_is_one_line_that_names_the_address():
    need("openenv")
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        with pytest.raises(SettingError, match=rf"--env openenv:{url}: no OpenEnv server answers"):
            make_env(f"openenv:{url}")


@pytest.mark.parametrize("address", ["localhost:8000", "file:///etc/passwd", "http://"])
def test_what_is_no_address_is_refused(address):
    need("openenv")
    with pytest.raises(SettingError, match="must be a server's address"):
        make_env(f"openenv:{address}")


def test_fields_can_be_chosen(opened):
    env = opened(observation_fields="message,legal_actions")
    assert env.reset(seed=0)[0].startswith("message: Guess a number from 1 to 9.\nlegal_actions: [")
    with pytest.raises(SettingError, match="action_field must be one of number, got 'guess'"):
        opened(action_field="guess")


def form(properties, required=(), field=""):
    return ActionForm("URL", {"properties": properties, "required": list(required)}, field)


def test_one_required_field_takes_the_answer():
    text = form({"text": {"type": "string"}, "metadata": {}, "note": {"type": "string"}}, ["text"])
    assert text.read(" go ") == {"text": "go"} and text.described == "any text"
    number = form({"move": {"type": "integer"}}, ["move"])
    assert (number.read("3"), number.read("three")) == ({"move": 3}, None)
    choice = form({"way": {"enum": ["Left", "Right"]}}, ["way"])
    assert (choice.described, choice.read("left")) == ("Left, Right", {"way": "Left"})
    assert choice.read("up") is None


def test_several_fields_are_a_json_object():
    both = form({"row": {"type": "integer"}, "column": {"type": "integer"}}, ["row", "column"])
    assert both.described == "a JSON object with the fields row (integer), column (integer)"
    action = both.read('{"row": 1, "column": 2}')
    assert action == {"row": 1, "column": 2}
    assert both.spell({"row": 1, "column": 2}) == '{"column": 2, "row": 1}'
    for text in ("1 2", "[1, 2]", '{"row": 1}', '{"row": 1, "column": 2, "x": 3}', ""):
        assert both.read(text) is None


def test_tools_and_unknown_actions_are_refused_in_one_line():
    with pytest.raises(SettingError, match=r"offers tools \(MCP\) instead of actions in text"):
        form({"type": {}, "tool_name": {}, "arguments": {}})
    with pytest.raises(SettingError, match=r"Name the field .* env\.options\.action_field=NAME"):
        form({})
    assert form({}, field="text").read("a") == {"text": "a"}
