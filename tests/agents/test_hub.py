"""A model's name is answered in seconds, with or without a network."""

import socket
import time
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from sesa_agent.agents.hub import ask_hub, find_on_hub
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError

from ..helpers.tiny_models import save_llama

NAME, COMMIT = "nobody/nothing", "a" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of models."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def cached(cache):
    """The folder of `NAME` in the cache."""
    repository = cache / "models--nobody--nothing"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return save_llama(repository / "snapshots" / COMMIT)


def hub_with(*files):
    return lambda name: SimpleNamespace(siblings=[SimpleNamespace(rfilename=f) for f in files])


def broken(name):
    return ConnectionError("[Errno -2] Name or service not known\nmore")


def refusing(kind):
    error = kind.__new__(kind)  # its constructor wants the response of one HTTP client or another
    Exception.__init__(error, "401 Client Error")
    return lambda name: error


def test_a_model_on_the_hub_is_left_to_transformers():
    assert find_on_hub(NAME, hub_with("config.json")) == NAME


def test_a_busy_hub_is_left_to_transformers_which_tries_again():
    assert find_on_hub(NAME, refusing(HfHubHTTPError)) == NAME


@pytest.mark.parametrize(
    "ask, reason",
    [
        (broken, r"is not in the cache .*Name or service not known\."),
        (refusing(RepositoryNotFoundError), "is not on the hub, or not for you to see"),
    ],
)
def test_a_missing_model_is_one_line_with_the_next_thing_to_do(ask, reason):
    with pytest.raises(SettingError, match=reason) as error:
        find_on_hub(NAME, ask)
    assert "Check the name; a folder is given as ./path." in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a b/c", "-a/b", "a/b--c", "ä/b", "a/" + 200 * "b"])
def test_a_name_that_the_hub_cannot_have_is_one_line(name):
    with pytest.raises(SettingError, match="cannot be a model's name"):
        find_on_hub(name, broken)


def test_without_a_network_a_cached_model_is_loaded_from_its_folder(cached):
    """transformers asked the unreachable hub for every file: it took three minutes."""
    place = find_on_hub(NAME, broken)
    assert place == str(cached)
    start = time.monotonic()
    Policy.load(place, device="cpu")
    assert time.monotonic() - start < 10
    assert find_on_hub(NAME, hub_with()) == NAME  # else it never gets newer


def test_offline_mode_asks_nobody_and_is_named(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SettingError, match="HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"):
        find_on_hub(NAME, lambda name: pytest.fail("asked"))
    with pytest.raises(SettingError, match="model.path 'nobody/nothing' .*HF_HUB_OFFLINE"):
        Policy.load(NAME)


def test_an_adapter_on_the_hub_is_refused(cached):
    """transformers would freeze its base model, so nothing could be trained."""
    with pytest.raises(SettingError, match="holds a LoRA adapter. Download it"):
        find_on_hub(NAME, hub_with("adapter_config.json", "config.json"))
    (cached / "adapter_config.json").write_text("{}")
    with pytest.raises(SettingError, match="holds a LoRA adapter. Download it"):
        find_on_hub(NAME, broken)


def test_a_hub_that_does_not_answer_is_given_up():
    """The client's own time limit is one for each address, and leaves out looking it up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer = ask_hub(NAME, endpoint, wait_s=0.3)
    assert str(answer) == "no answer within 0.3 s (HF_HUB_ETAG_TIMEOUT=60 waits longer)"
    assert time.monotonic() - start < 5


def test_a_cache_that_cannot_be_read_is_no_crash(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(SettingError, match="is not in the cache"):
        find_on_hub(NAME, broken)
